"""Does the text look as its owner thinks it does?"""

import unicodedata
from collections import Counter
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

RARE = 10  # a character seen fewer times than this is hardly learned
DUPLICATE_LINE_LENGTH = 20  # shorter lines ("}", "Chorus:") repeat in healthy texts


def warnings_about(counts: NDArray[np.int64], sample: str) -> Iterator[str]:
    """One line for each thing that looks wrong, from exact counts and the text's beginning."""
    present = np.flatnonzero(counts)
    rare = present[counts[present] < RARE]
    if len(rare) >= 20 and len(rare) * 4 >= len(present):
        yield (
            f"{len(rare)} of {len(present)} characters occur fewer than {RARE} times; "
            f"--min-count {RARE} folds them into one"
        )
    if counts[0xFFFD]:
        yield f"U+FFFD stands {counts[0xFFFD]:,} times in the text: it was decoded wrongly once"
    mojibake = _mojibake(sample)
    if mojibake >= 3:
        yield (
            f"{mojibake:,} places such as {_example(sample)!r} look like UTF-8 read in another "
            "encoding; see --encoding"
        )
    if _mixes_normal_forms(present, sample):
        yield "accented letters come both composed (NFC) and decomposed (NFD); settle on one form"
    lines = [line for line in sample.splitlines() if _is_prose(line)]
    repeated = len(lines) - len(set(lines))
    if len(lines) >= 20 and repeated * 3 >= len(lines):
        common = Counter(lines).most_common(1)[0][0]
        share = repeated / len(lines)
        yield f"{share:.0%} of the longer lines are repeats, such as {common[:40]!r}"


def _is_prose(line: str) -> bool:
    return 2 * sum(map(str.isalpha, line)) >= len(line) >= DUPLICATE_LINE_LENGTH


# UTF-8's first bytes of accented letters and typographic signs, as they look in Latin-1 or cp1252.
_MOJIBAKE_STARTS = ("\u00c3", "\u00c2", "\u00e2\u20ac", "\u00d0", "\u00d1")
_MOJIBAKE_SECONDS = {chr(c) for c in range(0x80, 0xC0)} | set(
    bytes(range(0x80, 0xA0)).decode("cp1252", "ignore")
)


def _places(sample: str) -> Iterator[int]:
    for start in _MOJIBAKE_STARTS:
        place = sample.find(start)
        while place >= 0:
            if sample[place + len(start) : place + len(start) + 1] in _MOJIBAKE_SECONDS:
                yield place
            place = sample.find(start, place + 1)


def _mojibake(sample: str) -> int:
    return sum(1 for _ in _places(sample))


def _example(sample: str) -> str:
    place = next(_places(sample))
    return sample[place : place + 3]


def _mixes_normal_forms(present: NDArray[np.int64], sample: str) -> bool:
    characters = [chr(c) for c in present]
    composed = any(
        unicodedata.decomposition(c) and not unicodedata.is_normalized("NFD", c) for c in characters
    )
    decomposed = any(unicodedata.combining(c) for c in characters)
    return composed and decomposed and not unicodedata.is_normalized("NFC", sample)
