"""Where generated text goes, stdout or a new file, with a progress bar."""

import contextlib
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, TypeVar

from charnn.cli.terminal import STDERR, is_quiet, visible
from charnn.errors import SettingError
from charnn.files import explained, replacing

Item = TypeVar("Item")


class Output:
    """Write text to stdout or to a file, and flush it at once."""

    def __init__(self, file: BinaryIO | None, raw: bool) -> None:
        self.terminal = file is None and sys.stdout.isatty()
        self.wrote = False  # True once something was written
        self._file = file
        self._shown = visible if self.terminal and not raw else str

    def write(self, text: str) -> None:
        """Write and flush `text`; a terminal gets control characters as visible symbols."""
        self.wrote = True
        if self._file is not None:
            self._file.write(text.encode("utf-8", "surrogateescape"))
            return
        sys.stdout.write(self._shown(text))
        sys.stdout.flush()


@contextlib.contextmanager
def output(path: Path | None, raw: bool = False) -> Iterator[Output]:
    """Open stdout, or a new file that must not exist.

    The file is written under a temporary name and renamed at the end. If the work is stopped or
    fails after the first text, the file is kept with what was written.
    """
    if path is None:
        yield Output(None, raw)
        return
    if path.exists():
        raise SettingError(f"{path} already exists; choose another --out")
    failed = None
    with explained(f"writing {path}", "choose another --out"), replacing(path) as file:
        out = Output(file, raw)
        try:
            yield out
        except OSError:
            raise
        except BaseException as error:
            if not out.wrote:
                raise
            failed = error
    if failed is not None:
        raise failed


def counted(items: Iterable[Item], total: int | None, unit: str, out: Output) -> Iterator[Item]:
    """Yield the items, with a progress bar on stderr unless the terminal shows the items."""
    from tqdm import tqdm

    hidden = is_quiet() or out.terminal or not sys.stderr.isatty()
    yield from tqdm(items, total=total, unit=unit, disable=hidden, file=STDERR, dynamic_ncols=True)
