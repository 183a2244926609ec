"""A count and its noun agree."""

from hypothesis import given
from hypothesis import strategies as st

from charnn.cli.progress import duration
from charnn.words import about, plural, shown

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


@given(st.floats(1e-8, 1e12))
def test_a_number_is_never_a_power_of_ten(value: float) -> None:
    plain = about(value)
    assert "e" not in plain
    assert float(plain.replace(",", "")) == float(f"{value:.2g}")


def test_one_second_is_not_seconds() -> None:
    assert [duration(s) for s in (0.6, 1.4, 2, 150)] == [
        "1 second", "1 second", "2 seconds", "2.5 minutes",
    ]  # fmt: skip


def test_any_value_is_shown_in_one_short_line() -> None:
    class Broken:
        def __repr__(self) -> str:
            raise ValueError

    for value in ("a\nb", "x" * 10**6, 10**10_000, Broken(), None):
        assert len(shown(value)) <= 81
        assert "\n" not in shown(value)
