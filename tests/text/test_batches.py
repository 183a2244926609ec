"""Which characters a window reads, for every size of text, lanes and window."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from charnn.errors import TextError
from charnn.text.batches import Batches, Position

quick = settings(deadline=None, max_examples=60)


def counting(length: int) -> np.ndarray[tuple[int], np.dtype[np.uint16]]:
    """A text in which every symbol is its own place."""
    return np.arange(length, dtype=np.uint16)


def epoch_of(batches: Batches, epoch: int) -> tuple[torch.Tensor, torch.Tensor, Position]:
    """Inputs and targets [W, T, B] of all windows of an epoch, and the position after it."""
    position, inputs, targets = Position(epoch), [], []
    while position.epoch == epoch:
        x, y, position = batches.at(position)
        inputs.append(x)
        targets.append(y)
    return torch.stack(inputs), torch.stack(targets), position


@st.composite
def layouts(draw: st.DrawFn) -> tuple[int, Batches]:
    """The length of a text, and batches of it."""
    length, lanes, seq_len = (
        draw(st.integers(2, 400)),
        draw(st.integers(1, 9)),
        draw(st.integers(1, 12)),
    )
    assume(length > seq_len)
    return length, Batches(counting(length), lanes, seq_len, seed=draw(st.integers(0, 5)))


@quick
@given(layouts(), st.integers(0, 3))
def test_each_target_is_its_inputs_successor_and_comes_at_most_once_an_epoch(
    layout: tuple[int, Batches], epoch: int
) -> None:
    length, batches = layout
    inputs, targets, _ = epoch_of(batches, epoch)
    assert (targets == inputs + 1).all()  # so no target wraps round to the beginning either
    assert targets.max() < length
    assert len(targets.unique()) == targets.numel()


@quick
@given(layouts(), st.integers(0, 3))
def test_few_characters_are_missed(layout: tuple[int, Batches], epoch: int) -> None:
    length, batches = layout
    _, targets, _ = epoch_of(batches, epoch)
    missed = length - targets.numel()
    assert missed < batches.offset(epoch) + batches.batch_size * (batches.seq_len + 1)


@quick
@given(layouts(), st.integers(0, 3))
def test_each_lane_reads_on_from_window_to_window(layout: tuple[int, Batches], epoch: int) -> None:
    _, batches = layout
    inputs, _, after = epoch_of(batches, epoch)
    assert inputs.shape == (batches.windows(epoch), batches.seq_len, batches.batch_size)
    lanes = inputs.flatten(0, 1)
    assert (lanes[1:] == lanes[:-1] + 1).all()
    assert lanes[0, 0] == batches.offset(epoch)
    assert after == Position(epoch + 1, 0)


@quick
@given(layouts(), st.integers(0, 3))
def test_equal_positions_give_equal_windows_in_any_order(
    layout: tuple[int, Batches], epoch: int
) -> None:
    _, batches = layout
    there = Position(epoch, batches.windows(epoch) - 1)
    first = batches.at(there)
    batches.at(Position(epoch + 1))
    again = batches.at(there)
    assert torch.equal(first[0], again[0])
    assert first[2] == again[2]


def test_window_borders_move_from_epoch_to_epoch() -> None:
    batches = Batches(counting(500), batch_size=3, seq_len=16, seed=4)
    offsets = [batches.offset(epoch) for epoch in range(200)]
    assert set(offsets) == set(range(16))


def test_another_seed_begins_elsewhere() -> None:
    offsets = [
        [Batches(counting(500), 3, 16, seed).offset(epoch) for epoch in range(9)] for seed in (1, 2)
    ]
    assert offsets[0] != offsets[1]


def test_a_short_text_gets_fewer_lanes_and_never_less_than_a_window() -> None:
    for length in range(6, 60):
        batches = Batches(counting(length), batch_size=7, seq_len=5, seed=1)
        assert batches.batch_size == min(7, (length - 1) // 5)
        assert all(batches.windows(epoch) >= 1 for epoch in range(20))


def test_a_text_too_short_for_one_window_is_refused_with_both_numbers() -> None:
    with pytest.raises(TextError, match=r"has 1,024 characters.* 2,000 needs 2,001"):
        Batches(counting(1024), batch_size=3, seq_len=2000, seed=1)


def test_windows_are_time_by_lanes_and_long_integers() -> None:
    inputs, targets, _ = Batches(counting(100), batch_size=3, seq_len=4, seed=1).at(Position())
    assert inputs.shape == targets.shape == (4, 3)
    assert inputs.dtype == targets.dtype == torch.int64


@quick
@given(layouts(), st.integers(0, 3), st.sampled_from([np.uint8, np.uint16, np.uint32]))
def test_a_device_that_holds_the_text_cuts_the_same_windows(
    layout: tuple[int, Batches], epoch: int, kind: type[np.unsignedinteger[Any]]
) -> None:
    length, like = layout
    text = counting(length).astype(kind)
    batches = Batches(text, like.batch_size, like.seq_len, seed=1)
    there = batches.on(torch.device("cpu"))
    (x, y, after), (inputs, targets, end) = epoch_of(batches, epoch), epoch_of(there, epoch)
    assert torch.equal(inputs, x)
    assert torch.equal(targets, y)
    assert end == after
