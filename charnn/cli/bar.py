"""The progress bar of every command that takes long; it is gone when the work ends."""

import sys
from collections.abc import Callable
from typing import Any

from tqdm import tqdm

from charnn.cli.columns import empty_line, stderr_columns
from charnn.cli.terminal import STDERR, is_dumb, is_quiet

WIDE = "{percentage:3.0f}%|{bar}| {rate_fmt}, {remaining} left{postfix}"
NARROW = "{percentage:3.0f}%|{bar}| {remaining} left"
ENDLESS = "{n_fmt} {unit}, {rate_fmt}    "  # the spaces cover the end of a longer line
NARROW_COLUMNS = 70  # in which the bar itself would have no room beside everything else
FREE_COLUMNS = 3  # right of the bar: a terminal shows ^C there, which would else break the line


class _Bar(tqdm):  # type: ignore[type-arg]  # generic only for type checkers
    """A bar that leaves its line empty, also of the ^C that a terminal adds."""

    @property
    def format_dict(self) -> Any:
        return {**super().format_dict, "ncols": stderr_columns() - FREE_COLUMNS}

    @staticmethod
    def status_printer(file: Any) -> Callable[[str], None]:
        def show(line: str) -> None:
            file.write(f"\r{line}" if line else empty_line())
            file.flush()

        return show


def progress_bar(
    total: float | None, unit: str, *, initial: float = 0, hidden: bool = False
) -> "tqdm[Any]":
    """Return a progress bar on stderr, of `total` units; only a terminal shows it."""
    hidden = hidden or is_quiet() or is_dumb() or not sys.stderr.isatty()
    return _Bar(
        total=total, initial=initial, unit=unit, unit_scale=True, leave=False, file=STDERR,
        disable=hidden, bar_format=_format(total),
    )  # fmt: skip


def _format(total: float | None) -> str:
    if total is None:
        return ENDLESS
    return NARROW if stderr_columns() < NARROW_COLUMNS else WIDE
