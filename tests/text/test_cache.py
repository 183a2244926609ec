"""A large corpus is encoded once, and its cached indices are never stale."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from charnn.config import TextConfig
from charnn.errors import CharnnError, TextError
from charnn.text import cache
from charnn.text.corpus import open_corpus
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


@pytest.mark.parametrize("harm", ["flip", "shorten", "lengthen", "no json", "bad json"])
def test_a_damaged_entry_is_rebuilt(make: Make, harm: str) -> None:
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
