"""Warnings about a text that looks wrong: mojibake, mixed normal forms, duplicate lines."""

import unicodedata
from collections import Counter
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from charnn.words import plural

RARE = 10  # a model hardly learns characters that occur fewer times than this
MIN_LINE_LENGTH = 20  # shorter lines ("}", "Chorus:") are often repeated in good texts


def text_warnings(counts: NDArray[np.int64], sample: str) -> Iterator[str]:
    """Yield one line for each thing that looks wrong in a text.

    `counts` are exact counts of all code points, `sample` is the beginning of the text.
    """
    present = np.flatnonzero(counts)
    rare = present[counts[present] < RARE]
    if 20 <= len(rare) < len(present) and len(rare) * 4 >= len(present):
        yield (
            f"{len(rare):,} of {len(present):,} characters in the vocabulary occur fewer than "
            f"{RARE} times; `min_count={RARE}` replaces them with one unknown symbol"
        )
    if counts[0xFEFF]:
        times = plural(int(counts[0xFEFF]), "time")
        yield (
            f"U+FEFF, a byte-order mark, occurs {times} inside the text, as in joined files; "
            "remove it, or the model learns it"
        )
    if counts[0xFFFD]:
        times = plural(int(counts[0xFFFD]), "time")
        yield f"U+FFFD occurs {times}: the text was once decoded with a wrong encoding"
    mojibake = list(_mojibake(sample))
    if len(mojibake) >= 3:
        yield (
            f"{len(mojibake):,} places such as {mojibake[0]!r} look like UTF-8 that was decoded "
            "with another encoding; check `encoding`"
        )
    if _mixes_normal_forms(present, sample):
        yield (
            "accented letters occur both composed (NFC) and decomposed (NFD); "
            "convert the text to one form"
        )
    lines = [line for line in sample.splitlines() if _is_prose(line)]
    repeated = len(lines) - len(set(lines))
    if len(lines) >= 20 and repeated * 3 >= len(lines):
        common = Counter(lines).most_common(1)[0][0]
        share = repeated / len(lines)
        yield f"{share:.0%} of the longer lines are duplicates, such as {common[:40]!r}"


def _is_prose(line: str) -> bool:
    return 2 * sum(map(str.isalpha, line)) >= len(line) >= MIN_LINE_LENGTH


# The first bytes of accented letters and typographic signs in UTF-8, decoded as Latin-1 or cp1252.
_MOJIBAKE_STARTS = ("\u00c3", "\u00c2", "\u00e2\u20ac", "\u00d0", "\u00d1")
_MOJIBAKE_SECONDS = {chr(c) for c in range(0x80, 0xC0)} | set(
    bytes(range(0x80, 0xA0)).decode("cp1252", "ignore")
)
# Signs that also follow a letter in good text; then no letter follows them.
_PUNCTUATION = set("\u00a0\u00ab\u00bb\u2018\u2019\u201a\u201c\u201d\u201e\u2013\u2014\u2026\u2122")


def _mojibake(sample: str) -> Iterator[str]:
    """Yield the places that look like mojibake, three characters of each."""
    for start in _MOJIBAKE_STARTS:
        place = sample.find(start)
        while place >= 0:
            end = place + len(start)
            second, third = sample[end : end + 1], sample[end + 1 : end + 2]
            natural = second in _PUNCTUATION and not third.isalpha()
            if second in _MOJIBAKE_SECONDS and not natural:
                yield sample[place : place + 3]
            place = sample.find(start, place + 1)


def _mixes_normal_forms(present: NDArray[np.int64], sample: str) -> bool:
    characters = [chr(c) for c in present]
    composed = any(
        unicodedata.decomposition(c) and not unicodedata.is_normalized("NFD", c) for c in characters
    )
    decomposed = any(unicodedata.combining(c) for c in characters)
    return composed and decomposed and not unicodedata.is_normalized("NFC", sample)
