"""Fixtures for tests of texts."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from charnn.text import cache, sources
from charnn.text.corpus import Corpus
from charnn.text.records import Records
from charnn.text.tokenizer import CharTokenizer

Make = Callable[[str, str | bytes], str]
TOKENIZER = CharTokenizer("\nabcdefghijklmnopqrstuvwxyz")


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Return a function that writes a file and returns its path."""

    def write(name: str, content: str | bytes) -> str:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return str(path)

    return write


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read texts in chunks of five bytes, and cache every text."""
    monkeypatch.setattr(sources, "CHUNK_BYTES", 5)
    monkeypatch.setattr(cache, "MIN_CACHED_SYMBOLS", 1)


def text_of(corpus: Corpus) -> str:
    """Return the whole text of a corpus."""
    return corpus.tokenizer.decode(corpus.indices)


def encoded(lines: list[str]) -> np.ndarray:
    """Return the indices of lines by `TOKENIZER`, without a last line end."""
    return TOKENIZER.encode("\n".join(lines)).astype(np.uint8)


def records_of(lines: list[str]) -> Records:
    """Return records by `TOKENIZER`."""
    return Records(encoded([*lines, ""]), 0)
