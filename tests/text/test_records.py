"""Every record is read once an epoch, whole, from the same beginning; duplicates stay together."""

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from charnn.config import ModelConfig
from charnn.errors import TextError
from charnn.model.evaluate import evaluate
from charnn.model.network import CharNetwork
from charnn.text.batches import Position, RecordBatches
from charnn.text.bloom import BloomFilter
from charnn.text.records import NO_TARGET, Records, split_records
from charnn.text.tokenizer import CharTokenizer
from tests.conftest import words

TOKENIZER = CharTokenizer("\nabcdefghijklmnopqrstuvwxyz")
LINES = st.lists(st.text("abc", max_size=6), min_size=1, max_size=40)


def encoded(lines: list[str]) -> np.ndarray:
    return TOKENIZER.encode("\n".join(lines)).astype(np.uint8)


def records_of(lines: list[str]) -> Records:
    return Records(encoded([*lines, ""]), 0)


def texts(indices: np.ndarray) -> list[str]:
    return TOKENIZER.decode(indices).split("\n")[:-1]


def split(lines: list[str], share: float) -> tuple[list[str], list[str]]:
    indices, where = split_records([encoded(lines)], 0, TOKENIZER.codes(), share)
    return texts(indices[:where]), texts(indices[where:])


@given(LINES, st.sampled_from([0.0, 0.1, 0.5]))
def test_every_record_is_on_one_side_and_duplicates_on_the_same(
    lines: list[str], share: float
) -> None:
    train, judge = split(lines, share)
    assert Counter(train + judge) == Counter(line for line in lines if line)
    assert not set(train) & set(judge)
    assert judge == [] or share > 0


def test_about_the_share_that_is_asked_judges_and_a_record_stays_on_its_side() -> None:
    lines = [f"{a}{b}{c}" for a in "abcdefghij" for b in "abcdefghij" for c in "abcdefghij"]
    train, judge = split(lines, 0.2)
    assert 150 < len(judge) < 250
    fewer = split(lines[::3], 0.2)
    assert set(fewer[0]) <= set(train)
    assert set(fewer[1]) <= set(judge)


@given(
    st.lists(st.text("abc", min_size=1, max_size=9), min_size=1, max_size=30),
    st.integers(1, 5),
    st.integers(1, 6),
)
def test_an_epoch_reads_whole_records_once_each(lines: list[str], lanes: int, window: int) -> None:
    batches = RecordBatches(records_of(lines), lanes, window, seed=1)
    for epoch in (0, 1):
        read, position = list[str](), Position(epoch)
        columns: list[list[int]] = []
        while position.epoch == epoch:
            if batches.begins(position):
                read += [TOKENIZER.decode(column) for column in columns]
                columns = [[] for _ in range(batches.batch_size)]
            inputs, targets, after = batches.at(position)
            assert inputs.shape == targets.shape
            assert len(inputs) <= window
            for column, ins, outs in zip(columns, inputs.T, targets.T, strict=True):
                told = outs[outs != NO_TARGET].tolist()
                # what is read is what was to be predicted before, after a line end
                assert ins[: len(told)].tolist() == [*(column[-1:] or [0]), *told[:-1]][: len(told)]
                column += told
            assert position.window < batches.windows(epoch)
            position = after
        read += [TOKENIZER.decode(column) for column in columns]
        count = Counter(read)
        assert count <= Counter(line + "\n" for line in lines)
        assert count.total() == len(lines) // batches.batch_size * batches.batch_size


def test_epochs_and_seeds_have_orders_of_their_own_and_positions_are_all_there_is() -> None:
    records = records_of(words(3000).split())
    first = [
        RecordBatches(records, 4, 8, seed).at(Position(epoch))[1]
        for seed in (1, 2)
        for epoch in (0, 1)
    ]
    assert len({str(targets.tolist()) for targets in first}) == 4
    batches = RecordBatches(records, 4, 8, 1)
    later = batches.at(Position(3, 5))[1]
    batches.at(Position(1, 2))
    assert torch.equal(batches.at(Position(3, 5))[1], later)


def test_little_is_padded() -> None:
    records = records_of(words(20_000).split())
    batches = RecordBatches(records, 16, 64, 1)
    position, places = Position(), 0
    while position.epoch == 0:
        _, targets, position = batches.at(position)
        places += targets.numel()
    assert places < 1.1 * len(records.indices)
    assert batches.symbols == pytest.approx(len(records.indices) / batches.windows(0), rel=0.02)


def test_no_records_are_an_error() -> None:
    with pytest.raises(TextError, match="no record"):
        RecordBatches(Records(np.zeros(0, np.uint8), 0), 2, 8, 1)


def test_a_record_is_judged_from_zero_state_after_a_line_end() -> None:
    torch.manual_seed(1)
    network = CharNetwork(ModelConfig(27, hidden_size=5, num_layers=2, embedding_size=4)).double()
    lines = words(3000).split()
    score = evaluate(network, Records(encoded([*lines, ""]), 0), "stream")
    nats = 0.0
    for line in lines[:40]:
        both = torch.tensor(TOKENIZER.encode(f"\n{line}\n"))[:, None]
        logits, _ = network(both[:-1], network.zero_state(1))
        nats += float(-logits.detach().log_softmax(-1).gather(-1, both[1:, :, None]).sum())
    few = evaluate(network, Records(encoded([*lines[:40], "cut"]), 0), "lanes")
    assert few.nats == pytest.approx(nats)
    assert few.characters == sum(map(len, lines[:40])) + 40
    assert score.characters == sum(map(len, lines)) + len(lines)


def test_the_filter_knows_every_record_and_few_others() -> None:
    lines = [f"{a}{b}{c}" for a in "abcdefghijklm" for b in "abcdefghij" for c in "abcdefghij"]
    known = BloomFilter.of(records_of(lines), TOKENIZER.codes())
    again = BloomFilter(known.bits, known.count)
    assert all(again.has(TOKENIZER.codes_of(line)) for line in lines)
    others = [f"{a}{b}{c}z" for a in "nopqrstuvwxyz" for b in "abcdefghij" for c in "abcdefghij"]
    wrong = sum(known.has(TOKENIZER.codes_of(line)) for line in others)
    assert known.false_positives < 0.001
    assert wrong <= 8  # of 1,300, where 0.6 are expected
    assert len(known.bits) == 2 * len(lines)


def test_the_filter_has_a_largest_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("charnn.text.bloom.FILTER_AT_MOST", 800)
    known = BloomFilter.of(
        records_of([f"{a}{b}" for a in "abcdefghij" for b in "abcdefghij"]), TOKENIZER.codes()
    )
    assert len(known.bits) == 100
    assert known.has(TOKENIZER.codes_of("aj"))
    assert 0.01 < known.false_positives < 0.1
