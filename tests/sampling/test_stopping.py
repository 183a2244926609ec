"""A stop ends a text wherever its pieces are cut."""

from hypothesis import given
from hypothesis import strategies as st

from charnn.sampling.stopping import StopCriteria, StopScanner

TEXT = st.text("ab", max_size=30)


@given(
    st.lists(st.text("ab", max_size=4), max_size=20),
    st.lists(st.text("ab", min_size=1, max_size=5), max_size=3),
    st.booleans(),
)
def test_a_text_ends_at_the_stop_that_is_complete_first(
    pieces: list[str], stops: list[str], keep: bool
) -> None:
    passing, shown = StopScanner(StopCriteria(tuple(stops), keep)), ""
    for piece in pieces:
        shown += passing.feed(piece)
        if passing.met:
            break
    shown += passing.rest()
    text = "".join(pieces)
    ends = [(text.index(stop) + len(stop), -len(stop)) for stop in stops if stop in text]
    assert passing.met == bool(ends)
    end, minus = min(ends, default=(len(text), 0))
    assert shown == text[: end if keep else end + minus]


@given(TEXT, st.lists(st.text("ab", min_size=1, max_size=5), min_size=1, max_size=3))
def test_no_more_is_held_back_than_may_begin_a_stop(text: str, stops: list[str]) -> None:
    passing, shown, fed = StopScanner(StopCriteria(tuple(stops))), "", ""
    for character in text:
        shown, fed = shown + passing.feed(character), fed + character
        if passing.met:
            return
        held = fed.removeprefix(shown)
        assert shown + held == fed
        assert any(stop.startswith(held) and held != stop for stop in stops)
