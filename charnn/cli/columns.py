"""Columns of a terminal: how many it has, and how many a text takes."""

import os
import shutil
import sys
import unicodedata

WIDEST, NARROWEST = 80, 30  # columns of a table, in a pipe and in a narrow terminal


def screen_columns() -> int:
    """Return the columns that a table may take: those of the terminal, 80 at most."""
    return max(NARROWEST, min(WIDEST, shutil.get_terminal_size((WIDEST, 24)).columns))


def stderr_columns() -> int:
    """Return the columns of the terminal that shows stderr."""
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or WIDEST  # some say 0
    except (OSError, ValueError):  # no terminal
        return WIDEST


def empty_line() -> str:
    """Return what empties the line of stderr's terminal that the cursor is in."""
    return f"\r{' ' * (stderr_columns() - 1)}\r"


def columns(text: str) -> int:
    """Return the columns that a text takes: 2 for a wide character, 0 for one that combines.

    >>> columns("ab"), columns("字"), columns("e\\u0301"), columns("\\u200d")
    (2, 2, 1, 0)
    """
    return sum(map(_columns_of, text))


def _columns_of(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def padded(text: str, width: int) -> str:
    """Return a text filled up with spaces to `width` columns."""
    return text + " " * (width - columns(text))
