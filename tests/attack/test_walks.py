"""A walk through a folder learns text only, and what can be read once never fills the disk."""

import bz2
import gzip
import io
import json
import re
import shutil
from pathlib import Path

import pytest

from charnn.config import TextConfig
from charnn.errors import TextError
from charnn.text import decoding
from charnn.text.corpus import open_corpus
from charnn.text.decoding import read_text
from tests.conftest import words

TEXT = words(400)
BYTES = TextConfig(tokenizer="byte")


@pytest.fixture
def here(tmp_path: Path, run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: a text among files that are nobody's text, which all say `secret`."""
    for name in ("checkpoints", "started", "venv/lib", "node_modules", "texts/.git"):
        (tmp_path / name).mkdir(parents=True)
    shutil.copytree(run_folder, tmp_path / "checkpoints/run")
    for name in ("checkpoints/run", "started"):
        (tmp_path / name / "run.json").write_text(json.dumps({"corpus": ["secret"]}))
        (tmp_path / name / "metrics.jsonl").write_text("secret")
    (tmp_path / "venv/pyvenv.cfg").touch()
    for name in ("venv/lib/a.py", "node_modules/a.js", "texts/.git/config", "texts/.hidden"):
        (tmp_path / name).write_text("secret")
    (tmp_path / "texts/text.txt").write_text(TEXT)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("config", [TextConfig(), BYTES], ids=["characters", "bytes"])
@pytest.mark.parametrize("argument", [".", "**", "**/*", "./**/*"])
def test_a_walk_learns_no_run_and_no_cache(here: Path, argument: str, config: TextConfig) -> None:
    corpus = open_corpus([argument], config)
    assert corpus.tokenizer.decode(corpus.indices.tolist()) == TEXT
    (note,) = [note for note in corpus.notes if note.startswith("left out")]
    assert "2 run folders" in note
    assert "2 caches" in note
    assert len(note) < 400


@pytest.mark.parametrize("argument", ["started/*.jsonl", "started/metrics.jsonl"])
def test_a_file_that_is_named_is_read_wherever_it_lies(here: Path, argument: str) -> None:
    corpus = open_corpus([argument], TextConfig())
    assert corpus.tokenizer.decode(corpus.indices.tolist()) == "secret"


@pytest.mark.parametrize("argument", ["folder", "folder/**/*"])
def test_a_walk_looks_into_compressed_files(tmp_path: Path, argument: str) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "text.txt.gz").write_bytes(gzip.compress(TEXT.encode()))
    (folder / "many.tar.bz2").write_bytes(bz2.compress(b"name" + bytes(99) + b"secret"))
    (folder / "book.pdf.gz").write_bytes(gzip.compress(b"%PDF-1.4 secret"))
    corpus = open_corpus([str(tmp_path / argument)], TextConfig())
    assert corpus.tokenizer.decode(corpus.indices.tolist()) == TEXT
    (note,) = [note for note in corpus.notes if note.startswith("left out")]
    assert "1 binary file (" in note
    assert note.endswith("save documents as plain text (.txt) to read them")
    (folder / "text.txt.gz").write_bytes(b"\x1f\x8b damaged")
    with pytest.raises(TextError, match="truncated or damaged"):
        open_corpus([str(tmp_path / argument)], TextConfig())


class Endless(io.RawIOBase):
    """Standard input that never ends."""

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        assert size >= 0, "all of it"
        return b"y\n" * (size // 2)

    def isatty(self) -> bool:
        return False

    @property
    def buffer(self) -> "Endless":
        return self


def test_of_a_pipe_without_an_end_only_the_beginning_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.stdin", Endless())
    monkeypatch.setattr(decoding, "MAX_SMALL", 1000)
    assert read_text("-", TextConfig(), 300).startswith("y\n" * 150)
    with pytest.raises(TextError, match="longer than 1,000 characters; name a shorter text"):
        read_text("-", TextConfig())


def test_a_prime_may_be_as_long_as_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "MAX_SMALL", len(TEXT))
    path = tmp_path / "text.txt"
    path.write_text(TEXT, encoding="utf-32")
    assert read_text(str(path), TextConfig(encoding="utf-32")) == TEXT


@pytest.mark.parametrize(
    ("data", "advice"),
    [
        (TEXT.encode("utf-16"), ['encoding="utf-16-le"']),
        (TEXT.encode("utf-32"), ['encoding="utf-32-le"']),
        (("é à ü ñ " * 99).encode() + b"\xe9 " + TEXT.encode(), ['encoding_errors="replace"']),
        ("é à ü ñ ".encode("cp1252"), ['encoding="cp1252"', 'encoding_errors="replace"']),
        (b"ab\0cd" * 100, []),
    ],
    ids=["UTF-16", "UTF-32", "mostly UTF-8", "cp1252", "no text"],
)
def test_only_settings_that_give_plain_text_are_advised(
    tmp_path: Path, data: bytes, advice: list[str]
) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(data)
    with pytest.raises(TextError) as caught:
        open_corpus([str(path)], TextConfig())
    found = re.findall("`(.*?)`", str(caught.value))
    assert found == [*advice, 'tokenizer="byte"']
    for setting in found:
        name, value = setting.split("=")
        open_corpus([str(path)], TextConfig(**{name: value.strip('"')}))


def test_byte_order_marks_that_are_kept_are_not_noted(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text("\ufeff" + TEXT)
    assert open_corpus([str(path)], TextConfig(keep_newlines=True)).notes == ()


def test_where_every_character_is_rare_the_setting_is_to_be_left_out(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text("abc")
    with pytest.raises(TextError, match="3 times; leave out `min_count`"):
        open_corpus([str(path)], TextConfig(min_count=3))
