"""Records are split by hash, frequent ones by occurrence, and read from the zero state."""

from collections import Counter
from hashlib import blake2b

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from charnn.config import ModelConfig
from charnn.model.evaluate import evaluate
from charnn.model.network import CharNetwork
from charnn.text import records as records_module
from charnn.text.records import (
    Records,
    record_hashes,
    records_of,
    split_records,
    text_hashes,
)
from tests.conftest import words
from tests.text.conftest import TOKENIZER, encoded

LINES = st.lists(st.text("abc", max_size=6), min_size=1, max_size=40)


def texts(indices: np.ndarray) -> list[str]:
    return TOKENIZER.decode(indices).split("\n")[:-1]


def split(lines: list[str], share: float) -> tuple[list[str], list[str]]:
    made = split_records(records_of(encoded(lines), 0), TOKENIZER.codes(), share)
    indices, border = made.indices, made.train_symbols
    return texts(indices[:border]), texts(indices[border:])


def split_by_hash(lines: list[str], share: float) -> tuple[list[str], list[str]]:
    """The readable split of records none of which is frequent."""

    def place(line: str) -> int:
        digest = blake2b(line.encode("utf-32-le"), digest_size=16).digest()
        return int.from_bytes(digest[:8], "little")

    train = [line for line in lines if line and place(line) >= share * 2**64]
    return train, sorted((line for line in lines if line and line not in train), key=place)


@given(LINES, st.sampled_from([0.0, 0.1, 0.5]))
def test_every_record_is_in_one_part_and_its_duplicates_in_the_same(
    lines: list[str], share: float
) -> None:
    few = [line for n, line in enumerate(lines) if lines[:n].count(line) < 2]
    assert split(few, share) == split_by_hash(few, share)


@given(LINES, st.sampled_from([0.0, 0.1, 0.5]), st.integers(1, 40), st.integers(0, 2))
def test_of_a_frequent_record_each_part_has_its_share(
    lines: list[str], share: float, count: int, seed: int
) -> None:
    mixed = np.random.default_rng(seed).permutation(np.array([*lines, *["anna"] * count]))
    train, validation = split(mixed.tolist(), share)
    assert Counter(train + validation) == Counter(line for line in mixed.tolist() if line)
    numbers = Counter(mixed.tolist())
    for line in set(train) & set(validation):
        assert numbers[line] >= 3
        assert abs(validation.count(line) - share * numbers[line]) <= 1
    if count >= 10:
        assert abs(validation.count("anna") - share * count) <= 1


def test_the_rules_of_an_older_run_keep_all_duplicates_together() -> None:
    lines = ["anna"] * 30 + ["bert"] * 30 + ["cleo"] * 30 + ["dora"] * 30
    records = records_of(encoded(lines), 0)
    made = split_records(records, TOKENIZER.codes(), 0.5, by_occurrence=False)
    before = split_by_hash(lines, 0.5)
    assert (texts(made.indices[: made.train_symbols]), list(made.notes())) == (before[0], [])
    assert set(split(lines, 0.5)[0]) == set(split(lines, 0.5)[1]) == set(lines)


def test_a_note_says_which_records_are_in_both_parts() -> None:
    lines = ["anna"] * 30 + [f"{a}{b}" for a in "abcdefghij" for b in "abcdefghij"] * 2
    records = records_of(encoded(lines), 0)
    (note,) = split_records(records, TOKENIZER.codes(), 0.1).notes()
    assert note.startswith("30 lines hold records that occur 10 times or more")
    assert list(split_records(records, TOKENIZER.codes(), 0.0).notes()) == []


@given(st.text("ab\n", max_size=30), st.integers(1, 9))
def test_records_are_the_lines_of_a_text_that_are_not_empty(text: str, chunk: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(records_module, "CHUNK_SYMBOLS", chunk)
        records = records_of(TOKENIZER.encode(text).astype(np.uint8), 0)
        assert texts(records.indices) == [line for line in text.split("\n") if line]
        assert records.count == len(records.ends) == len(texts(records.indices))
        chunks = list(records.chunks())
        numbers = [n for rows, _ in chunks for n in range(rows.start, rows.stop)]
        assert numbers == list(range(records.count))
        hashes = [row for _, some in record_hashes(records, TOKENIZER.codes()) for row in some]
        alone = [text_hashes(TOKENIZER.codes_of(line))[0] for line in texts(records.indices)]
        assert np.array_equal(hashes, alone)


def test_the_validation_share_is_close_to_val_fraction_and_a_record_stays_in_its_part() -> None:
    lines = [f"{a}{b}{c}" for a in "abcdefghij" for b in "abcdefghij" for c in "abcdefghij"]
    train, validation = split(lines, 0.2)
    assert 150 < len(validation) < 250
    fewer = split(lines[::3], 0.2)
    assert set(fewer[0]) <= set(train)
    assert set(fewer[1]) <= set(validation)


def test_a_record_is_scored_from_the_zero_state_after_a_line_end() -> None:
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
