"""Properties of the characters of a text: inside quotes, inside brackets, a capital letter, …

A property is a function from a text to one number for each character, the value right after that
character was read. So "inside quotes" is 1 at the opening quote and 0 at the closing one.
"""

import re
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]  # [N], one for each character of a text
Property = Callable[[str], Values]

# A quote without a partner, such as when a text begins in the middle of a quotation, must not swap
# inside and outside for the rest of the text. So a straight quotation ends with its paragraph, and
# a quote followed by a letter or digit closes nothing. Three quotes in a row are Python's and may
# enclose paragraphs. Single quotes are ignored, because they look like apostrophes.
_QUOTATION = re.compile(
    r'"""(?P<long>(?:(?!""")[\s\S])*)"""(?!\w)'
    r'|"""'  # without a partner
    r'|"(?P<straight>(?:\\.|[^"\\\n]|\\?\n(?!\n))*)"(?!\w)'
    r"|“(?P<curly>[^”]*)”"
)


def quotes(text: str) -> Values:
    """Return 1 inside double quotes, straight or curly, and 0 elsewhere.

    The opening quote counts as inside, the closing one as outside.
    """
    matches = (match for match in _QUOTATION.finditer(text) if match.lastgroup)
    return _inside([(m.start(), m.end(m.lastgroup or "")) for m in matches], len(text))


def brackets(text: str) -> Values:
    """Return 1 inside (), [] or {} at any depth, and 0 elsewhere.

    The opening bracket counts as inside, the closing one as outside. An empty line closes all
    brackets that are still open.
    """
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


def _test_each(test: Callable[[str], bool]) -> Property:
    """Return the property that is 1 for the characters that pass the test."""
    return lambda text: np.array([test(character) for character in text], np.float64)


newline = _test_each(lambda character: character == "\n")
capital = _test_each(str.isupper)
digit = _test_each(str.isdecimal)
space = _test_each(lambda character: character in " \t")


def line(text: str) -> Values:
    """Return the position in the line: 0 for a newline, 1 for the first character after it."""
    places = np.arange(len(text))
    ends = np.where(newline(text) > 0, places, -1)
    return (places - np.maximum.accumulate(ends)).astype(np.float64)


def pattern(regex: "re.Pattern[str]") -> Property:
    """Return the property that is 1 inside a match of `regex`, from its first to its last
    character.

    Matches do not overlap. `^` and `$` match at the start and end of each line.
    """
    by_lines = re.compile(regex.pattern, regex.flags | re.MULTILINE)
    return lambda text: _inside([match.span() for match in by_lines.finditer(text)], len(text))


PROPERTIES: dict[str, Property] = {
    "quotes": quotes,
    "brackets": brackets,
    "line": line,
    "newline": newline,
    "capital": capital,
    "digit": digit,
    "space": space,
}


def _inside(spans: list[tuple[int, int]], length: int) -> Values:
    """Return 1 inside the spans, and 0 elsewhere."""
    values = np.zeros(length)
    for start, end in spans:
        values[start:end] = 1
    return values
