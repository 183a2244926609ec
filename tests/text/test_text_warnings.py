"""A text that looks wrong gets a warning, and a good one gets none."""
# ruff: noqa: RUF001 - texts of many languages

import re
import unicodedata
from pathlib import Path

import numpy as np
import pytest

from charnn.config import TextConfig
from charnn.text.corpus import open_corpus
from charnn.text.sources import built_in_text
from charnn.text.text_warnings import text_warnings
from charnn.text.tokenizer import CODE_POINTS, from_counts

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
        "Все счастливые семьи похожи друг на друга.\n" * 20 + PROSE,
        unicodedata.normalize("NFD", "élève à Noël ") * 30 + PROSE,
        "}\n" * 500 + PROSE,
        "ab",
    ],
    ids=["English", "Latin", "Cyrillic", "decomposed throughout", "short lines", "two letters"],
)
def test_a_good_text_gets_no_warning(text: str) -> None:
    assert warnings_of(text) == []


@pytest.mark.parametrize(
    "text",
    [
        "Ele disse: “A MAÇ\u00c3\u201d. E ela: “N\u00c3\u201d, “IRM\u00c3\u201d “À MÃO”.",
        "«\xa0Où\xa0?\xa0» «\xa0À Nîmes, l’été, cœur, ŒUVRE», dit-il\xa0; déjà\xa0! ÎLE—RÔ…",
        "Anh ấy nói: “Được rồi”, ĐÂU? “Â”… tiếng Việt có á, à, ả, “Ô”, «Ê» và “TÔ”, «cá»…",
        "„Größe“, »Ä«, «ß», „GROß“, „Ü“… Maß², 5 Å², 3 Å³, »Fuß«, „Ö“, „SPAẞ“ — straße–Öl™",
        "“La letra Ñ”, «Ñ», ‘ESPAÑ’, “Ñ”… El niño, ¿qué? ¡Año!",
        "SLYŠÍŠ, VÍŠ, MÍŠA, PÍŠE, KÚŽE, „Í“, ÝŽ",
        "2×½ und 3×¼, 4×½ und 5×½",
    ],
    ids=["Portuguese", "French", "Vietnamese", "German", "Spanish", "Czech", "fractions"],
)
def test_letters_before_quotes_and_other_letters_are_not_mojibake(text: str) -> None:
    assert warnings_of(text * 20) == []


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252"])
@pytest.mark.parametrize(
    "text",
    [
        "Não há coração à mão, disse a irmã alemã às três.",
        "L’été à Nîmes, où le cœur est déjà léger, ça va.",
        "Tôi không biết tiếng Việt, nhưng tôi được học.",
        "Größe, Füße, Äpfel, Öl und Übermut.",
        "El niño comió piñas; ¿qué año, señor?",
        "Все счастливые семьи похожи друг на друга.",
        "“It’s,” he said — “it’s.”",
        "日本語の文章です。",
    ],
)
def test_utf8_of_any_language_read_with_another_encoding_gets_a_warning(
    text: str, encoding: str
) -> None:
    broken = text.encode().decode(encoding, "replace")
    assert [w for w in warnings_of(broken + PROSE) if "look like UTF-8" in w]


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


@pytest.mark.parametrize("times", [1, 2, 4, 9, 10])
def test_an_advised_min_count_keeps_most_of_the_text(times: int) -> None:
    """30 characters of 32 occur once, the others often enough or not."""
    text = "".join(map(chr, range(0x4E00, 0x4E00 + 30))) + "ab" * times * 2
    (warning,) = (w for w in warnings_of(text) if "occur fewer" in w)
    advised = re.search(r"`min_count=(\d+)`", warning)
    kept = sum(text.count(c) for c in "ab") if advised else 0
    assert (kept > len(text) / 2) == bool(advised)
    assert bool(advised) == (4 * times > 30)
    if advised:
        counts = np.bincount([ord(c) for c in text], minlength=CODE_POINTS)
        assert from_counts(counts, int(advised[1])).characters == "ab"


def test_byte_mode_gives_no_warnings(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_text("All rights reserved, and so forth.\r\n" * 200)
    assert open_corpus([str(path)], TextConfig(tokenizer="byte")).notes == ()
