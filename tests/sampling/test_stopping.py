"""A stop ends a text however the text is cut into pieces."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from charnn.errors import SettingError
from charnn.sampling.stopping import StopCriteria, StopScanner

TEXT = st.text("ab", max_size=30)


@given(
    st.lists(st.text("ab", max_size=4), max_size=20),
    st.lists(st.text("ab", min_size=1, max_size=5), max_size=3),
    st.booleans(),
)
def test_a_text_ends_at_the_first_complete_stop(
    pieces: list[str], stops: list[str], keep: bool
) -> None:
    scanner, shown = StopScanner(StopCriteria(tuple(stops), keep), str.encode), ""
    for piece in pieces:
        shown += scanner.feed(piece.encode()).decode()
        if scanner.met:
            break
    shown += scanner.rest().decode()
    text = "".join(pieces)
    ends = [(text.index(stop) + len(stop), -len(stop)) for stop in stops if stop in text]
    assert scanner.met == bool(ends)
    end, minus = min(ends, default=(len(text), 0))
    assert shown == text[: end if keep else end + minus]


@given(TEXT, st.lists(st.text("ab", min_size=1, max_size=5), min_size=1, max_size=3))
def test_no_more_is_held_back_than_may_start_a_stop(text: str, stops: list[str]) -> None:
    scanner = StopScanner(StopCriteria(tuple(stops)), str.encode)
    shown, fed = "", ""
    for character in text:
        shown += scanner.feed(character.encode()).decode()
        fed += character
        if scanner.met:
            return
        held_back = fed.removeprefix(shown)
        assert shown + held_back == fed
        assert any(stop.startswith(held_back) and held_back != stop for stop in stops)


def test_an_empty_stop_is_refused() -> None:
    with pytest.raises(SettingError, match="an empty `stop` would end every text"):
        StopCriteria(("a", ""))
