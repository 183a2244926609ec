"""A Bloom filter has no false negatives and few false positives."""

import pytest

from charnn.text.bloom import BloomFilter
from tests.text.conftest import TOKENIZER, records_of


def test_a_filter_has_every_record_and_few_others() -> None:
    lines = [f"{a}{b}{c}" for a in "abcdefghijklm" for b in "abcdefghij" for c in "abcdefghij"]
    known = BloomFilter.from_records(records_of(lines), TOKENIZER.codes())
    again = BloomFilter(known.bits, known.count)
    assert all(again.has(TOKENIZER.codes_of(line)) for line in lines)
    others = [f"{a}{b}{c}z" for a in "nopqrstuvwxyz" for b in "abcdefghij" for c in "abcdefghij"]
    wrong = sum(known.has(TOKENIZER.codes_of(line)) for line in others)
    assert known.false_positive_rate < 0.001
    assert wrong <= 8  # of 1,300, where 0.6 are expected
    assert len(known.bits) == 2 * len(lines)


def test_a_filter_has_a_maximum_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("charnn.text.bloom.MAX_BITS", 800)
    known = BloomFilter.from_records(
        records_of([f"{a}{b}" for a in "abcdefghij" for b in "abcdefghij"]), TOKENIZER.codes()
    )
    assert len(known.bits) == 100
    assert known.has(TOKENIZER.codes_of("aj"))
    assert 0.01 < known.false_positive_rate < 0.1
