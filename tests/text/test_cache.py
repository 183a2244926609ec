"""A large corpus is encoded once, and its cached indices are never stale."""

import os
import shutil
import stat
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from charnn.config import TextConfig
from charnn.errors import CharnnError, TextError
from charnn.files import cache_folder
from charnn.text import cache
from charnn.text import corpus as corpus_module
from charnn.text.corpus import open_corpus
from charnn.text.decoding import Piece, pieces
from charnn.text.tokenizer import CharTokenizer
from tests.text.conftest import Make, text_of

pytestmark = pytest.mark.usefixtures("small")


def cached() -> list[Path]:
    return sorted(Path(os.environ["CHARNN_CACHE"]).glob("*.indices"))


def test_a_large_corpus_is_mapped_from_the_cache(make: Make) -> None:
    corpus = open_corpus([make("text", "some text")], TextConfig())
    assert isinstance(corpus.indices, np.memmap)
    assert len(cached()) == 1


def test_equal_texts_share_an_entry_wherever_their_files_are(make: Make) -> None:
    open_corpus([make("one", "some text")], TextConfig())
    written = cached()[0].stat().st_mtime_ns
    assert text_of(open_corpus([make("two", "some text")], TextConfig())) == "some text"
    assert [path.stat().st_mtime_ns for path in cached()] == [written]


def test_a_file_that_changes_gets_a_new_entry(make: Make) -> None:
    times = Path(make("text", "some text")).stat()
    open_corpus([make("text", "some text")], TextConfig())
    name = make("text", "same text")
    os.utime(name, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert text_of(open_corpus([name], TextConfig())) == "same text"
    assert len(cached()) == 2


def test_each_vocabulary_has_an_entry_of_its_own(make: Make) -> None:
    name = make("text", "some text")
    for config in (TextConfig(), TextConfig(min_count=2), TextConfig(tokenizer="byte")):
        open_corpus([name], config)
    open_corpus([name], TextConfig(), tokenizer=CharTokenizer(" emostxyz"))
    assert len(cached()) == 4


def entry(indices: bytes) -> bytes:
    return indices + zlib.crc32(indices).to_bytes(4, "little")


@pytest.mark.parametrize(
    "harm", ["flip", "shorten", "lengthen", "empty", "beyond", "pipe", "link", "shared", "missing"]
)
def test_an_entry_that_is_damaged_or_may_be_somebody_elses_is_rebuilt(
    make: Make, harm: str
) -> None:
    name = make("text", "some text")
    open_corpus([name], TextConfig())
    (path,) = cached()
    data = path.read_bytes()
    other = Path(make("other", data))
    path.chmod(0o600)
    match harm:
        case "flip":
            path.write_bytes(bytes([data[0] ^ 1]) + data[1:])
        case "shorten":
            path.write_bytes(data[:-1])
        case "lengthen":
            path.write_bytes(data + b"\0")
        case "empty":
            path.write_bytes(b"")
        case "beyond":  # the vocabulary, with a checksum that fits
            path.write_bytes(entry(data[:8] + b"\x07"))
        case "pipe":
            path.unlink()
            os.mkfifo(path)
        case "link":
            path.unlink()
            path.symlink_to(other)
        case "shared":
            path.write_bytes(entry(bytes(reversed(data[:-4]))))
            path.chmod(0o666)
        case "missing":
            path.unlink()
    assert text_of(open_corpus([name], TextConfig())) == "some text"
    assert path.read_bytes() == other.read_bytes() == data
    assert not path.is_symlink()
    assert stat.S_IMODE(path.stat().st_mode) == 0o400


def test_a_run_keeps_its_indices_when_their_entry_is_replaced(make: Make) -> None:
    corpus = open_corpus([make("text", "some text")], TextConfig())
    (path,) = cached()
    path.unlink()
    path.write_bytes(entry(b"another"))
    assert text_of(corpus) == "some text"


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o1777])
def test_a_cache_folder_that_others_can_write_to_is_not_used(
    make: Make, caplog: pytest.LogCaptureFixture, mode: int
) -> None:
    folder = Path(os.environ["CHARNN_CACHE"])
    name = make("text", "some text")
    open_corpus([name], TextConfig())
    (path,) = cached()
    path.chmod(0o600)
    path.write_bytes(entry(bytes(reversed(path.read_bytes()[:-4]))))
    folder.chmod(mode)
    corpus = open_corpus([name], TextConfig())
    assert text_of(corpus) == "some text"
    assert isinstance(corpus.indices, np.memmap)
    assert [record.message.partition(";")[0] for record in caplog.records] == [
        f"{folder}: other users can write to this cache folder, so that the text is encoded anew "
        "each time"
    ]
    assert cached() == [path]


def test_a_new_cache_folder_is_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHARNN_CACHE", str(tmp_path / "new"))
    assert stat.S_IMODE(cache_folder().stat().st_mode) == 0o700


@pytest.mark.parametrize("cache_from", [1, 1000])
def test_a_text_that_changes_between_the_passes_and_keeps_its_size_and_time_is_rejected(
    make: Make, monkeypatch: pytest.MonkeyPatch, cache_from: int
) -> None:
    monkeypatch.setattr(cache, "MIN_CACHED_SYMBOLS", cache_from)
    name, passes = make("text", "some text"), 0

    def changing(*arguments: Any) -> Iterator[Piece]:
        nonlocal passes
        passes += 1
        if passes == 2:
            make("text", "same text")
        os.utime(name, ns=(1, 1))
        return pieces(*arguments)

    monkeypatch.setattr(corpus_module, "pieces", changing)
    with pytest.raises(TextError, match="changed while it was read"):
        open_corpus([name], TextConfig(), tokenizer=CharTokenizer(" aemostx"))
    assert cached() == []
    assert open_corpus([name], TextConfig()).tokenizer.vocabulary_size > 1  # the advice works


def test_an_unwritable_cache_folder_is_named(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHARNN_CACHE", make("file", "") + "/cache")
    with pytest.raises(CharnnError, match="file/cache: Not a directory; set CHARNN_CACHE"):
        open_corpus([make("text", "some text")], TextConfig())


@pytest.mark.parametrize("change", ["some other text", "same text", "some texts, longer"])
def test_a_text_that_changes_between_the_two_passes_is_rejected(
    make: Make, monkeypatch: pytest.MonkeyPatch, change: str
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


def test_a_full_disk_is_reported_before_anything_is_written(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(".")._replace(free=8)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(TextError, match=r"take 0\.0 GB.*CHARNN_CACHE to a folder with free space"):
        open_corpus([make("text", "some text")], TextConfig())
    assert list(Path(os.environ["CHARNN_CACHE"]).iterdir()) == []


def test_temporary_files_of_killed_processes_are_removed_and_those_of_running_ones_stay(
    make: Make,
) -> None:
    folder = Path(os.environ["CHARNN_CACHE"])
    for name in (".old.indices.0123abcd.tmp", ".new.indices.0123abcd.tmp"):
        (folder / name).write_bytes(b"half")
    os.utime(folder / ".old.indices.0123abcd.tmp", (1, 1))
    open_corpus([make("text", "some text")], TextConfig())
    assert [path.name for path in folder.glob(".*")] == [".new.indices.0123abcd.tmp"]


def test_a_text_that_disappears_between_the_two_passes_is_reported(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = make("text", "some text")

    def vanishing() -> Path:
        Path(name).unlink()
        return Path(os.environ["CHARNN_CACHE"])

    monkeypatch.setattr(cache, "cache_folder", vanishing)
    with pytest.raises(TextError, match="No such file"):
        open_corpus([name], TextConfig())
