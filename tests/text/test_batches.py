"""Windows read the right characters, for every size of text, batch and window."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from charnn.errors import TextError
from charnn.text.batches import Batches, Position, RecordBatches
from charnn.text.records import NO_TARGET, Records
from tests.conftest import words
from tests.text.conftest import TOKENIZER, records_of

quick = settings(deadline=None, max_examples=60)


def counting(length: int) -> np.ndarray[tuple[int], np.dtype[np.uint16]]:
    """Return a text in which every symbol is its own place."""
    return np.arange(length, dtype=np.uint16)


def epoch_of(batches: Batches, epoch: int) -> tuple[torch.Tensor, torch.Tensor, Position]:
    """Return inputs and targets [W, T, B] of all windows of an epoch, and the position after it."""
    position, inputs, targets = Position(epoch), [], []
    while position.epoch == epoch:
        x, y, position = batches.window_at(position)
        inputs.append(x)
        targets.append(y)
    return torch.stack(inputs), torch.stack(targets), position


@st.composite
def layouts(draw: st.DrawFn) -> tuple[int, Batches]:
    """Draw the length of a text, and batches of it."""
    length, lanes, seq_len = (
        draw(st.integers(2, 400)),
        draw(st.integers(1, 9)),
        draw(st.integers(1, 12)),
    )
    assume(length > seq_len)
    return length, Batches(counting(length), lanes, seq_len, seed=draw(st.integers(0, 5)))


@quick
@given(layouts(), st.integers(0, 3))
def test_each_target_follows_its_input_and_occurs_at_most_once_in_an_epoch(
    layout: tuple[int, Batches], epoch: int
) -> None:
    length, batches = layout
    inputs, targets, _ = epoch_of(batches, epoch)
    assert (targets == inputs + 1).all()  # so that no target wraps round to the beginning
    assert targets.max() < length
    assert len(targets.unique()) == targets.numel()


@quick
@given(layouts(), st.integers(0, 3))
def test_an_epoch_misses_few_characters(layout: tuple[int, Batches], epoch: int) -> None:
    length, batches = layout
    _, targets, _ = epoch_of(batches, epoch)
    missed = length - targets.numel()
    assert missed < batches.offset(epoch) + batches.batch_size * (batches.seq_len + 1)


@quick
@given(layouts(), st.integers(0, 3))
def test_each_lane_continues_from_window_to_window(layout: tuple[int, Batches], epoch: int) -> None:
    _, batches = layout
    inputs, _, after = epoch_of(batches, epoch)
    assert inputs.shape == (batches.num_windows(epoch), batches.seq_len, batches.batch_size)
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
    position = Position(epoch, batches.num_windows(epoch) - 1)
    first = batches.window_at(position)
    batches.window_at(Position(epoch + 1))
    again = batches.window_at(position)
    assert torch.equal(first[0], again[0])
    assert first[2] == again[2]


def test_window_borders_move_from_epoch_to_epoch() -> None:
    batches = Batches(counting(500), batch_size=3, seq_len=16, seed=4)
    offsets = [batches.offset(epoch) for epoch in range(200)]
    assert set(offsets) == set(range(16))


def test_another_seed_gives_other_offsets() -> None:
    offsets = [
        [Batches(counting(500), 3, 16, seed).offset(epoch) for epoch in range(9)] for seed in (1, 2)
    ]
    assert offsets[0] != offsets[1]


def test_a_short_text_gets_fewer_lanes_and_at_least_one_window() -> None:
    for length in range(6, 60):
        batches = Batches(counting(length), batch_size=7, seq_len=5, seed=1)
        assert batches.batch_size == min(7, (length - 1) // 5)
        assert all(batches.num_windows(epoch) >= 1 for epoch in range(20))


def test_a_text_that_is_shorter_than_a_window_is_rejected_with_both_lengths() -> None:
    with pytest.raises(TextError, match=r"has 1,024 characters.* 2,000 needs 2,001"):
        Batches(counting(1024), batch_size=3, seq_len=2000, seed=1)


def test_windows_are_time_by_lanes_and_long_integers() -> None:
    inputs, targets, _ = Batches(counting(100), batch_size=3, seq_len=4, seed=1).window_at(
        Position()
    )
    assert inputs.shape == targets.shape == (4, 3)
    assert inputs.dtype == targets.dtype == torch.int64


@quick
@given(layouts(), st.integers(0, 3), st.sampled_from([np.uint8, np.uint16, np.uint32]))
def test_a_copy_of_the_text_on_a_device_gives_the_same_windows(
    layout: tuple[int, Batches], epoch: int, kind: type[np.unsignedinteger[Any]]
) -> None:
    length, like = layout
    text = counting(length).astype(kind)
    batches = Batches(text, like.batch_size, like.seq_len, seed=1)
    moved = batches.to(torch.device("cpu"))
    (x, y, after), (inputs, targets, end) = epoch_of(batches, epoch), epoch_of(moved, epoch)
    assert torch.equal(inputs, x)
    assert torch.equal(targets, y)
    assert end == after


@given(
    st.lists(st.text("abc", min_size=1, max_size=9), min_size=1, max_size=30),
    st.integers(1, 5),
    st.integers(1, 6),
)
def test_an_epoch_reads_each_record_completely_and_once(
    lines: list[str], lanes: int, window: int
) -> None:
    batches = RecordBatches(records_of(lines), lanes, window, seed=1)
    for epoch in (0, 1):
        read, position = list[str](), Position(epoch)
        columns: list[list[int]] = []
        while position.epoch == epoch:
            if batches.starts_from_zero(position):
                read += [TOKENIZER.decode(column) for column in columns]
                columns = [[] for _ in range(batches.batch_size)]
            inputs, targets, after = batches.window_at(position)
            assert inputs.shape == targets.shape
            assert len(inputs) <= window
            for column, ins, outs in zip(columns, inputs.T, targets.T, strict=True):
                wanted = outs[outs != NO_TARGET].tolist()
                # each input is the target before it, and the first one is a line end
                before = [*(column[-1:] or [0]), *wanted[:-1]]
                assert ins[: len(wanted)].tolist() == before[: len(wanted)]
                column += wanted
            assert position.window < batches.num_windows(epoch)
            position = after
        read += [TOKENIZER.decode(column) for column in columns]
        count = Counter(read)
        assert count <= Counter(line + "\n" for line in lines)
        assert count.total() == len(lines) // batches.batch_size * batches.batch_size


def test_epochs_and_seeds_have_their_own_order_and_a_window_depends_on_its_position_only() -> None:
    records = records_of(words(3000).split())
    first = [
        RecordBatches(records, 4, 8, seed).window_at(Position(epoch))[1]
        for seed in (1, 2)
        for epoch in (0, 1)
    ]
    assert len({str(targets.tolist()) for targets in first}) == 4
    batches = RecordBatches(records, 4, 8, 1)
    later = batches.window_at(Position(3, 5))[1]
    batches.window_at(Position(1, 2))
    assert torch.equal(batches.window_at(Position(3, 5))[1], later)


def test_less_than_a_tenth_of_the_targets_is_padding() -> None:
    records = records_of(words(20_000).split())
    batches = RecordBatches(records, 16, 64, 1)
    position, places = Position(), 0
    while position.epoch == 0:
        _, targets, position = batches.window_at(position)
        places += targets.numel()
    assert places < 1.1 * len(records.indices)
    assert batches.symbols_per_window == pytest.approx(
        len(records.indices) / batches.num_windows(0), rel=0.02
    )


def test_a_text_without_records_is_rejected() -> None:
    with pytest.raises(TextError, match="no record"):
        RecordBatches(Records(np.zeros(0, np.uint8), 0), 2, 8, 1)
