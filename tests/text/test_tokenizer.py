"""Encoding and decoding is an exact round trip, or an error that names the characters."""

import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from charnn.errors import CheckpointError, VocabularyError
from charnn.text.tokenizer import (
    CODE_POINTS,
    REPLACEMENT,
    ByteTokenizer,
    CharTokenizer,
    from_counts,
    from_json,
    utf8_decoder,
)

quick = settings(deadline=None, max_examples=50)
any_text = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)


def tokenizer_of(text: str, min_count: int = 1) -> CharTokenizer:
    codes = np.array([ord(c) for c in text])
    return from_counts(np.bincount(codes, minlength=CODE_POINTS), min_count)


@quick
@given(any_text)
def test_characters_survive_a_round_trip(text: str) -> None:
    tokenizer = tokenizer_of(text)
    indices = tokenizer.encode(text)
    assert len(indices) == len(text)
    assert tokenizer.decode(indices) == text


@quick
@given(st.binary())
def test_bytes_survive_a_round_trip(data: bytes) -> None:
    tokenizer = ByteTokenizer()
    assert tokenizer.encode(data).tobytes() == data


@quick
@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_bytes_of_any_text_decode_to_it(text: str) -> None:
    tokenizer = ByteTokenizer()
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.decode(iter(tokenizer.encode(text).astype(np.int64))) == text


@quick
@given(any_text)
def test_the_vocabulary_is_sorted_by_code_point_and_independent_of_order(text: str) -> None:
    characters = tokenizer_of(text).characters
    assert list(characters) == sorted(set(text), key=ord)
    assert tokenizer_of(text[::-1]).characters == characters


@quick
@given(any_text, st.booleans())
def test_the_table_agrees_with_encode(text: str, unknown: bool) -> None:
    tokenizer = CharTokenizer("".join(sorted(set(text))), unknown)
    table = tokenizer.table()
    assert [table[ord(c)] for c in text] == tokenizer.encode(text).tolist()
    others = np.delete(table, [ord(c) for c in set(text)])
    assert (others == (tokenizer.unknown_index if unknown else -1)).all()


@quick
@given(any_text, st.booleans())
def test_a_tokenizer_survives_a_round_trip_through_json(text: str, unknown: bool) -> None:
    tokenizer = CharTokenizer("".join(sorted(set(text))), unknown)
    again = from_json(tokenizer.to_json())
    assert isinstance(again, CharTokenizer)
    assert again.characters == tokenizer.characters
    assert again.unknown_index == tokenizer.unknown_index
    assert isinstance(from_json(ByteTokenizer().to_json()), ByteTokenizer)


@pytest.mark.parametrize(
    "value",
    [
        None,
        {},
        {"kind": "word"},
        {"kind": "char", "characters": "ab"},
        {"kind": "char", "characters": ["a", "b"], "unknown": False},
        {"kind": "char", "characters": "ba", "unknown": False},
        {"kind": "char", "characters": "aa", "unknown": False},
    ],
)
def test_json_that_is_not_a_vocabulary_is_rejected(value: object) -> None:
    with pytest.raises(CheckpointError, match="vocabulary"):
        from_json(value)


def test_rare_characters_become_one_unknown_symbol_at_the_end() -> None:
    tokenizer = tokenizer_of("aaabbbccd", min_count=3)
    assert tokenizer.characters == "ab"
    assert (tokenizer.unknown_index, tokenizer.vocabulary_size) == (2, 3)
    assert tokenizer.decode([0, 2, 1]) == f"a{REPLACEMENT}b"


def test_without_rare_characters_there_is_no_unknown_symbol() -> None:
    tokenizer = tokenizer_of("aabb", min_count=2)
    assert (tokenizer.unknown_index, tokenizer.vocabulary_size) == (None, 2)


def test_encode_rejects_characters_that_share_the_unknown_symbol() -> None:
    with pytest.raises(VocabularyError, match=r"'c' \(U\+0063\) at position 1"):
        tokenizer_of("aabbc", min_count=2).encode("bc")


def test_each_unknown_character_is_named_once_with_its_first_position() -> None:
    with pytest.raises(VocabularyError) as caught:
        CharTokenizer("abc").check("aZb😀ZZ")
    assert str(caught.value) == (
        "not in the model's vocabulary: 'Z' (U+005A) at position 1; '😀' (U+1F600) at position 3; "
        "leave them out"
    )


def test_of_many_unknown_characters_the_first_are_named_and_the_others_counted() -> None:
    text = "ab" + "".join(map(chr, range(0x4E00, 0x4E00 + 20_000)))
    with pytest.raises(VocabularyError, match=r"; and 19,992 others; leave them out$") as caught:
        CharTokenizer("ab").check(text)
    assert "U+4E07" in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("characters", "character", "nearest"),
    [
        ("abc", "B", "b"),
        ("ABC", "b", "B"),
        ("abcé", "e\u0301", "é"),
        ("e\u0301", "é", "e\u0301"),
        ("aef", "é", "e"),
        ("aef", "É", "e"),
        ("AEF", "é", "E"),
        ("fi", "\ufb01", "fi"),
        ("12", "\uff12", "2"),
        ("'", "\u2019", "'"),
        ("s", "ß", "ss"),
        ("S", "ß", "SS"),
        (" ", "\u00a0", " "),
        ("abc", "😀", ""),
    ],
)
def test_the_nearest_character_is_suggested(characters: str, character: str, nearest: str) -> None:
    vocabulary = "".join(sorted(characters))
    assert CharTokenizer(vocabulary).nearest(character) == nearest


def test_a_decomposed_accent_is_named_together_with_its_letter() -> None:
    decomposed = unicodedata.normalize("NFD", "née")
    with pytest.raises(VocabularyError) as caught:
        CharTokenizer("ené").check(decomposed)
    assert str(caught.value).endswith("(U+0301) at position 2 in 'e\u0301', try 'é'")


@quick
@given(any_text, st.text(max_size=5))
def test_suggested_characters_can_be_encoded(text: str, other: str) -> None:
    tokenizer = tokenizer_of(text)
    for character in other:
        tokenizer.check(tokenizer.nearest(character))


@quick
@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_a_byte_decoder_never_returns_half_a_character(text: str) -> None:
    decode = utf8_decoder()
    parts = [decode(bytes([byte])) for byte in text.encode()]
    assert "".join(parts) == text
    assert [part for part in parts if part] == list(text)


def test_a_byte_decoder_replaces_invalid_utf8() -> None:
    decode = utf8_decoder()
    assert "".join(decode(bytes([byte])) for byte in b"a\xffb") == f"a{REPLACEMENT}b"


def test_surrogates_of_invalid_utf8_become_the_bytes_again() -> None:
    assert ByteTokenizer().encode("a\udcffb").tobytes() == b"a\xffb"


@quick
@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=3), st.data())
def test_the_bytes_of_a_character_are_counted_wherever_a_text_is_split(
    text: str, data: st.DataObject
) -> None:
    encoded = text.encode()
    first, last = len(text[0].encode()), len(text[-1].encode())
    begin = data.draw(st.integers(0, first - 1))
    end = len(encoded) - data.draw(st.integers(0, last - 1))
    whole = text[begin > 0 : len(text) - (end < len(encoded))]
    found = ByteTokenizer().bytes_per_char(ByteTokenizer().encode(encoded[begin:end]))
    assert found == len(whole.encode()) / len(whole)


@pytest.mark.parametrize("data", [b"", b"a\xff", b"\x80\x80\x80\x80", bytes(range(256))])
def test_bytes_that_are_not_utf8_are_no_characters(data: bytes) -> None:
    tokenizer = ByteTokenizer()
    assert tokenizer.bytes_per_char(tokenizer.encode(data)) is None
    assert tokenizer_of("ab").bytes_per_char(tokenizer_of("ab").encode("ab")) is None
