"""Warnings about a text that looks wrong: mojibake, mixed normal forms, duplicate lines."""

import re
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
    if len(rare) >= 20 and len(rare) * 4 >= len(present):
        count = _useful_min_count(counts[present])
        yield (
            f"{len(rare):,} of {len(present):,} characters in the vocabulary occur fewer than "
            f"{RARE} times"
            + (
                f"; `min_count={count}` replaces the rarest with one unknown symbol"
                if count
                else ""
            )
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
    proven, mojibake = _PROVEN.findall(sample), _MOJIBAKE.findall(sample)
    if len(proven) >= 2 and len(mojibake) >= 3:
        yield (
            f"{len(mojibake):,} places such as {proven[0]!r} look like UTF-8 that was decoded "
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


def _useful_min_count(counts: NDArray[np.int64]) -> int:
    """Return the largest `min_count` up to RARE that keeps most of a text; 0 if none does."""
    enough = (c for c in range(RARE, 1, -1) if 2 * counts[counts >= c].sum() > counts.sum())
    return next(enough, 0)


def _is_prose(line: str) -> bool:
    return 2 * sum(map(str.isalpha, line)) >= len(line) >= MIN_LINE_LENGTH


# A character of UTF-8 beyond ASCII is two or three bytes, whose values are the characters below if
# they were decoded as Latin-1 or cp1252. Some of those follow a letter in a correct text too, such
# as a closing quote or another letter, and prove nothing. Two bytes that begin with one of \xdc to
# \xdf, which are Ü, Ý, Þ and ß, would be Syriac, Thaana or N'Ko.
_CONTINUATION = {chr(c) for c in range(0x80, 0xC0)} | set(
    bytes(range(0x80, 0xA0)).decode("cp1252", "ignore")
)
_ORDINARY = set("”’»›“‘«‹„‚…–—\xa0\xad·•™®†‡²³¹°´ŠšŽžŒœŸ")  # noqa: RUF001 - on purpose
_ANY, _PROOF = (re.escape("".join(sorted(s))) for s in (_CONTINUATION, _CONTINUATION - _ORDINARY))
_MOJIBAKE, _PROVEN = (
    re.compile(rf"(?<!\d)[\xc2-\xdb][{two}]|[\xe0-\xef](?:[{_PROOF}][{_ANY}]|[{_ANY}][{_PROOF}])")
    for two in (_ANY, _PROOF)
)


def _mixes_normal_forms(present: NDArray[np.int64], sample: str) -> bool:
    characters = [chr(c) for c in present]
    composed = any(
        unicodedata.decomposition(c) and not unicodedata.is_normalized("NFD", c) for c in characters
    )
    decomposed = any(unicodedata.combining(c) for c in characters)
    return composed and decomposed and not unicodedata.is_normalized("NFC", sample)
