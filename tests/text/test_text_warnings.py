"""A text that looks wrong gets a warning, and a good one gets none."""

import unicodedata
from pathlib import Path

import numpy as np
import pytest

from charnn.config import TextConfig
from charnn.text.corpus import open_corpus
from charnn.text.sources import built_in_text
from charnn.text.text_warnings import text_warnings
from charnn.text.tokenizer import CODE_POINTS

PROSE = "".join(
    f"The {n}. line tells of {n * n} sheep, of two dogs and of a fence.\n" for n in range(300)
)


def warnings_of(text: str) -> list[str]:
    counts = np.bincount([ord(c) for c in text], minlength=CODE_POINTS)
    return list(text_warnings(counts, text))


@pytest.mark.parametrize(
    "text",
    [
        PROSE,
        "Wörter, Größe, ça va, señor, ÄÖÜ, »Ã« naïve façade.\n" + PROSE,
        "Все счастливые семьи похожи друг на друга.\n" * 20 + PROSE,  # noqa: RUF001 - Cyrillic on purpose
        unicodedata.normalize("NFD", "élève à Noël ") * 30 + PROSE,
        "}\n" * 500 + PROSE,
        "ab",
    ],
    ids=["English", "Latin", "Cyrillic", "decomposed throughout", "short lines", "two letters"],
)
def test_a_good_text_gets_no_warning(text: str) -> None:
    assert warnings_of(text) == []


def test_the_demo_text_gets_no_warning() -> None:
    assert warnings_of(built_in_text()) == []


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252"])
def test_utf8_decoded_with_another_encoding_gets_a_warning(encoding: str) -> None:
    broken = "Größe, naïve, “quoted”, Füße, né".encode().decode(encoding, "replace")
    (warning,) = [w for w in warnings_of(broken + PROSE) if "UTF-8" in w]
    assert "`encoding`" in warning


def test_replacement_characters_are_counted() -> None:
    (warning,) = warnings_of("a\ufffdb\ufffd" + PROSE)
    assert "U+FFFD occurs 2 times" in warning


def test_mixed_normal_forms_get_a_warning() -> None:
    (warning,) = warnings_of("né " * 20 + unicodedata.normalize("NFD", "né ") * 20 + PROSE)
    assert "NFC" in warning
    assert "NFD" in warning


def test_many_duplicate_lines_get_a_warning_with_their_share() -> None:
    (warning,) = warnings_of("All rights reserved, and so forth.\n" * 200 + PROSE)
    assert warning.startswith("40% of the longer lines are duplicates, such as 'All rights")


def test_many_rare_characters_get_a_warning_that_suggests_min_count() -> None:
    (warning,) = warnings_of("".join(map(chr, range(0x4E00, 0x4E00 + 70))) + PROSE)
    assert "70 of " in warning
    assert "`min_count=10`" in warning


def test_byte_mode_gives_no_warnings(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_text("All rights reserved, and so forth.\r\n" * 200)
    assert open_corpus([str(path)], TextConfig(tokenizer="byte")).notes == ()
