"""Curves as plain text: dots of braille, for a terminal or a report."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

Points = Sequence[tuple[float, float]]  # from left to right; one that is not finite is a gap

_EMPTY, _RULE, _MARK = "\u2800", "\u2504", "o"
# Which bit of a braille sign is the dot in a row and a column (Unicode, block U+2800).
_BITS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
_ROWS, _COLUMNS = len(_BITS), len(_BITS[0])  # of dots in a sign


@dataclass
class Chart:
    """Characters to draw on, within fixed ranges; what lies outside of them is not drawn."""

    x: tuple[float, float]
    y: tuple[float, float]
    log: bool = False  # the y axis
    width: int = 64  # characters, without the labels
    height: int = 12
    _dots: dict[tuple[int, int], int] = field(default_factory=dict)  # by row and column
    _signs: dict[tuple[int, int], str] = field(default_factory=dict)

    def line(self, points: Points) -> None:
        """Join the points by a line of dots."""
        before: tuple[float, float] | None = None
        for point in points:
            here = self._place(*point)
            if here is not None:
                for across, down in _between(before or here, here):
                    self._dot(round(across), round(down))
            before = here

    def marks(self, points: Points) -> None:
        """Put a sign on each point."""
        for point in points:
            if (here := self._place(*point)) is not None:
                row, column = round(here[1]) // _ROWS, round(here[0]) // _COLUMNS
                if 0 <= row < self.height and 0 <= column < self.width:
                    self._signs[row, column] = _MARK

    def rule(self, y: float) -> None:
        """Draw a broken line across, behind the curves."""
        if (here := self._place(self.x[0], y)) is not None:
            row = round(here[1]) // _ROWS
            for column in range(self.width):
                if (row, column) not in self._dots:
                    self._signs.setdefault((row, column), _RULE)

    def lines(self) -> list[str]:
        """The rows from top to bottom, with numbers at the left of some and below the last."""
        labels = [self._label(row) for row in range(self.height)]
        room = max(map(len, labels))
        rows = [f"{label:>{room}} │{self._row(row)}" for row, label in enumerate(labels)]
        first, last = (f"{end:,.0f}" for end in self.x)
        return [*rows, f"{'':{room}} └{'─' * self.width}",
                f"{'':{room}}  {first}{last:>{self.width - len(first)}}"]  # fmt: skip

    def _row(self, row: int) -> str:
        cells = [(row, column) for column in range(self.width)]
        return "".join(
            self._signs.get(cell, chr(ord(_EMPTY) + self._dots.get(cell, 0))) for cell in cells
        ).rstrip(_EMPTY)

    def _label(self, row: int) -> str:
        """Numbers at the top, in the middle and below."""
        if row not in (0, self.height // 2, self.height - 1):
            return ""
        low, high = self._scaled(self.y[0]), self._scaled(self.y[1])
        at = high - (high - low) * row / (self.height - 1)
        return f"{10**at:.0e}" if self.log else f"{at:.2f}"

    def _scaled(self, y: float) -> float:
        if not self.log:
            return y
        return math.log10(y) if y > 0 else -math.inf

    def _place(self, x: float, y: float) -> tuple[float, float] | None:
        """Where a point lies, in dots from the upper left; it may be outside."""
        down, low, high = (self._scaled(value) for value in (y, *self.y))
        if not (math.isfinite(x) and math.isfinite(down)):
            return None
        left, right = self.x
        across = (x - left) / ((right - left) or 1.0)
        rest = (high - down) / ((high - low) or 1.0)
        return across * (self.width * _COLUMNS - 1), rest * (self.height * _ROWS - 1)

    def _dot(self, across: int, down: int) -> None:
        cell = down // _ROWS, across // _COLUMNS
        if 0 <= cell[0] < self.height and 0 <= cell[1] < self.width:
            self._dots[cell] = self._dots.get(cell, 0) | _BITS[down % _ROWS][across % _COLUMNS]


def _between(start: tuple[float, float], end: tuple[float, float]) -> Points:
    """The points of a straight line, a dot apart or less."""
    count = math.ceil(max(abs(b - a) for a, b in zip(start, end, strict=True))) or 1
    return [
        (start[0] + (end[0] - start[0]) * n / count, start[1] + (end[1] - start[1]) * n / count)
        for n in range(count + 1)
    ]
