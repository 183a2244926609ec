"""Any text becomes one stream of indices that says the same as the text."""

import gzip
import io
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from charnn.config import TextConfig
from charnn.errors import CharnnError, TextError, VocabularyError
from charnn.text import cache, sources
from charnn.text.corpus import Corpus, index_type, open_corpus
from charnn.text.records import indices_of
from charnn.text.tokenizer import ByteTokenizer, CharTokenizer

Make = Callable[[str, str | bytes], str]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Writes a file and returns its name."""

    def write(name: str, content: str | bytes) -> str:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return str(path)

    return write


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of five bytes, and a cache for any text."""
    monkeypatch.setattr(sources, "CHUNK_BYTES", 5)
    monkeypatch.setattr(cache, "CACHE_FROM", 1)


def text_of(corpus: Corpus) -> str:
    return corpus.tokenizer.decode(corpus.indices)


def cached() -> list[Path]:
    return sorted(Path(os.environ["CHARNN_CACHE"]).glob("*.indices"))


texts = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0\r\ufeff"), min_size=2
).filter(lambda text: len(set(text)) > 1)


@settings(deadline=None, max_examples=20)
@given(text=texts, cache_from=st.sampled_from([1, 1000]), chunk=st.integers(1, 9))
def test_the_indices_say_what_the_text_says(text: str, cache_from: int, chunk: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources, "CHUNK_BYTES", chunk)
        patch.setattr(cache, "CACHE_FROM", cache_from)
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
    monkeypatch.setattr(cache, "CACHE_FROM", cache_from)
    text = "".join(map(chr, range(0x10000, 0x10000 + characters - 3))) + "a b"
    corpus = open_corpus([make("text", text)], TextConfig())
    assert corpus.tokenizer.vocabulary_size == characters
    assert corpus.indices.dtype == expected
    assert text_of(corpus) == text


def test_65_536_symbols_still_fit_two_bytes() -> None:
    assert index_type(65_536) is np.uint16


@settings(deadline=None, max_examples=20)
@given(length=st.integers(2, 3000))
def test_nine_tenths_of_the_characters_train_exactly(length: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"a" + b"b" * (length - 1))))
        corpus = open_corpus(["-"], TextConfig())
    assert corpus.split == 9 * length // 10
    assert len(corpus.train) == corpus.split
    assert len(corpus.train) + len(corpus.validation) == length


def test_tiny_shakespeares_length_splits_as_published(make: Make) -> None:
    corpus = open_corpus([make("text", "ab" * (1_115_394 // 2))], TextConfig())
    assert (len(corpus.train), len(corpus.validation)) == (1_003_854, 111_540)


@pytest.mark.parametrize(("fraction", "split"), [(0.0, 1000), (0.001, 999), (0.3, 700), (0.9, 100)])
def test_the_validation_share_can_be_set(make: Make, fraction: float, split: int) -> None:
    corpus = open_corpus([make("text", "ab" * 500)], TextConfig(val_fraction=fraction))
    assert corpus.split == split


def test_a_validation_part_of_its_own_is_all_that_validates(make: Make) -> None:
    train, val = make("train", "abcabc"), [make("val", "cd"), make("val2", "ba")]
    corpus = open_corpus([train], TextConfig(), val=val)
    assert corpus.tokenizer.decode(indices_of(corpus.train)) == "abcabc"
    assert corpus.tokenizer.decode(indices_of(corpus.validation)) == "cd\nba"
    assert corpus.sources == (train,)
    assert corpus.val_sources == tuple(val)


def test_where_training_ends_is_part_of_the_hash(make: Make) -> None:
    parts = [make(str(n), content) for n, content in enumerate(["ab", "cab", "abc", "ab"])]
    first = open_corpus(parts[:1], TextConfig(), val=parts[1:2])
    second = open_corpus(parts[2:3], TextConfig(), val=parts[3:])
    assert text_of(first) == text_of(second)
    assert first.sha256 != second.sha256


def test_the_hash_is_the_contents_wherever_it_lies(make: Make) -> None:
    text = "some text\nof two lines"
    one = open_corpus([make("a", text)], TextConfig())
    packed = open_corpus([make("b.gz", gzip.compress(text.encode()))], TextConfig())
    lines = open_corpus(
        [make(str(n), line) for n, line in enumerate(text.split("\n"))], TextConfig()
    )
    assert one.sha256 == packed.sha256 == lines.sha256
    assert one.sha256 != open_corpus([make("c", text + ".")], TextConfig()).sha256


def test_a_link_is_remembered_by_its_own_name(make: Make, tmp_path: Path) -> None:
    (tmp_path / "text.gz").symlink_to(make("stored", gzip.compress(b"packed text")))
    corpus = open_corpus([str(tmp_path / "text.gz")], TextConfig())
    assert text_of(open_corpus(corpus.sources, TextConfig())) == "packed text"


def test_byte_mode_takes_any_file_as_it_is(make: Make, small: None) -> None:
    data = bytes(range(256)) + b"\r\n\xef\xbb\xbf\0"
    corpus = open_corpus([make("file", data)], TextConfig(tokenizer="byte"))
    assert isinstance(corpus.tokenizer, ByteTokenizer)
    assert corpus.indices.tobytes() == data
    assert corpus.notes == ()


def test_what_was_changed_in_the_text_is_told(make: Make) -> None:
    corpus = open_corpus([make("text", "\ufeffa\r\nb\r\n")], TextConfig())
    assert text_of(corpus) == "a\nb\n"
    assert "CRLF" in corpus.notes[0]
    assert "byte-order mark" in corpus.notes[1]


def test_rare_characters_share_the_unknown_index_and_are_counted(make: Make, small: None) -> None:
    corpus = open_corpus([make("text", "aaa bbb é ccc 😀 ddd")], TextConfig(min_count=3))
    unknown = corpus.tokenizer.unknown_index
    assert unknown == len(" abcd")
    assert text_of(corpus) == "aaa bbb \ufffd ccc \ufffd ddd"
    assert corpus.unknown == 2


def test_a_models_vocabulary_is_kept_for_another_text(make: Make, small: None) -> None:
    tokenizer = CharTokenizer("abcé")
    corpus = open_corpus([make("text", "cab")], TextConfig(), tokenizer=tokenizer)
    assert corpus.tokenizer is tokenizer
    assert corpus.indices.tolist() == [2, 0, 1]


def test_characters_the_model_lacks_are_counted_and_named(make: Make) -> None:
    name = make("text", "aXbYYc" + "".join(map(chr, range(0x400, 0x40A))))
    with pytest.raises(VocabularyError) as caught:
        open_corpus([name], TextConfig(), tokenizer=CharTokenizer("abc"))
    message = str(caught.value)
    assert message.startswith(f"{name}: 13 characters are not in the model's vocabulary")
    assert "'Y' (U+0059) x 2, 'X' (U+0058) x 1" in message
    assert "and 4 others" in message
    assert "--skip-unknown" in message


@settings(deadline=None, max_examples=20)
@given(
    train=st.text("abXé😀", min_size=1),
    val=st.text("abXé😀", min_size=1),
    cache_from=st.sampled_from([1, 1000]),
)
@pytest.mark.parametrize("vocabulary", ["ab", "abé"])
def test_skipping_leaves_out_unknown_characters_of_both_parts(
    tmp_path_factory: pytest.TempPathFactory, vocabulary: str, train: str, val: str, cache_from: int
) -> None:
    files = [tmp_path_factory.mktemp("text") / name for name in ("train", "val")]
    for file, text in zip(files, (train, val), strict=True):
        file.write_text(text, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cache, "CACHE_FROM", cache_from)
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


@pytest.mark.usefixtures("small")
class TestCache:
    """A large corpus is encoded once, and never stale."""

    def test_a_large_corpus_is_mapped_from_the_cache(self, make: Make) -> None:
        corpus = open_corpus([make("text", "some text")], TextConfig())
        assert isinstance(corpus.indices, np.memmap)
        assert len(cached()) == 1

    def test_equal_texts_share_an_entry_wherever_they_lie(self, make: Make) -> None:
        open_corpus([make("one", "some text")], TextConfig())
        written = cached()[0].stat().st_mtime_ns
        assert text_of(open_corpus([make("two", "some text")], TextConfig())) == "some text"
        assert [path.stat().st_mtime_ns for path in cached()] == [written]

    def test_a_file_that_changes_gets_a_new_entry(self, make: Make) -> None:
        times = Path(make("text", "some text")).stat()
        open_corpus([make("text", "some text")], TextConfig())
        name = make("text", "same text")
        os.utime(name, ns=(times.st_atime_ns, times.st_mtime_ns))
        assert text_of(open_corpus([name], TextConfig())) == "same text"
        assert len(cached()) == 2

    def test_the_tokenizer_is_part_of_the_key(self, make: Make) -> None:
        name = make("text", "some text")
        for config in (TextConfig(), TextConfig(min_count=2), TextConfig(tokenizer="byte")):
            open_corpus([name], config)
        open_corpus([name], TextConfig(), tokenizer=CharTokenizer(" emostxyz"))
        assert len(cached()) == 4

    @pytest.mark.parametrize("harm", ["flip", "shorten", "lengthen", "no json", "bad json"])
    def test_a_corrupt_entry_is_made_again(self, make: Make, harm: str) -> None:
        name = make("text", "some text")
        open_corpus([name], TextConfig())
        (path,) = cached()
        data = path.read_bytes()
        match harm:
            case "flip":
                path.write_bytes(bytes([data[0] ^ 1]) + data[1:])
            case "shorten":
                path.write_bytes(data[:-1])
            case "lengthen":
                path.write_bytes(data + b"\0")
            case "no json":
                path.with_suffix(".json").unlink()
            case "bad json":
                path.with_suffix(".json").write_text("{")
        assert text_of(open_corpus([name], TextConfig())) == "some text"
        assert path.read_bytes() == data

    def test_an_unwritable_cache_folder_is_named(
        self, make: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("CHARNN_CACHE", make("file", "") + "/cache")
        with pytest.raises(CharnnError, match="file/cache: Not a directory; set CHARNN_CACHE"):
            open_corpus([make("text", "some text")], TextConfig())

    @pytest.mark.parametrize("change", ["some other text", "same text", "some texts, longer"])
    def test_a_text_that_changes_between_the_two_readings_is_refused(
        self, make: Make, monkeypatch: pytest.MonkeyPatch, change: str
    ) -> None:
        name = make("text", "some text")

        def changing() -> Path:
            make("text", change)
            os.utime(name, ns=(1, 1))
            return Path(os.environ["CHARNN_CACHE"])

        monkeypatch.setattr(cache, "cache_folder", changing)
        with pytest.raises(TextError, match="changed while it was read"):
            open_corpus([name], TextConfig())
        assert cached() == []

    def test_a_disk_without_room_is_told_before_anything_is_written(
        self, make: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        usage = shutil.disk_usage(".")._replace(free=8)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
        with pytest.raises(TextError, match=r"take 0\.0 GB.*CHARNN_CACHE to a folder with room"):
            open_corpus([make("text", "some text")], TextConfig())
        assert list(Path(os.environ["CHARNN_CACHE"]).iterdir()) == []

    def test_what_a_killed_process_left_is_removed_and_a_running_ones_is_not(
        self, make: Make
    ) -> None:
        folder = Path(os.environ["CHARNN_CACHE"])
        for name in (".old.indices.0123abcd.tmp", ".new.indices.0123abcd.tmp"):
            (folder / name).write_bytes(b"half")
        os.utime(folder / ".old.indices.0123abcd.tmp", (1, 1))
        open_corpus([make("text", "some text")], TextConfig())
        assert [path.name for path in folder.glob(".*")] == [".new.indices.0123abcd.tmp"]

    def test_a_text_that_vanishes_between_the_two_readings_is_told(
        self, make: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        name = make("text", "some text")

        def vanishing() -> Path:
            Path(name).unlink()
            return Path(os.environ["CHARNN_CACHE"])

        monkeypatch.setattr(cache, "cache_folder", vanishing)
        with pytest.raises(TextError, match="No such file"):
            open_corpus([name], TextConfig())


def test_lone_surrogates_are_no_characters(make: Make) -> None:
    with pytest.raises(TextError, match=r"lone surrogates.*utf-7.*--encoding"):
        open_corpus([make("text", b"ab +2AA- ab")], TextConfig(encoding="utf-7"))


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="no file that cannot be read")
def test_a_folder_with_a_file_that_cannot_be_read_is_refused_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("some text")
    (tmp_path / "b.txt").symlink_to("/proc/self/mem")
    with pytest.raises(TextError, match=r"b\.txt: cannot be read \(Input/output error\)"):
        open_corpus([str(tmp_path)], TextConfig())


def test_an_empty_text_is_refused_by_name(make: Make) -> None:
    empty, text = make("empty", ""), make("text", "some text")
    for arguments, val in (([empty], []), ([text], [empty]), ([empty, empty], [])):
        with pytest.raises(TextError, match=r"empty.*: empty; name a file with text in it"):
            open_corpus(arguments, TextConfig(), val=val)
    assert text_of(open_corpus([empty, text, empty], TextConfig())) == "some text"


def test_a_folder_of_many_empty_files_is_refused_in_few_words(tmp_path: Path) -> None:
    for number in range(40):
        (tmp_path / f"{number:02}").touch()
    with pytest.raises(TextError, match=r"00 and 39 others: empty") as caught:
        open_corpus([str(tmp_path)], TextConfig())
    assert "01" not in str(caught.value).removeprefix(str(tmp_path))


def test_a_text_of_one_symbol_has_nothing_to_learn(make: Make) -> None:
    with pytest.raises(TextError, match=r"one symbol only \('a'\)"):
        open_corpus([make("text", "aaaa")], TextConfig())
    corpus = open_corpus([make("text", "aaaa")], TextConfig(), tokenizer=CharTokenizer("ab"))
    assert corpus.indices.tolist() == [0] * 4


def test_folding_every_character_is_refused(make: Make) -> None:
    with pytest.raises(TextError, match=r"no character of the text occurs 9 times; lower --min"):
        open_corpus([make("text", "abab")], TextConfig(min_count=9))


def test_standard_input_cannot_be_both_parts() -> None:
    for arguments, val in ((["-", "-"], []), (["-"], ["-"])):
        with pytest.raises(TextError, match="only once"):
            open_corpus(arguments, TextConfig(), val=val)
