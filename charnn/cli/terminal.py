"""Text that nobody vouched for, on its way to a terminal.

A model writes what it has read, and a file name or a damaged checkpoint may hold anything. Control
characters move the cursor, change colours or worse; a terminal gets them as visible signs, and a
pipe or a file gets the exact text.
"""

import contextlib
import sys
from typing import IO, Any, cast

import click


def _sign(code: int) -> str:
    """The control picture of a C0 character, or the code of another."""
    if code < 0x20:
        return chr(0x2400 + code)
    return "\u2421" if code == 0x7F else f"\\x{code:02x}"


# C0 but for tab and newline, DEL, and C1, whose members are escape sequences to some terminals.
_SIGNS = {code: _sign(code) for code in (*range(0x20), *range(0x7F, 0xA0)) if code not in (9, 10)}


def visible(text: str) -> str:
    """`text` with control characters as signs."""
    return text.translate(_SIGNS)


def for_stream(text: str, stream: IO[str]) -> str:
    """`text` as it may be written to `stream`: exactly, unless that is a terminal."""
    return visible(text) if stream.isatty() else text


class Story:
    """stderr, but a reader that has gone away or a disk that is full ends nothing: the product
    counts."""

    def write(self, text: str) -> None:
        """Write what can be written."""
        with contextlib.suppress(OSError):
            sys.stderr.write(text)

    def flush(self) -> None:
        """Flush what can be flushed."""
        with contextlib.suppress(OSError):
            sys.stderr.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.stderr, name)


STORY = Story()


def tell(message: str, quiet: bool = False) -> None:
    """One line of the story, on stderr."""
    if not quiet:
        click.echo(for_stream(message, sys.stderr), cast(IO[str], STORY))


def show(line: str) -> None:
    """One line of the product, on stdout."""
    line = line.encode("utf-8", "replace").decode()  # a damaged file may hold half a character
    click.echo(for_stream(line, sys.stdout))
