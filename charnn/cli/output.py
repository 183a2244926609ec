"""Where generated text goes, stdout or a file, with a progress bar."""

import contextlib
import os
import stat
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, TypeVar

import click

from charnn.cli.signals import EXIT
from charnn.cli.terminal import status, visible
from charnn.errors import SettingError
from charnn.files import explained, replacing
from charnn.words import plural

Item = TypeVar("Item")


class Output:
    """Write text to stdout or to a file, and flush it at once.

    Text that comes as bytes is decoded, with U+FFFD for what is not UTF-8 and without a last
    character that is not complete; with `exact` the bytes are written as they are.
    """

    def __init__(self, file: BinaryIO | None, *, raw: bool = False, exact: bool = False) -> None:
        self.terminal = file is None and sys.stdout.isatty()
        self.wrote = False  # True once something was written
        self.done, self.total, self.noun = 0, 0, ""  # items of `counted`
        self._file, self.exact = file, exact
        self._shown = visible if self.terminal and not raw else str
        self.end_text()

    def write(self, text: str) -> None:
        """Write and flush `text`; a terminal gets control characters as visible symbols."""
        if self._file is not None:
            self._write_to(self._file, text.encode("utf-8", "surrogateescape"))
            return
        self.wrote = True
        sys.stdout.write(self._shown(text))
        sys.stdout.flush()

    def write_bytes(self, data: bytes) -> None:
        """Write and flush the next bytes of a text."""
        if not self.exact:
            self.write(self._decode(data))
            return
        if self._file is None:
            sys.stdout.flush()
        self._write_to(self._file or sys.stdout.buffer, data)

    def end_text(self) -> None:
        """Let the next bytes start another text."""
        from charnn.text.tokenizer import utf8_decoder

        self._decode = utf8_decoder()

    def _write_to(self, file: BinaryIO, data: bytes) -> None:
        self.wrote = True
        file.write(data)
        if self._file is None:
            file.flush()


@contextlib.contextmanager
def output(
    path: Path | None, *, raw: bool = False, exact: bool = False, force: bool = False
) -> Iterator[Output]:
    """Open stdout, or a file that must be new unless `force` replaces it.

    If the work is stopped or fails after the first text, the file is kept with what was written.
    """
    if path is None:
        with _reporting(Output(None, raw=raw, exact=exact), "") as out:
            yield out
        return
    failed = None
    with explained(f"writing {path}", "choose another --out"), _opened(path, force) as file:
        try:
            with _reporting(Output(file, exact=exact), f" to {path}") as out:
                yield out
        except OSError:
            raise
        except BaseException as error:
            if not out.wrote:
                raise
            failed = error
    if failed is not None:
        raise failed


def check_output(path: Path | None, force: bool) -> None:
    """Raise `SettingError` if `output` would refuse the file, or if its name is a checkpoint's."""
    if path is not None and path.suffix == ".safetensors":
        raise SettingError(f"{path}: the name of a checkpoint, not of a text; choose another --out")
    if path is not None and not force and os.path.lexists(path) and not _is_pipe(path):
        raise _exists(path)


def _exists(path: Path) -> SettingError:
    return SettingError(f"{path} already exists; choose another --out, or replace it with --force")


def _is_pipe(path: Path) -> bool:
    """Return True for a pipe or a device such as /dev/null, which keep nothing to overwrite."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)


@contextlib.contextmanager
def _opened(path: Path, force: bool) -> Iterator[BinaryIO]:
    """Open a new file, removed again if the block fails, or one that replaces another."""
    if force and not _is_pipe(path):
        with replacing(path) as file:
            yield file
        return
    try:  # mode x refuses a name that another process has just taken, and any link
        new = path.open("wb" if _is_pipe(path) else "xb")
    except FileExistsError as error:
        raise _exists(path) from error
    try:
        with new:
            yield new
    except BaseException:
        if not _is_pipe(path):
            path.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def _reporting(out: Output, where: str) -> Iterator[Output]:
    """Say how much was written if a signal stops the work."""
    EXIT.started()
    try:
        yield out
    except (KeyboardInterrupt, SystemExit) as error:
        interrupted = isinstance(error, KeyboardInterrupt)
        if interrupted:
            click.echo(err=True)  # the terminal shows ^C on the line
        done = plural(out.done, out.noun or "text")
        if out.total:
            done = f"{out.done:,} of {plural(out.total, out.noun)}"
        status(f"stopped; {done} written{where if out.wrote else ''}")
        if interrupted:
            raise click.exceptions.Exit(130) from error
        raise


def counted(
    items: Iterable[Item],
    total: int | None,
    noun: str,
    out: Output,
    size: Callable[[Item], int] = lambda _: 1,
) -> Iterator[Item]:
    """Yield the items, each of a `size`, with a progress bar on stderr unless the terminal shows
    the items."""
    from charnn.cli.bar import progress_bar  # and with it tqdm, which takes a while

    out.total, out.noun = total or 0, noun
    with progress_bar(total, noun, hidden=out.terminal) as bar:
        for item in items:
            EXIT.check()
            yield item
            out.done += size(item)
            bar.update(size(item))
