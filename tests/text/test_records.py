"""Records are split by hash, so that duplicates stay together, and read from the zero state."""

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from charnn.config import ModelConfig
from charnn.model.evaluate import evaluate
from charnn.model.network import CharNetwork
from charnn.text.records import Records, split_records
from tests.conftest import words
from tests.text.conftest import TOKENIZER, encoded

LINES = st.lists(st.text("abc", max_size=6), min_size=1, max_size=40)


def texts(indices: np.ndarray) -> list[str]:
    return TOKENIZER.decode(indices).split("\n")[:-1]


def split(lines: list[str], share: float) -> tuple[list[str], list[str]]:
    indices, where = split_records([encoded(lines)], 0, TOKENIZER.codes(), share)
    return texts(indices[:where]), texts(indices[where:])


@given(LINES, st.sampled_from([0.0, 0.1, 0.5]))
def test_every_record_is_in_one_part_and_its_duplicates_in_the_same(
    lines: list[str], share: float
) -> None:
    train, validation = split(lines, share)
    assert Counter(train + validation) == Counter(line for line in lines if line)
    assert not set(train) & set(validation)
    assert validation == [] or share > 0


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
