"""Text charts: dots are where the points are, and nothing is drawn outside of the axes."""

import math

import pytest

from charnn.insight.chart import Chart

BLANK = "\u2800"


def body(chart: Chart) -> list[str]:
    """The rows without labels and axes, filled up to their full width."""
    rows = [row.split("│")[1] for row in chart.lines()[:-2]]
    return [row.ljust(chart.width, BLANK) for row in rows]


def test_a_rising_line_goes_from_the_lower_left_to_the_upper_right() -> None:
    chart = Chart((0, 1), (0, 1), width=5, height=5)
    chart.line([(0, 0), (1, 1)])
    rows = body(chart)
    first = [next(n for n, sign in enumerate(row) if sign != BLANK) for row in rows]
    assert first == [4, 3, 2, 1, 0]


def test_a_flat_line_fills_one_row_at_its_height() -> None:
    chart = Chart((0, 9), (0, 8), width=6, height=3)
    chart.line([(0, 8), (9, 8)])
    assert body(chart) == ["⠉" * 6, BLANK * 6, BLANK * 6]
    assert [row.split("│")[0].strip() for row in chart.lines()[:3]] == ["8.00", "4.00", "0.00"]


def test_equal_ratios_are_equal_heights_on_a_log_axis() -> None:
    chart = Chart((0, 2), (1e-4, 1), log=True, width=6, height=5)
    chart.line([(0, 1), (1, 1e-2), (2, 1e-4)])
    straight = Chart((0, 2), (-4, 0), width=6, height=5)
    straight.line([(0, 0), (1, -2), (2, -4)])
    assert body(chart) == body(straight)
    assert chart.lines()[0].startswith("1e+00 │")


def test_points_that_are_outside_or_not_finite_are_not_drawn() -> None:
    inside = [(0.0, 0.5), (0.2, 0.5)]
    chart, odd = (Chart((0, 1), (0, 1), width=5, height=4) for _ in range(2))
    chart.line(inside)
    odd.line([*inside, (0.5, math.nan), (0.7, math.inf), (0.8, 7.0), (2.0, 7.0)])
    odd.marks([(0.5, math.nan), (0.5, 2.0), (-1.0, 0.5)])
    assert odd.lines() == chart.lines()
    log = Chart((0, 1), (0.1, 1), log=True)
    log.line([(0, 0.0), (1, -1.0)])
    assert set("".join(body(log))) == {BLANK}


def test_marks_cover_lines_and_lines_cover_rules() -> None:
    chart = Chart((0, 1), (0, 1), width=5, height=3)
    chart.line([(0, 0.5), (0.5, 0.5)])
    chart.rule(0.5)
    chart.marks([(0, 0.5)])
    row = body(chart)[1]
    assert row[0] == "o"
    assert row[1] not in "o┄"
    assert row[4] == "┄"


@pytest.mark.parametrize("value", [0.0, 3.0])
def test_a_range_of_one_value_is_drawn(value: float) -> None:
    chart = Chart((value, value), (value, value), width=3, height=2)
    chart.line([(value, value)])
    assert len(chart.lines()) == 4
