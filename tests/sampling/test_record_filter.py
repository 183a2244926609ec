"""A record filter passes the wanted records and counts all that were generated."""

import re
import sys
from pathlib import Path

import pytest
import torch

from charnn.config import ModelConfig, SampleConfig
from charnn.errors import SettingError
from charnn.model.network import CharNetwork
from charnn.sampling.record_filter import RecordCounts, RecordFilter
from charnn.sampling.sample import Sample, sample_of
from charnn.sampling.sampler import Sampler
from charnn.text.tokenizer import CharTokenizer


def samples(*records: str | bytes) -> list[Sample]:
    """Samples of these records; one that ends in an ellipsis was cut off by its length."""
    encoded = [text.encode() if isinstance(text, str) else text for text in records]
    return [
        sample_of(
            data.removesuffix("…".encode()), 1.0, 1,
            "length" if data.endswith("…".encode()) else "stop", index=n, seed=n,
        )
        for n, data in enumerate(encoded)
    ]  # fmt: skip


def kept(wanted: RecordFilter, *records: str | bytes, prime: str = "") -> list[str]:
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


def test_records_of_bytes_are_the_same_only_if_their_bytes_are() -> None:
    records = (b"a\xe9", b"a\xe8", b"a\xe9", "a\ufffd".encode())
    unique = RecordFilter(9, unique=True)
    assert [s.data for s in unique.apply(samples(*records))] == [records[n] for n in (0, 1, 3)]
    known = RecordFilter(9, novel=True, is_known={"a\udce9"}.__contains__)
    assert [s.data for s in known.apply(samples(*records))] == [records[n] for n in (1, 3)]
    assert (known.counts.unique, known.counts.novel) == (3, 2)
    lengths = []
    for unit in ("char", "byte"):
        wanted = RecordFilter(9)
        list(wanted.apply(samples("aé", "é"), "ü", unit))
        lengths.append(wanted.counts.mean_length)
    assert lengths == [2.5, 4.5]


@pytest.mark.medium
def test_a_command_reads_the_bytes_of_records(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(
        "import sys\nfor line in sys.stdin.buffer: print(int(line == b'a\\xe9\\n'))\n"
    )
    wanted = RecordFilter(9, validator=f"{sys.executable} {tmp_path / 'script.py'}")
    assert [s.data for s in wanted.apply(samples(b"\xe9", b"\xe8"), "a")] == [b"\xe9"]


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
    sampler = Sampler(network.weights(), CharTokenizer("\nabc"), records=True)
    wanted = RecordFilter(20, unique=True, keep="^a.*c")
    found = [s.text for s in sampler.records(SampleConfig(seed=1, temperature=1), wanted, "a")]
    assert len(set(found)) == wanted.counts.kept == 20
    assert all("c" in text and "\n" not in text for text in found)
    assert wanted.counts.generated > 20
    few = RecordFilter(20, keep="^$", max_tries=30)
    assert not list(sampler.records(SampleConfig(seed=1), few, "a"))
    assert few.counts.generated == 30
