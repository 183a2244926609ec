"""A record filter passes the wanted records and counts all that were generated."""

import re

import pytest
import torch

from charnn.config import ModelConfig, SampleConfig
from charnn.errors import SettingError
from charnn.model.network import CharNetwork
from charnn.sampling.record_filter import RecordCounts, RecordFilter
from charnn.sampling.sample import Sample
from charnn.sampling.sampler import Sampler
from charnn.text.tokenizer import CharTokenizer


def samples(*records: str) -> list[Sample]:
    """Samples of these records; one that ends in an ellipsis was cut off by its length."""
    return [
        Sample(n, n, text.removesuffix("…"), 1.0, 1, "length" if text.endswith("…") else "stop")
        for n, text in enumerate(records)
    ]


def kept(wanted: RecordFilter, *records: str, prime: str = "") -> list[str]:
    return [sample.text for sample in wanted.apply(samples(*records), prime)]


def test_each_condition_drops_what_does_not_meet_it() -> None:
    records = ("ab", "b", "ab", "a…", "ba")
    assert kept(RecordFilter(9), *records) == ["ab", "b", "ab", "ba"]
    assert kept(RecordFilter(9, unique=True), *records) == ["ab", "b", "ba"]
    assert kept(RecordFilter(9, keep="^a"), *records) == ["ab", "ab"]
    assert kept(RecordFilter(9, keep=re.compile("b$")), *records) == ["ab", "b", "ab"]
    known = RecordFilter(9, novel=True, is_known={"b"}.__contains__)
    assert kept(known, *records) == ["ab", "ab", "ba"]
    valid = RecordFilter(9, validator=lambda some: [len(record) == 1 for record in some])
    assert kept(valid, *records) == ["b"]
    assert kept(RecordFilter(2), *records) == ["ab", "b"]


def test_conditions_see_the_record_with_its_prime() -> None:
    wanted = RecordFilter(9, keep="^xa", novel=True, is_known={"xab"}.__contains__)
    assert kept(wanted, "ab", "a", "b", prime="x") == ["a"]


def test_all_generated_records_are_counted() -> None:
    wanted = RecordFilter(
        9, unique=True, is_known={"b"}.__contains__, validator=lambda some: ["a" in r for r in some]
    )
    kept(wanted, "ab", "b", "ab", "a…", "ba")
    assert wanted.counts == RecordCounts(
        requested=9, generated=5, kept=2, complete=4, valid=4, unique=4, novel=3, characters=8
    )
    assert wanted.counts.mean_length == 8 / 5
    assert RecordCounts(3).mean_length == 0


def test_novelty_needs_the_known_records() -> None:
    with pytest.raises(SettingError, match="`novel` needs `is_known`"):
        RecordFilter(1, novel=True)


def test_a_sampler_generates_until_enough_records_are_found() -> None:
    torch.manual_seed(2)
    network = CharNetwork(ModelConfig(4, hidden_size=6, num_layers=1, embedding_size=5))
    sampler = Sampler(network, CharTokenizer("\nabc"), records=True)
    wanted = RecordFilter(20, unique=True, keep="^a.*c")
    found = [s.text for s in sampler.records(SampleConfig(seed=1, temperature=1), wanted, "a")]
    assert len(set(found)) == wanted.counts.kept == 20
    assert all("c" in text and "\n" not in text for text in found)
    assert wanted.counts.generated > 20
    few = RecordFilter(20, keep="^$", max_tries=30)
    assert not list(sampler.records(SampleConfig(seed=1), few, "a"))
    assert few.counts.generated == 30
