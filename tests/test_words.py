"""A count and its noun agree."""

from hypothesis import given
from hypothesis import strategies as st

from charnn.words import plural

NOUNS = st.text("abc", min_size=1)


@given(st.integers(), NOUNS)
def test_only_a_count_of_one_takes_the_singular(count: int, noun: str) -> None:
    assert plural(count, noun) == f"{count:,} {noun}" + "s" * (count != 1)


@given(st.integers(), NOUNS, NOUNS)
def test_an_irregular_plural_is_used_where_a_regular_one_would_be(
    count: int, one: str, many: str
) -> None:
    assert plural(count, one, many) == f"{count:,} {one if count == 1 else many}"


def test_thousands_are_grouped() -> None:
    assert plural(1_234_567, "character") == "1,234,567 characters"
