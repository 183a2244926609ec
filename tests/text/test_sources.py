"""All named texts are read completely and in order, whatever the chunk size."""

import bz2
import gzip
import io
import lzma
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from charnn.config import TextConfig
from charnn.errors import CharnnError, TextError
from charnn.text import decoding as module
from charnn.text.corpus import open_corpus
from charnn.text.decoding import check_encoding, pieces
from charnn.text.sources import DEMO_NAME, Source, built_in_text, find_sources

quick = settings(deadline=None, max_examples=60)


def source(data: bytes, name: str = "text") -> Source:
    return Source(name, lambda: io.BytesIO(data))


def read(
    *data: bytes, chunk: int = 3, changes: set[str] | None = None, config: TextConfig | None = None
) -> str | bytes:
    """Return the joined pieces of sources that are read `chunk` bytes at a time."""
    config = config or TextConfig()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "CHUNK_BYTES", chunk)
        parts = list(pieces(map(source, data), config, set() if changes is None else changes))
    assert all(parts)
    if config.tokenizer == "byte":
        return b"".join(part for part in parts if isinstance(part, bytes))
    return "".join(part.decode("ascii") if isinstance(part, bytes) else part for part in parts)


def find(arguments: list[str]) -> list[Source]:
    return find_sources(arguments, TextConfig(), set())


def opened(found: list[Source]) -> list[bytes]:
    contents = []
    for one in found:
        with one.open() as file:
            contents.append(file.read())
    return contents


plain = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r\ufeff"))
chunks = st.integers(1, 7)


@quick
@given(plain, chunks, st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32"]))
def test_decoding_does_not_depend_on_the_chunk_size(text: str, chunk: int, encoding: str) -> None:
    data = text.encode(encoding)
    assert read(data, chunk=chunk, config=TextConfig(encoding=encoding)) == text


messy = st.text(st.sampled_from("ab\r\n\ufeffé😀"), max_size=20)


@quick
@given(messy, chunks)
def test_line_ends_become_lf_also_across_chunks(text: str, chunk: int) -> None:
    changes: set[str] = set()
    expected = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    assert read(text.encode(), chunk=chunk, changes=changes) == expected
    assert any("CRLF" in note for note in changes) == ("\r" in text)
    assert any("byte-order" in note for note in changes) == text.startswith("\ufeff")


@quick
@given(messy, chunks)
def test_keep_newlines_keeps_every_character(text: str, chunk: int) -> None:
    changes: set[str] = set()
    config = TextConfig(keep_newlines=True)
    assert read(text.encode(), chunk=chunk, changes=changes, config=config) == text
    assert not changes


@quick
@given(st.binary(), chunks)
def test_byte_mode_changes_nothing(data: bytes, chunk: int) -> None:
    changes: set[str] = set()
    assert read(data, chunk=chunk, changes=changes, config=TextConfig(tokenizer="byte")) == data
    assert not changes


@quick
@given(st.lists(plain, max_size=4), chunks)
def test_several_files_are_joined_with_one_newline_and_empty_ones_add_none(
    texts: list[str], chunk: int
) -> None:
    data = [text.encode() for text in texts]
    assert read(*data, chunk=chunk) == "\n".join(text for text in texts if text)


def test_the_byte_order_mark_of_each_file_is_removed() -> None:
    assert read(b"\xef\xbb\xbfa", b"\xef\xbb\xbf", b"\xef\xbb\xbfb") == "a\nb"


@quick
@given(plain, plain, chunks)
def test_an_invalid_byte_is_reported_with_its_offset_in_the_file(
    before: str, after: str, chunk: int
) -> None:
    good = before.encode()
    with pytest.raises(TextError) as caught:
        read(good + b"\xff" + after.encode(), chunk=chunk)
    message = str(caught.value)
    assert f"byte 0xff at offset {len(good)};" in message
    assert '`encoding_errors="replace"` or `tokenizer="byte"`' in message
    assert '`tokenizer="byte"`' in message


@quick
@given(plain, chunks)
def test_an_incomplete_character_at_the_end_is_an_error(before: str, chunk: int) -> None:
    good = before.encode()
    with pytest.raises(TextError, match=f"byte 0xf0 at offset {len(good)};"):
        read(good + "😀".encode()[:3], chunk=chunk)


def test_offsets_are_right_for_other_encodings() -> None:
    for chunk in range(1, 6):
        with pytest.raises(TextError, match="not shift_jis: byte 0x81 at offset 4;"):
            read("日本".encode("shift_jis") + b"\x81", chunk=chunk, config=_config("shift_jis"))
        with pytest.raises(TextError, match=r"not utf-16: .*BOM"):
            read(b"text", chunk=chunk, config=_config("utf-16"))


def _config(encoding: str) -> TextConfig:
    return TextConfig(encoding=encoding)


@pytest.mark.parametrize("data", [b"ab\0c", "ab\0é".encode(), b"\0"])
def test_nul_characters_are_rejected(data: bytes) -> None:
    with pytest.raises(TextError, match=r"text: contains NUL characters.*`tokenizer=.byte.`$"):
        read(data)


@pytest.mark.parametrize("encoding", ["utf-8", "UTF8", "latin1", "cp1252", "shift_jis", "utf-16"])
def test_pythons_text_encodings_are_accepted(encoding: str) -> None:
    check_encoding(encoding)


@pytest.mark.parametrize(
    "encoding", ["", "utf-9", "rot13", "hex", "punycode", "undefined", "a\0b", "../x"]
)
def test_unknown_encodings_are_rejected(encoding: str) -> None:
    with pytest.raises(TextError, match="no text encoding is called"):
        check_encoding(encoding)


def test_a_folder_is_read_in_order_without_hidden_and_special_files(tmp_path: Path) -> None:
    for name in ("b.txt", "a.txt", "sub/c.txt", "sub/deep/d.txt", "another/e.txt"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    (tmp_path / ".hidden").write_text("secret")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git/config").write_text("secret")
    (tmp_path / "sub/loop").symlink_to(tmp_path)
    (tmp_path / "itself").symlink_to(tmp_path / "itself")
    (tmp_path / "link.txt").symlink_to(tmp_path / "a.txt")
    (tmp_path / "gone.txt").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe")
    found = find([str(tmp_path)])
    names = [one.path.relative_to(tmp_path).as_posix() for one in found if one.path]
    assert names == [
        "a.txt", "b.txt", "link.txt", "another/e.txt", "sub/c.txt", "sub/deep/d.txt"
    ]  # fmt: skip


def test_arguments_keep_their_order(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).write_text(name)
    found = find([str(tmp_path / "b"), str(tmp_path / "a"), str(tmp_path / "b")])
    assert opened(found) == [b"b", b"a", b"b"]


def test_a_glob_that_the_shell_did_not_expand_names_each_file_once(tmp_path: Path) -> None:
    for name in ("b.txt", "a.txt", "c.md", "sub/d.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    assert opened(find([str(tmp_path / "*.txt")])) == [b"a.txt", b"b.txt"]
    assert opened(find([str(tmp_path / "s*")])) == [b"sub/d.txt"]
    everything = [b"a.txt", b"b.txt", b"c.md", b"sub/d.txt"]
    assert sorted(opened(find([str(tmp_path / "**")]))) == everything


def test_a_glob_follows_no_circular_links_and_skips_hidden_files(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/a.txt").write_text("a")
    (tmp_path / "sub/.b.txt").write_text("b")
    (tmp_path / "sub/.git").mkdir()
    (tmp_path / "sub/.git/c.txt").write_text("c")
    for name, target in (("self", "."), ("up", "../sub"), ("again", "../sub")):
        (tmp_path / "sub" / name).symlink_to(target)
    for pattern in ("**", "**/*.txt", "s*", "*/*.txt"):
        assert opened(find([str(tmp_path / pattern)])) == [b"a"], pattern
    assert opened(find([str(tmp_path / "sub/.b*")])) == [b"b"]
    assert opened(find([str(tmp_path / "sub/.git/*")])) == [b"c"]
    (tmp_path / "sub/.git/.d").write_text("d")
    for pattern in ("sub/.git/*", "other/../sub/.git/*.txt"):
        (tmp_path / "other").mkdir(exist_ok=True)
        assert opened(find([str(tmp_path / pattern)])) == [b"c"]


def test_an_invalid_glob_matches_nothing(tmp_path: Path) -> None:
    with pytest.raises(TextError, match="no such file or folder"):
        find([str(tmp_path / "a**b*")])


def test_a_file_whose_name_looks_like_a_glob_is_found(tmp_path: Path) -> None:
    (tmp_path / "a[1].txt").write_text("one")
    assert opened(find([str(tmp_path / "a[1].txt")])) == [b"one"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("missing.txt", "no such file or folder"),
        ("*.nothing", "no such file or folder"),
        ("empty", "the folder contains no text files"),
        ("gone", "no such file or folder"),
        ("circle", "no such file or folder"),
        ("x" * 300, "File name too long"),
        ("file/below", "no such file or folder"),
    ],
)
def test_a_path_that_cannot_be_read_is_named(tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty/.hidden").write_text("secret")
    (tmp_path / "file").write_text("text")
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    with pytest.raises(CharnnError, match=words) as caught:
        find([str(tmp_path / name)])
    assert name[:150] in str(caught.value)


COMPRESSED = pytest.mark.parametrize(
    ("suffix", "compress"),
    [
        (".gz", gzip.compress),
        (".bz2", bz2.compress),
        (".xz", lzma.compress),
        (".GZ", gzip.compress),
    ],
)


@COMPRESSED
def test_compressed_files_are_decompressed(
    tmp_path: Path, suffix: str, compress: Callable[[bytes], bytes]
) -> None:
    path = tmp_path / f"text{suffix}"
    path.write_bytes(compress(b"one ") + compress(b"two"))  # two members are one text
    assert opened(find([str(path)])) == [b"one two"]


@COMPRESSED
@pytest.mark.parametrize(
    "harm",
    [
        lambda data: data[: len(data) // 2],
        lambda data: b"no such format" + data,
        lambda data: data[:40] + bytes(20) + data[60:],
    ],
    ids=["truncated", "another format", "overwritten"],
)
def test_damaged_compressed_files_are_named(
    tmp_path: Path,
    suffix: str,
    compress: Callable[[bytes], bytes],
    harm: Callable[[bytes], bytes],
) -> None:
    path = tmp_path / f"text{suffix}"
    path.write_bytes(harm(compress(bytes(i * i % 251 for i in range(5000)))))
    with pytest.raises(TextError, match=r"damaged.*download|name says; rename") as caught:
        list(pieces(find([str(path)]), TextConfig(tokenizer="byte"), set()))
    assert str(path) in str(caught.value)


def test_standard_input_can_be_read_several_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"piped text")))
    (found,) = find(["-"])
    assert found.path is None
    assert opened([found, found]) == [b"piped text"] * 2


def test_a_terminal_is_not_a_corpus(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("sys.stdin", Terminal())
    with pytest.raises(TextError, match="terminal; pipe a text"):
        find(["-"])


def test_the_demo_text_is_long_and_does_not_change() -> None:
    text = built_in_text()
    assert len(text) > 300_000
    assert built_in_text() == text
    assert "for_stmt" in text


def test_without_arguments_the_corpus_is_the_demo_text() -> None:
    corpus = open_corpus([], TextConfig())
    assert corpus.tokenizer.decode(corpus.indices) == built_in_text()
    assert corpus.sources == (DEMO_NAME,)
