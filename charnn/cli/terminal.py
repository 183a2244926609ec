"""Text on its way to a terminal: status lines, log records, colour and control characters.

stdout carries the product (`show`) and stderr the story of it (`status`, log records). A model
writes what it has read, and a file name or a damaged checkpoint may hold anything; control
characters can move the cursor, change colours or worse. A terminal therefore gets them as visible
symbols, and a pipe or a file gets the exact text.
"""

import ast
import contextlib
import logging
import os
import re
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import IO, Any, cast

import click

LOGGER = logging.getLogger("charnn")


def _picture(code: int) -> str:
    """Return the control picture of a C0 character or DEL, and the hex code of any other."""
    if code < 0x20:
        return chr(0x2400 + code)
    return "\u2421" if code == 0x7F else f"\\x{code:02x}"


# C0 except tab and newline, DEL, and C1, which some terminals read as escape sequences.
_PICTURES = {
    code: _picture(code) for code in (*range(0x20), *range(0x7F, 0xA0)) if code not in (9, 10)
}


def visible(text: str) -> str:
    """Return `text` with its control characters replaced by visible symbols."""
    return text.translate(_PICTURES)


def for_stream(text: str, stream: IO[str]) -> str:
    """Return `text` as it may be written to `stream`: made visible only for a terminal."""
    return visible(text) if stream.isatty() else text


def use_color(stream: IO[str]) -> bool:
    """Return True if `stream` takes colour: a terminal does, unless the environment decides.

    A non-empty NO_COLOR turns colour off, otherwise a non-empty FORCE_COLOR turns it on, as in
    Python itself (https://no-color.org, https://force-color.org).
    """
    if os.environ.get("NO_COLOR"):
        return False
    return bool(os.environ.get("FORCE_COLOR")) or stream.isatty()


class _SafeStderr:
    """stderr that survives a closed pipe and a full disk, since only the product matters."""

    def write(self, text: str) -> None:
        """Write `text` if stderr still takes it."""
        with contextlib.suppress(OSError):
            sys.stderr.write(text)

    def flush(self) -> None:
        """Flush stderr if it can be flushed."""
        with contextlib.suppress(OSError):
            sys.stderr.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.stderr, name)


STDERR = cast(IO[str], _SafeStderr())


def show(line: str) -> None:
    """Print one line of the product on stdout."""
    line = line.encode("utf-8", "replace").decode()  # a damaged file may hold half a character
    click.echo(for_stream(line, sys.stdout))


def status(message: str) -> None:
    """Print one status line on stderr."""
    LOGGER.info(message)


def set_quiet() -> None:
    """Print only errors from here on."""
    LOGGER.setLevel(logging.ERROR)


def is_quiet() -> bool:
    """Return True if only errors are printed, so that no progress is shown either."""
    return not LOGGER.isEnabledFor(logging.INFO)


_SETTING = re.compile(r"`([a-z][a-z0-9_]*)(?:=([^`]*))?`")


def settings_as_options(message: str, options: Callable[[], Mapping[str, str]]) -> str:
    """Return `message` with each setting in backticks written as a command-line option.

    `options` returns the option of each setting; it is called only if the message has a candidate.

        `seq_len`            ->  --seq-len
        `hidden_size=128`    ->  --hidden-size 128
        `tokenizer="byte"`   ->  --tokenizer byte
        `force=True`         ->  --force
    """

    def option(match: re.Match[str]) -> str:
        name, value = match.groups()
        flag = options().get(name)
        if flag is None:
            return match[0]
        return flag if value in (None, "True") else f"{flag} {_typed(value)}"

    return _SETTING.sub(option, message)


def _typed(value: str) -> str:
    """Return a Python literal as a user would type it in a shell; None is `inf`, without end."""
    try:
        plain = ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return value  # a placeholder such as NAME
    if plain is None:
        return "inf"
    return shlex.quote(plain) if isinstance(plain, str) else str(plain)


class LogHandler(logging.Handler):
    """Print log records on stderr, warnings as `note: …` and errors as `error: …`."""

    def __init__(self, options: Callable[[], Mapping[str, str]]) -> None:
        super().__init__()
        self._options = options

    def emit(self, record: logging.LogRecord) -> None:
        """Print one record, above any progress bar."""
        error, warning = record.levelno >= logging.ERROR, record.levelno >= logging.WARNING
        prefix = "error: " if error else "note: " if warning else ""
        message = settings_as_options(record.getMessage(), self._options)
        with _without_bars():
            click.echo(for_stream(prefix + message, sys.stderr), STDERR)


def _without_bars() -> AbstractContextManager[None]:
    """Hide the progress bars on stderr within the block; they are not loaded just for this."""
    tqdm = sys.modules.get("tqdm")
    return contextlib.nullcontext() if tqdm is None else tqdm.tqdm.external_write_mode(STDERR)


@contextlib.contextmanager
def logging_to_stderr(options: Callable[[], Mapping[str, str]]) -> Iterator[None]:
    """Print what charnn logs on stderr within the block; see `LogHandler`."""
    handler, before = LogHandler(options), (LOGGER.level, LOGGER.propagate)
    LOGGER.addHandler(handler)
    LOGGER.setLevel(logging.INFO)
    LOGGER.propagate = False
    try:
        yield
    finally:
        LOGGER.removeHandler(handler)
        level, LOGGER.propagate = before
        LOGGER.setLevel(level)
