"""A text that looks wrong gets a note; one that looks right gets none."""

import unicodedata
from pathlib import Path

import numpy as np
import pytest

from charnn.config import TextConfig
from charnn.text.corpus import open_corpus
from charnn.text.sources import built_in_text
from charnn.text.text_warnings import warnings_about
from charnn.text.tokenizer import CODE_POINTS

PROSE = "".join(
    f"The {n}. line tells of {n * n} sheep, of two dogs and of a fence.\n" for n in range(300)
)


def notes(text: str) -> list[str]:
    counts = np.bincount([ord(c) for c in text], minlength=CODE_POINTS)
    return list(warnings_about(counts, text))


@pytest.mark.parametrize(
    "text",
    [
        PROSE,
        "Wörter, Größe, ça va, señor, ÄÖÜ, »Ã« naïve façade.\n" + PROSE,
        "Все счастливые семьи похожи друг на друга.\n" * 20 + PROSE,  # noqa: RUF001 - no typing error
        unicodedata.normalize("NFD", "élève à Noël ") * 30 + PROSE,
        "}\n" * 500 + PROSE,
        "ab",
    ],
    ids=["English", "Latin", "Cyrillic", "decomposed throughout", "short lines", "two letters"],
)
def test_a_healthy_text_gets_no_note(text: str) -> None:
    assert notes(text) == []


def test_the_demo_text_gets_no_note() -> None:
    assert notes(built_in_text()) == []


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252"])
def test_utf8_read_as_another_encoding_is_noticed(encoding: str) -> None:
    broken = "Größe, naïve, “quoted”, Füße, né".encode().decode(encoding, "replace")
    (note,) = [note for note in notes(broken + PROSE) if "UTF-8" in note]
    assert "--encoding" in note


def test_replacement_characters_are_counted() -> None:
    (note,) = notes("a\ufffdb\ufffd" + PROSE)
    assert "U+FFFD stands 2 times" in note


def test_mixed_normal_forms_are_noticed() -> None:
    (note,) = notes("né " * 20 + unicodedata.normalize("NFD", "né ") * 20 + PROSE)
    assert "NFC" in note
    assert "NFD" in note


def test_many_repeated_lines_are_noticed_with_their_share() -> None:
    (note,) = notes("All rights reserved, and so forth.\n" * 200 + PROSE)
    assert note.startswith("40% of the longer lines are repeats, such as 'All rights")


def test_a_long_tail_of_rare_characters_is_noticed_with_what_folds_it() -> None:
    (note,) = notes("".join(map(chr, range(0x4E00, 0x4E00 + 70))) + PROSE)
    assert "70 of " in note
    assert "--min-count 10" in note


def test_line_ends_and_the_like_are_not_checked_in_byte_mode(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_text("All rights reserved, and so forth.\r\n" * 200)
    assert open_corpus([str(path)], TextConfig(tokenizer="byte")).notes == ()
