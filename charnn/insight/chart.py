"""Text charts: curves drawn with the dots of braille characters, for a terminal."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

Points = Sequence[tuple[float, float]]  # x and y, by x; a point that is not finite is a gap

_EMPTY, _RULE, _MARK = "\u2800", "\u2504", "o"
# The bit of each dot of a braille character, by row and column (Unicode block U+2800).
_BITS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
_LONG = 1e6  # from which on a number is written as a power of ten
_ROWS, _COLUMNS = len(_BITS), len(_BITS[0])  # dots in a character


@dataclass
class Chart:
    """A grid of characters with fixed axes. Points outside of the axes are not drawn."""

    x: tuple[float, float]
    y: tuple[float, float]
    log: bool = False  # whether the y axis is logarithmic
    width: int = 64  # in characters, without labels
    height: int = 12
    _dots: dict[tuple[int, int], int] = field(default_factory=dict)  # by row and column
    _marks: dict[tuple[int, int], str] = field(default_factory=dict)

    def line(self, points: Points) -> None:
        """Draw a line of dots through the points."""
        before: tuple[float, float] | None = None
        for point in points:
            here = self._place(*point)
            if here is not None:
                for across, down in self._between(before or here, here):
                    self._dot(round(across), round(down))
            before = here

    def marks(self, points: Points) -> None:
        """Draw an `o` at each point, in front of the lines."""
        for point in points:
            if (here := self._place(*point)) is not None:
                row, column = round(here[1]) // _ROWS, round(here[0]) // _COLUMNS
                if 0 <= row < self.height and 0 <= column < self.width:
                    self._marks[row, column] = _MARK

    def rule(self, y: float) -> None:
        """Draw a broken horizontal line at `y`, behind the curves."""
        if (here := self._place(self.x[0], y)) is not None:
            row = round(here[1]) // _ROWS
            for column in range(self.width):
                if (row, column) not in self._dots:
                    self._marks.setdefault((row, column), _RULE)

    def lines(self) -> list[str]:
        """Return the rows from top to bottom, with labels on the y axis and below the x axis."""
        labels = [self._label(row) for row in range(self.height)]
        room = max(map(len, labels))
        rows = [f"{label:>{room}} │{self._row(row)}" for row, label in enumerate(labels)]
        first, last = (f"{end:,.0f}" for end in self.x)
        return [*rows, f"{'':{room}} └{'─' * self.width}",
                f"{'':{room}}  {first}{last:>{self.width - len(first)}}"]  # fmt: skip

    def _row(self, row: int) -> str:
        cells = [(row, column) for column in range(self.width)]
        return "".join(
            self._marks.get(cell, chr(ord(_EMPTY) + self._dots.get(cell, 0))) for cell in cells
        ).rstrip(_EMPTY)

    def _label(self, row: int) -> str:
        """Return the number that labels a row: at the top, in the middle and at the bottom."""
        if row not in (0, self.height // 2, self.height - 1):
            return ""
        low, high = self._scaled(self.y[0]), self._scaled(self.y[1])
        at = high - (high - low) * row / (self.height - 1)
        if self.log:
            return f"{10**at:.0e}"
        return f"{at:.2f}" if abs(at) < _LONG else f"{at:.1e}"

    def _scaled(self, y: float) -> float:
        if not self.log:
            return y
        return math.log10(y) if y > 0 else -math.inf

    def _place(self, x: float, y: float) -> tuple[float, float] | None:
        """Return where a point lies, in dots from the upper left corner; it may be outside.

        Return None for a point that is not finite.
        """
        down, low, high = (self._scaled(value) for value in (y, *self.y))
        if not (math.isfinite(x) and math.isfinite(down)):
            return None
        left, right = self.x
        across = (x - left) / ((right - left) or 1.0)
        rest = (high - down) / ((high - low) or 1.0)
        return across * (self.width * _COLUMNS - 1), rest * (self.height * _ROWS - 1)

    def _between(
        self, start: tuple[float, float], end: tuple[float, float]
    ) -> Iterator[tuple[float, float]]:
        """Yield points on a straight line from `start` to `end`, at most one dot apart.

        Those of a line that lies far outside of the axes are left out, however long it is.
        """
        size = self.width * _COLUMNS, self.height * _ROWS
        first, last = 0.0, 1.0  # share of the line that can be seen (Liang and Barsky)
        for begin, finish, dots in zip(start, end, size, strict=True):
            length = finish - begin
            ends = sorted((edge - begin) / length for edge in (-1, dots)) if length else []
            if ends:
                first, last = max(first, ends[0]), min(last, ends[1])
            elif not -1 <= begin <= dots:
                return
        if first > last:
            return
        longest = (last - first) * max(abs(b - a) for a, b in zip(start, end, strict=True))
        count = math.ceil(longest) or 1
        for n in range(count + 1):
            share = first + (last - first) * n / count
            yield start[0] + (end[0] - start[0]) * share, start[1] + (end[1] - start[1]) * share

    def _dot(self, across: int, down: int) -> None:
        cell = down // _ROWS, across // _COLUMNS
        if 0 <= cell[0] < self.height and 0 <= cell[1] < self.width:
            self._dots[cell] = self._dots.get(cell, 0) | _BITS[down % _ROWS][across % _COLUMNS]
