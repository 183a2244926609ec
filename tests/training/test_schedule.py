"""The learning rate rises, then falls to its last share at the last step."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from charnn.config import TrainConfig
from charnn.training.schedule import learning_rate


def config(steps: int, warmup: float = 0.1) -> TrainConfig:
    return TrainConfig(
        steps=steps, batch_size=1, seq_len=1, learning_rate=0.5, seed=0, warmup=warmup
    )


@given(st.integers(5, 2000), st.floats(0, 0.5))
def test_it_rises_to_the_peak_and_never_rises_again(steps: int, warmup: float) -> None:
    rates = [learning_rate(step, config(steps, warmup)) for step in range(steps)]
    peak = rates.index(max(rates))
    assert max(rates) == pytest.approx(0.5)
    assert rates[: peak + 1] == sorted(rates[: peak + 1])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert rates[-1] == pytest.approx(0.01)
    assert min(rates) > 0


def test_a_single_step_has_a_rate() -> None:
    assert 0 < learning_rate(0, config(1)) <= 0.5
