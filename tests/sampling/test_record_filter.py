"""A record filter passes the wanted records and counts all that were generated."""

import re
import sys
from pathlib import Path

import pytest
import torch

from charnn.config import ModelConfig, SampleConfig
from charnn.errors import CharnnError, SettingError
from charnn.model.network import CharNetwork
from charnn.sampling import record_filter
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


def command(folder: Path, code: str) -> str:
    (folder / "script.py").write_text(code)
    return f"{sys.executable} {folder / 'script.py'}"


def test_a_command_validates_records_on_its_stdin(tmp_path: Path) -> None:
    even = "import sys\nfor line in sys.stdin: print(len(line.strip()) % 2 ^ 1)\n"
    wanted = RecordFilter(9, validator=command(tmp_path, even))
    assert kept(wanted, "ab", "b", "äbca", "aba") == ["ab", "äbca"]


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("raise SystemExit(4)", "failed with exit code 4: no message on stderr"),
        ("import sys; sys.exit('what is this?')", "failed with exit code 1: what is this"),
        ("print(1)", "printed 1 answer for 2 records; it must print 1 or 0 for each"),
        ("import time; time.sleep(9)", "took more than 0.5 s for 2 records"),
    ],
)
def test_a_command_that_fails_is_reported_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, message: str
) -> None:
    monkeypatch.setattr(record_filter, "VALIDATOR_SECONDS", 0.5)
    with pytest.raises(CharnnError, match=f"the `validator` '.*script.py' {re.escape(message)}"):
        kept(RecordFilter(9, validator=command(tmp_path, code)), "a", "b")


def test_a_validator_must_answer_for_each_record() -> None:
    with pytest.raises(CharnnError, match="gave 1 answer for 2 records"):
        kept(RecordFilter(9, validator=lambda _: [True]), "a", "b")
    with pytest.raises(CharnnError, match="'no such command' cannot be run"):
        kept(RecordFilter(9, validator="no such command"), "a")


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


@pytest.mark.parametrize("command", ["", "  "])
def test_an_empty_validator_is_refused(command: str) -> None:
    with pytest.raises(SettingError, match="validator"):
        RecordFilter(3, validator=command)
