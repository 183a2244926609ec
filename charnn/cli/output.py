"""Where a product goes: stdout or a new file; and a bar while it does."""

import contextlib
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, TypeVar

from tqdm import tqdm

from charnn.cli.terminal import STDERR, visible
from charnn.errors import SettingError
from charnn.files import explained, replacing

Item = TypeVar("Item")


class Output:
    """Takes text as it is written, and lets it be seen at once."""

    def __init__(self, file: BinaryIO | None, raw: bool) -> None:
        self.terminal = file is None and sys.stdout.isatty()
        self.some = False  # whether anything was written
        self._file = file
        self._shown = visible if self.terminal and not raw else str

    def write(self, text: str) -> None:
        """Write and flush."""
        self.some = True
        if self._file is not None:
            self._file.write(text.encode("utf-8", "surrogateescape"))
            return
        sys.stdout.write(self._shown(text))
        sys.stdout.flush()


@contextlib.contextmanager
def output(path: Path | None, raw: bool = False) -> Iterator[Output]:
    """stdout, or a new file. That is written beside and renamed at the end; when the work is
    stopped or fails on its way, with what there is."""
    if path is None:
        yield Output(None, raw)
        return
    if path.exists():
        raise SettingError(f"{path}: exists already; name another --out")
    failed = None
    with explained(f"writing {path}", "name another --out"), replacing(path) as file:
        out = Output(file, raw)
        try:
            yield out
        except OSError:
            raise
        except BaseException as error:
            if not out.some:
                raise
            failed = error
    if failed is not None:
        raise failed


def counted(
    items: Iterable[Item], total: int | None, unit: str, out: Output, quiet: bool
) -> Iterator[Item]:
    """The items, with a bar on stderr where they do not go to the terminal themselves."""
    hidden = quiet or out.terminal or not sys.stderr.isatty()
    yield from tqdm(items, total=total, unit=unit, disable=hidden, file=STDERR, dynamic_ncols=True)
