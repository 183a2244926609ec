"""A text of any kind becomes one stream of indices that decodes to the text."""

import gzip
import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from charnn.config import TextConfig
from charnn.errors import TextError, VocabularyError
from charnn.text import cache, sources
from charnn.text.cache import index_type
from charnn.text.corpus import open_corpus
from charnn.text.records import indices_of
from charnn.text.tokenizer import ByteTokenizer, CharTokenizer
from tests.text.conftest import Make, text_of

texts = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0\r\ufeff"), min_size=2
).filter(lambda text: len(set(text)) > 1)


@settings(deadline=None, max_examples=20)
@given(text=texts, cache_from=st.sampled_from([1, 1000]), chunk=st.integers(1, 9))
def test_the_indices_decode_to_the_text(text: str, cache_from: int, chunk: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources, "CHUNK_BYTES", chunk)
        patch.setattr(cache, "MIN_CACHED_SYMBOLS", cache_from)
        patch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
        corpus = open_corpus(["-"], TextConfig())
    assert text_of(corpus) == text
    assert corpus.indices.dtype == np.uint8
    assert (corpus.indices == corpus.tokenizer.encode(text)).all()


@pytest.mark.parametrize(
    ("characters", "expected"), [(256, np.uint8), (257, np.uint16), (65_537, np.uint32)]
)
@pytest.mark.parametrize("cache_from", [1, 1 << 25])
def test_an_index_is_as_narrow_as_the_vocabulary_allows(
    make: Make,
    monkeypatch: pytest.MonkeyPatch,
    characters: int,
    expected: type[np.unsignedinteger],
    cache_from: int,
) -> None:
    monkeypatch.setattr(cache, "MIN_CACHED_SYMBOLS", cache_from)
    text = "".join(map(chr, range(0x10000, 0x10000 + characters - 3))) + "a b"
    corpus = open_corpus([make("text", text)], TextConfig())
    assert corpus.tokenizer.vocabulary_size == characters
    assert corpus.indices.dtype == expected
    assert text_of(corpus) == text


def test_65_536_symbols_fit_in_two_bytes() -> None:
    assert index_type(65_536) is np.uint16


@settings(deadline=None, max_examples=20)
@given(length=st.integers(2, 3000))
def test_exactly_nine_tenths_of_the_characters_are_for_training(length: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"a" + b"b" * (length - 1))))
        corpus = open_corpus(["-"], TextConfig())
    assert corpus.split == 9 * length // 10
    assert len(corpus.train) == corpus.split
    assert len(corpus.train) + len(corpus.validation) == length


def test_tiny_shakespeare_has_the_published_split(make: Make) -> None:
    corpus = open_corpus([make("text", "ab" * (1_115_394 // 2))], TextConfig())
    assert (len(corpus.train), len(corpus.validation)) == (1_003_854, 111_540)


@pytest.mark.parametrize(("fraction", "split"), [(0.0, 1000), (0.001, 999), (0.3, 700), (0.9, 100)])
def test_val_fraction_sets_the_split(make: Make, fraction: float, split: int) -> None:
    corpus = open_corpus([make("text", "ab" * 500)], TextConfig(val_fraction=fraction))
    assert corpus.split == split


def test_a_separate_validation_text_is_the_whole_validation_part(make: Make) -> None:
    train, val = make("train", "abcabc"), [make("val", "cd"), make("val2", "ba")]
    corpus = open_corpus([train], TextConfig(), val=val)
    assert corpus.tokenizer.decode(indices_of(corpus.train)) == "abcabc"
    assert corpus.tokenizer.decode(indices_of(corpus.validation)) == "cd\nba"
    assert corpus.sources == (train,)
    assert corpus.val_sources == tuple(val)


def test_the_hash_depends_on_where_a_separate_validation_text_starts(make: Make) -> None:
    parts = [make(str(n), content) for n, content in enumerate(["ab", "cab", "abc", "ab"])]
    first = open_corpus(parts[:1], TextConfig(), val=parts[1:2])
    second = open_corpus(parts[2:3], TextConfig(), val=parts[3:])
    assert text_of(first) == text_of(second)
    assert first.sha256 != second.sha256


def test_the_hash_depends_on_the_text_and_not_on_its_files(make: Make) -> None:
    text = "some text\nof two lines"
    one = open_corpus([make("a", text)], TextConfig())
    packed = open_corpus([make("b.gz", gzip.compress(text.encode()))], TextConfig())
    lines = open_corpus(
        [make(str(n), line) for n, line in enumerate(text.split("\n"))], TextConfig()
    )
    assert one.sha256 == packed.sha256 == lines.sha256
    assert one.sha256 != open_corpus([make("c", text + ".")], TextConfig()).sha256


def test_a_link_is_recorded_under_its_own_name(make: Make, tmp_path: Path) -> None:
    (tmp_path / "text.gz").symlink_to(make("stored", gzip.compress(b"packed text")))
    corpus = open_corpus([str(tmp_path / "text.gz")], TextConfig())
    assert text_of(open_corpus(corpus.sources, TextConfig())) == "packed text"


def test_byte_mode_reads_any_file_unchanged(make: Make, small: None) -> None:
    data = bytes(range(256)) + b"\r\n\xef\xbb\xbf\0"
    corpus = open_corpus([make("file", data)], TextConfig(tokenizer="byte"))
    assert isinstance(corpus.tokenizer, ByteTokenizer)
    assert corpus.indices.tobytes() == data
    assert corpus.notes == ()


def test_changes_to_the_text_are_noted(make: Make) -> None:
    corpus = open_corpus([make("text", "\ufeffa\r\nb\r\n")], TextConfig())
    assert text_of(corpus) == "a\nb\n"
    assert "CRLF" in corpus.notes[0]
    assert "byte-order mark" in corpus.notes[1]


def test_rare_characters_become_the_unknown_symbol_and_are_counted(make: Make, small: None) -> None:
    corpus = open_corpus([make("text", "aaa bbb é ccc 😀 ddd")], TextConfig(min_count=3))
    unknown = corpus.tokenizer.unknown_index
    assert unknown == len(" abcd")
    assert text_of(corpus) == "aaa bbb \ufffd ccc \ufffd ddd"
    assert corpus.unknown == 2
    assert corpus.unknown_characters == "'é' (U+00E9) x 1, '😀' (U+1F600) x 1"


def test_a_given_tokenizer_encodes_the_text(make: Make, small: None) -> None:
    tokenizer = CharTokenizer("abcé")
    corpus = open_corpus([make("text", "cab")], TextConfig(), tokenizer=tokenizer)
    assert corpus.tokenizer is tokenizer
    assert corpus.indices.tolist() == [2, 0, 1]


def test_characters_that_are_not_in_the_vocabulary_are_counted_and_named(make: Make) -> None:
    name = make("text", "aXbYYc" + "".join(map(chr, range(0x400, 0x40A))))
    with pytest.raises(VocabularyError) as caught:
        open_corpus([name], TextConfig(), tokenizer=CharTokenizer("abc"))
    message = str(caught.value)
    assert message.startswith(f"{name}: 13 characters are not in the model's vocabulary")
    assert "'Y' (U+0059) x 2, 'X' (U+0058) x 1" in message
    assert "and 4 others" in message
    assert "`skip_unknown=True` leaves them out" in message


@settings(deadline=None, max_examples=20)
@given(
    train=st.text("abXé😀", min_size=1),
    val=st.text("abXé😀", min_size=1),
    cache_from=st.sampled_from([1, 1000]),
)
@pytest.mark.parametrize("vocabulary", ["ab", "abé"])
def test_skip_unknown_leaves_out_unknown_characters_of_both_parts(
    tmp_path_factory: pytest.TempPathFactory, vocabulary: str, train: str, val: str, cache_from: int
) -> None:
    files = [tmp_path_factory.mktemp("text") / name for name in ("train", "val")]
    for file, text in zip(files, (train, val), strict=True):
        file.write_text(text, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cache, "MIN_CACHED_SYMBOLS", cache_from)
        patch.setattr(sources, "CHUNK_BYTES", 3)
        corpus = open_corpus(
            [str(files[0])],
            TextConfig(),
            val=[str(files[1])],
            tokenizer=CharTokenizer(vocabulary),
            skip_unknown=True,
        )
    kept = ["".join(c for c in text if c in vocabulary) for text in (train, val)]
    parts = (corpus.train, corpus.validation)
    assert [corpus.tokenizer.decode(indices_of(part)) for part in parts] == kept
    assert corpus.unknown == len(train + val) - len("".join(kept))


def test_lone_surrogates_are_rejected(make: Make) -> None:
    with pytest.raises(TextError, match=r"lone surrogates.*utf-7.*`encoding`"):
        open_corpus([make("text", b"ab +2AA- ab")], TextConfig(encoding="utf-7"))


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs a file that cannot be read")
def test_an_unreadable_file_in_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("some text")
    (tmp_path / "b.txt").symlink_to("/proc/self/mem")
    with pytest.raises(TextError, match=r"b\.txt: cannot be read \(Input/output error\)"):
        open_corpus([str(tmp_path)], TextConfig())


def test_an_empty_text_is_rejected_with_its_name(make: Make) -> None:
    empty, text = make("empty", ""), make("text", "some text")
    for arguments, val in (([empty], []), ([text], [empty]), ([empty, empty], [])):
        with pytest.raises(TextError, match=r"empty.*: empty; name a file that contains text"):
            open_corpus(arguments, TextConfig(), val=val)
    assert text_of(open_corpus([empty, text, empty], TextConfig())) == "some text"


def test_an_error_about_many_files_names_only_the_first(tmp_path: Path) -> None:
    for number in range(40):
        (tmp_path / f"{number:02}").touch()
    with pytest.raises(TextError, match=r"00 and 39 others: empty") as caught:
        open_corpus([str(tmp_path)], TextConfig())
    assert "01" not in str(caught.value).removeprefix(str(tmp_path))


def test_a_new_vocabulary_of_one_symbol_is_rejected(make: Make) -> None:
    with pytest.raises(TextError, match=r"one symbol only \('a'\)"):
        open_corpus([make("text", "aaaa")], TextConfig())
    corpus = open_corpus([make("text", "aaaa")], TextConfig(), tokenizer=CharTokenizer("ab"))
    assert corpus.indices.tolist() == [0] * 4


def test_a_min_count_that_leaves_no_character_is_rejected(make: Make) -> None:
    with pytest.raises(TextError, match=r"occurs 9 times; use `min_count=2` or less"):
        open_corpus([make("text", "abab")], TextConfig(min_count=9))


def test_standard_input_can_be_named_only_once() -> None:
    for arguments, val in ((["-", "-"], []), (["-"], ["-"])):
        with pytest.raises(TextError, match="only once"):
            open_corpus(arguments, TextConfig(), val=val)
