"""Text on its way to a terminal: status lines, log records, colour and control characters.

stdout carries the product (`show`, `show_path`) and stderr the story of it (`status`, log records).
A model writes what it has read, and a file name or a damaged checkpoint may hold anything: control
characters can move the cursor or change colours, a line end can forge a second line, and direction
marks can reorder one. `escaped` makes one line of such a text, wherever it goes; `visible` makes
running text harmless for a terminal. A pipe or a file gets running text and paths exactly.
"""

import ast
import contextlib
import logging
import os
import re
import shlex
import sys
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, Any, cast

import click

LOGGER = logging.getLogger("charnn")


# General categories of Unicode that are invisible or act on the text around them: control, format,
# surrogate, line separator, paragraph separator.
_ACTIVE = {"Cc", "Cf", "Cs", "Zl", "Zp"}
_REORDERS = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}  # bidirectional classes


def _symbol(code: int) -> str:
    """Return the control picture of a C0 character or DEL, and the hex code of any other."""
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "\u2421"
    if 0xDC80 <= code <= 0xDCFF:  # how Python reads a byte of a file name that is not UTF-8
        code -= 0xDC00
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


class _Symbols(dict[int, str]):
    """A table for `str.translate`: visible symbols for active characters, the others unchanged."""

    def __init__(self, is_harmless: Callable[[str], bool]) -> None:
        self._is_harmless = is_harmless

    def __missing__(self, code: int) -> str:
        character = chr(code)
        active = unicodedata.category(character) in _ACTIVE and not self._is_harmless(character)
        self[code] = _symbol(code) if active else character
        return self[code]


def _belongs_to_text(character: str) -> bool:
    """Return True for tabs, line ends, and the joiners that emoji and many scripts need."""
    is_format = unicodedata.category(character) == "Cf"
    return character in "\t\n" or (
        is_format and unicodedata.bidirectional(character) not in _REORDERS
    )


_IN_LINE, _IN_TEXT = _Symbols(lambda _: False), _Symbols(_belongs_to_text)


def escaped(text: str) -> str:
    """Return `text` as one line without characters that are invisible or act on other text.

    >>> escaped("a\\nerror: \\u202eb\\x1b[2J")
    'a␊error: \\\\u202eb␛[2J'
    """
    return text.translate(_IN_LINE)


def visible(text: str) -> str:
    """Return running text without characters that act on a terminal or reorder the text."""
    return text.translate(_IN_TEXT)


def use_color(stream: IO[str]) -> bool:
    """Return True if `stream` takes colour: a terminal does, unless the environment decides.

    A non-empty NO_COLOR turns colour off, otherwise a non-empty FORCE_COLOR turns it on, as in
    Python itself (https://no-color.org, https://force-color.org).
    """
    if os.environ.get("NO_COLOR"):
        return False
    return bool(os.environ.get("FORCE_COLOR")) or (stream.isatty() and not is_dumb())


def is_dumb() -> bool:
    """Return True for a terminal that only prints lines, so that nothing on it is redrawn."""
    return os.environ.get("TERM") == "dumb"


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
    click.echo(escaped(line))


def show_path(path: Path) -> None:
    """Print a path as the product on stdout: exactly, unless a terminal shows it."""
    sys.stdout.write(f"{escaped(str(path)) if sys.stdout.isatty() else path}\n")
    sys.stdout.flush()


def status(message: str) -> None:
    """Print one status line on stderr."""
    LOGGER.info(message)


def set_quiet() -> None:
    """Print only errors from here on."""
    LOGGER.setLevel(logging.ERROR)


def is_quiet() -> bool:
    """Return True if only errors are printed, so that no progress is shown either."""
    return not LOGGER.isEnabledFor(logging.INFO)


# Our own text has a space or a bracket before it, unlike a file's name within its path.
_SETTING = r"(?<![^\s(])`([a-z][a-z0-9_]*)(?:=([^`]*))?`"


def settings_as_options(
    message: str, options: Callable[[], Mapping[str, str]], typed: Iterable[str] = ()
) -> str:
    """Return `message` with each setting in backticks written as a command-line option.

    `options` returns the option of each setting; it is called only if the message has a candidate.
    `typed` are the arguments of the command line, which stay as they are within the message.

        `seq_len`            ->  --seq-len
        `hidden_size=128`    ->  --hidden-size 128
        `tokenizer="byte"`   ->  --tokenizer byte
        `force=True`         ->  --force
    """

    def option(match: re.Match[str]) -> str:
        name, value = match.groups()
        flag = options().get(name) if name else None
        if flag is None:
            return match[0]
        return flag if value in (None, "True") else f"{flag} {_typed(value)}"

    foreign = [re.escape(argument) for argument in typed if "`" in argument]
    return re.sub("|".join([*foreign, _SETTING]), option, message)


def _typed(value: str) -> str:
    """Return a Python literal as a user would type it in a shell; None is `inf`, without end."""
    try:
        plain = ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return value  # a placeholder such as NAME
    if plain is None:
        return "inf"
    return shlex.quote(plain) if isinstance(plain, str) else str(plain)


MOST_CHARACTERS = 1000  # of a note or an error, which may quote what somebody typed


class LogHandler(logging.Handler):
    """Print log records on stderr, one line each: warnings as `note: …`, errors as `error: …`."""

    def __init__(self, options: Callable[[], Mapping[str, str]], typed: Iterable[str]) -> None:
        super().__init__()
        self._options, self._typed = options, typed

    def emit(self, record: logging.LogRecord) -> None:
        """Print one record, above any progress bar."""
        message = record.getMessage()
        if not getattr(record, "verbatim", False):
            message = settings_as_options(message, self._options, self._typed)
        if record.levelno >= logging.WARNING:
            kind = "error" if record.levelno >= logging.ERROR else "note"
            message = f"{kind}: {_shortened(message)}"
        with _without_bars():
            click.echo(escaped(message), STDERR)


def _shortened(message: str) -> str:
    """Return a message without its middle if it is too long: it ends in what to do next."""
    if len(message) <= MOST_CHARACTERS:
        return message
    half = MOST_CHARACTERS // 2
    return f"{message[:half]} … {message[-half:]}"


def is_bar_shown() -> bool:
    """Return True if there is a progress bar on stderr."""
    tqdm = getattr(sys.modules.get("tqdm"), "tqdm", None)
    return tqdm is not None and len(tqdm._instances) > 0


def _without_bars() -> AbstractContextManager[None]:
    """Hide the progress bars on stderr within the block; they are not loaded just for this."""
    tqdm = sys.modules.get("tqdm")
    return contextlib.nullcontext() if tqdm is None else tqdm.tqdm.external_write_mode(STDERR)


@contextlib.contextmanager
def logging_to_stderr(
    options: Callable[[], Mapping[str, str]], typed: Iterable[str] = ()
) -> Iterator[None]:
    """Print what charnn logs on stderr within the block; see `LogHandler`."""
    handler, before = LogHandler(options, typed), (LOGGER.level, LOGGER.propagate)
    LOGGER.addHandler(handler)
    LOGGER.setLevel(logging.INFO)
    LOGGER.propagate = False
    try:
        yield
    finally:
        LOGGER.removeHandler(handler)
        level, LOGGER.propagate = before
        LOGGER.setLevel(level)
