"""The progress bar of every command that takes long."""

import os
import sys
from typing import TYPE_CHECKING, Any

from charnn.cli.terminal import STDERR, is_quiet

if TYPE_CHECKING:
    from tqdm import tqdm

WIDE = "{percentage:3.0f}%|{bar}| {rate_fmt}, {remaining} left{postfix}"
NARROW = "{percentage:3.0f}%|{bar}| {remaining} left"
ENDLESS = "{n_fmt} {unit}, {rate_fmt}"
NARROW_COLUMNS = 70  # in which the bar itself would have no room beside everything else


def progress_bar(
    total: float | None, unit: str, *, initial: float = 0, hidden: bool = False
) -> "tqdm[Any]":
    """Return a progress bar on stderr, of `total` units; only a terminal shows it."""
    from tqdm import tqdm

    return tqdm(
        total=total, initial=initial, unit=unit, unit_scale=True, dynamic_ncols=True, file=STDERR,
        disable=hidden or is_quiet() or not sys.stderr.isatty(), bar_format=_format(total),
    )  # fmt: skip


def _format(total: float | None) -> str:
    if total is None:
        return ENDLESS
    try:
        narrow = os.get_terminal_size(sys.stderr.fileno()).columns < NARROW_COLUMNS
    except (OSError, ValueError):  # no terminal
        narrow = False
    return NARROW if narrow else WIDE
