"""The schedule and the loss scale: pure functions of the step and of overflows."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from charnn.config import TrainConfig
from charnn.errors import CheckpointError
from charnn.training.optimizer import (
    GROWTH_INTERVAL,
    MAX_SKIPPED,
    LossScale,
    learning_rate,
    next_loss_scale,
)


@given(st.lists(st.booleans(), max_size=40))
def test_the_scale_halves_with_each_overflow_and_counts_those_in_a_row(steps: list[bool]) -> None:
    numbers = LossScale().to_tensor()
    for overflow in steps:
        numbers = next_loss_scale(numbers, torch.tensor(overflow))
    scale = LossScale(numbers[0].item(), int(numbers[1]), int(numbers[2]))
    assert scale.scale == 2.0 ** (16 - sum(steps))
    in_a_row = 0
    for overflow in reversed(steps):
        if not overflow:
            break
        in_a_row += 1
    assert scale.skipped == in_a_row
    if not scale.exhausted:
        assert LossScale.from_tensor(scale.to_tensor()) == scale


def test_the_scale_doubles_after_many_updates_without_an_overflow() -> None:
    numbers = LossScale().to_tensor()
    for _ in range(GROWTH_INTERVAL):
        assert numbers[0] == 2.0**16
        numbers = next_loss_scale(numbers, torch.tensor(False))
    assert LossScale.from_tensor(numbers) == LossScale(2.0**17)


def test_a_scale_is_lost_below_one_or_after_many_overflows_in_a_row() -> None:
    assert LossScale(0.5).exhausted
    assert not LossScale(1.0).exhausted
    assert LossScale(2.0**16, 0, MAX_SKIPPED).exhausted
    assert not LossScale(2.0**16, 0, MAX_SKIPPED - 1).exhausted


@pytest.mark.parametrize("numbers", [[0, 0, 0], [-1, 0, 0], [1, -1, 0], [1, 1e9, 0], [1, 0, 99]])
def test_an_impossible_scale_in_a_checkpoint_is_refused(numbers: list[float]) -> None:
    with pytest.raises(CheckpointError, match="impossible loss scale"):
        LossScale.from_tensor(torch.tensor(numbers, dtype=torch.float32))


def train_config(steps: int, warmup: float = 0.1) -> TrainConfig:
    return TrainConfig(
        steps=steps, batch_size=1, seq_len=1, learning_rate=0.5, seed=0, warmup=warmup
    )


@given(st.integers(5, 2000), st.floats(0, 0.5))
def test_it_rises_to_the_peak_and_never_rises_again(steps: int, warmup: float) -> None:
    rates = [learning_rate(step, train_config(steps, warmup)) for step in range(steps)]
    peak = rates.index(max(rates))
    assert max(rates) == pytest.approx(0.5)
    assert rates[: peak + 1] == sorted(rates[: peak + 1])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert rates[-1] == pytest.approx(0.01)
    assert min(rates) > 0


def test_a_single_step_has_a_rate() -> None:
    assert 0 < learning_rate(0, train_config(1)) <= 0.5
