"""Properties agree with examples marked by hand, and patterns with `re.search`."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from charnn.insight.properties import PROPERTIES, pattern

TEXTS = st.text(st.sampled_from('ab1A \n"()[]{}“”\\'), max_size=60)


def marked(name: str, text: str) -> str:
    """The text with an underscore for each character inside."""
    values = PROPERTIES[name](text)
    return "".join("_" if value else c for c, value in zip(text, values, strict=True))


@pytest.mark.parametrize(
    ("text", "inside"),
    [
        ('a "b c" d', 'a ____" d'),
        ('"a" "b"', '__" __"'),
        ('"" a', '_" a'),
        ("“a b” c", "____” c"),
        ("it's 'so'", "it's 'so'"),
        (r'"a\"b" c', r'_____" c'),
        ('"a\nb" c', '____" c'),
        ('"a\n\nb" c', '"a\n\nb" c'),  # a quotation ends with its paragraph
        ('f("""a\n\nb""") c', 'f(_______""") c'),
        (
            'end" he said. "So" be',
            'end" he said. ___" be',
        ),  # begins inside a quotation
        ('end."""\n  """Doc.""" x', 'end."""\n  _______""" x'),
        ('a 5" b', 'a 5" b'),
    ],
)
def test_quotes(text: str, inside: str) -> None:
    assert marked("quotes", text) == inside


@pytest.mark.parametrize(
    ("text", "inside"),
    [
        ("f(a[1], {}) + g", "f_________) + g"),
        (") a (b", ") a __"),
        ("(a\n\nb) c", "___\nb) c"),
        ("(a]b", "__]b"),
    ],
)
def test_brackets(text: str, inside: str) -> None:
    assert marked("brackets", text) == inside


def test_the_position_in_the_line_is_0_at_a_newline() -> None:
    text = "ab\n\ncde\nf"
    assert PROPERTIES["line"](text).tolist() == [1, 2, 0, 0, 1, 2, 3, 0, 1]


def test_classes_of_characters_follow_unicode() -> None:
    text = "Aé1 \t\nÉ²"
    expected = {"newline": [5], "capital": [0, 6], "digit": [2], "space": [3, 4]}
    for name, places in expected.items():
        assert np.flatnonzero(PROPERTIES[name](text)).tolist() == places


@given(TEXTS)
def test_every_property_has_a_number_for_each_character(text: str) -> None:
    for name, function in PROPERTIES.items():
        values = function(text)
        assert values.shape == (len(text),)
        assert values.min(initial=0) >= 0
        assert name == "line" or values.max(initial=0) <= 1


@given(TEXTS, st.sampled_from(["a+", r"\w+ ", "[ab]1|b", "^b", "x", "(a)|1", ""]))
def test_a_pattern_is_1_inside_its_matches(text: str, regex: str) -> None:
    expected, place = [0.0] * len(text), 0
    while place <= len(text):  # the next match after the last one
        match = re.compile(regex, re.MULTILINE).search(text, place)
        if match is None:
            break
        for inside in range(*match.span()):
            expected[inside] = 1.0
        place = max(match.end(), place + 1) if match.end() > match.start() else match.end() + 1
    assert pattern(re.compile(regex))(text).tolist() == expected
