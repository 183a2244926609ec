"""The loss scale falls at each overflow and rises when there has been none for long."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from charnn.errors import CheckpointError
from charnn.training.scaling import GROW_AFTER, MOST_SKIPPED, LossScale, after


@given(st.lists(st.booleans(), max_size=40))
def test_the_scale_halves_with_each_overflow_and_counts_those_in_a_row(steps: list[bool]) -> None:
    numbers = LossScale().to_tensor()
    for overflow in steps:
        numbers = after(numbers, torch.tensor(overflow))
    scale = LossScale(numbers[0].item(), int(numbers[1]), int(numbers[2]))
    assert scale.scale == 2.0 ** (16 - sum(steps))
    in_a_row = 0
    for overflow in reversed(steps):
        if not overflow:
            break
        in_a_row += 1
    assert scale.skipped == in_a_row
    if not scale.lost:
        assert LossScale.from_tensor(scale.to_tensor()) == scale


def test_the_scale_doubles_after_many_updates_without_an_overflow() -> None:
    numbers = LossScale().to_tensor()
    for _ in range(GROW_AFTER):
        assert numbers[0] == 2.0**16
        numbers = after(numbers, torch.tensor(False))
    assert LossScale.from_tensor(numbers) == LossScale(2.0**17)


def test_a_scale_is_lost_below_one_or_after_many_overflows_in_a_row() -> None:
    assert LossScale(0.5).lost
    assert not LossScale(1.0).lost
    assert LossScale(2.0**16, 0, MOST_SKIPPED).lost
    assert not LossScale(2.0**16, 0, MOST_SKIPPED - 1).lost


@pytest.mark.parametrize("numbers", [[0, 0, 0], [-1, 0, 0], [1, -1, 0], [1, 1e9, 0], [1, 0, 99]])
def test_an_impossible_scale_in_a_checkpoint_is_refused(numbers: list[float]) -> None:
    with pytest.raises(CheckpointError, match="impossible loss scale"):
        LossScale.from_tensor(torch.tensor(numbers, dtype=torch.float32))
