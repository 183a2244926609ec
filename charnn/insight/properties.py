"""What may be true of a place in a text: inside quotes, inside brackets, a capital, …

A property has a number for each character: what holds once it was read. So inside quotes begins
with the opening quote, and ends before the closing one.
"""

import re
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]  # [N], one for each character of a text

# A quote whose partner is missing, as where a text begins in the middle of a quotation, must not
# turn inside and outside about for all that follows. So a straight quotation ends with its
# paragraph, and a quote that a letter or digit follows closes none. Three quotes in a row are
# Python's, which enclose paragraphs too. Apostrophes are not looked at: nobody can tell them from
# quotes.
_QUOTATION = re.compile(
    r'"""(?P<long>(?:(?!""")[\s\S])*)"""(?!\w)'
    r'|"""'  # without a partner
    r'|"(?P<straight>(?:\\.|[^"\\\n]|\\?\n(?!\n))*)"(?!\w)'
    r"|“(?P<curly>[^”]*)”"
)


def quotes(text: str) -> Values:
    """Inside double quotes, straight or curly, from the opening one on, without the closing one."""
    matches = (match for match in _QUOTATION.finditer(text) if match.lastgroup)
    return _within([(m.start(), m.end(m.lastgroup or "")) for m in matches], len(text))


def brackets(text: str) -> Values:
    """Inside (), [] or {}, however deep, from the opening one on, without the closing one; an empty
    line ends what was left open."""
    depth, before, values = 0, "", np.zeros(len(text))
    for place, character in enumerate(text):
        if character in "([{":
            depth += 1
        elif character in ")]}":
            depth = max(0, depth - 1)
        elif character == before == "\n":
            depth = 0
        values[place], before = depth > 0, character
    return values


def _each(holds: Callable[[str], bool]) -> Callable[[str], Values]:
    """What holds of a character by itself."""
    return lambda text: np.array([holds(character) for character in text], np.float64)


newline = _each(lambda character: character == "\n")
capital = _each(str.isupper)
digit = _each(str.isdecimal)
space = _each(lambda character: character in " \t")


def line(text: str) -> Values:
    """Characters since the line began: 0 after a line end, 1 after the line's first character."""
    places = np.arange(len(text))
    ends = np.where(newline(text) > 0, places, -1)
    return (places - np.maximum.accumulate(ends)).astype(np.float64)


def pattern(regex: "re.Pattern[str]") -> Callable[[str], Values]:
    """Inside a match, from its first character to its last; matches do not overlap, and ^ and $
    are a line's."""
    by_lines = re.compile(regex.pattern, regex.flags | re.MULTILINE)
    return lambda text: _within([match.span() for match in by_lines.finditer(text)], len(text))


PROPERTIES: dict[str, Callable[[str], Values]] = {
    "quotes": quotes,
    "brackets": brackets,
    "line": line,
    "newline": newline,
    "capital": capital,
    "digit": digit,
    "space": space,
}


def _within(spans: list[tuple[int, int]], length: int) -> Values:
    """1 within the spans, 0 elsewhere."""
    values = np.zeros(length)
    for start, end in spans:
        values[start:end] = 1
    return values
