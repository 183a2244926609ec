"""Where a product goes: stdout or a new file; and a bar while it does."""

import contextlib
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, TypeVar, cast

from tqdm import tqdm

from charnn.cli.terminal import STORY, visible
from charnn.errors import SettingError
from charnn.files import explained, replacing

Item = TypeVar("Item")


class Output:
    """Takes text as it is written. A file is written beside and renamed at the end; one that is
    stopped keeps what it has."""

    def __init__(self, path: Path | None, raw: bool = False) -> None:
        if path is not None and path.exists():
            raise SettingError(f"{path}: exists already; name another --out")
        self.terminal = path is None and sys.stdout.isatty()
        self._path = path
        self._shown = visible if self.terminal and not raw else str
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> "Output":
        if self._path is not None:
            self._stack.enter_context(explained(f"writing {self._path}", "name another --out"))
            self._file = self._stack.enter_context(replacing(self._path))
        return self

    def write(self, text: str) -> None:
        """Write, and let it be seen at once."""
        if self._path is not None:
            self._file.write(text.encode("utf-8", "surrogateescape"))
            return
        sys.stdout.write(self._shown(text))
        sys.stdout.flush()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        stopped = kind is not None and issubclass(kind, KeyboardInterrupt | SystemExit)
        self._stack.__exit__(*((None, None, None) if stopped else (kind, error, trace)))


def counted(
    items: Iterable[Item], total: int | None, unit: str, out: Output, quiet: bool
) -> Iterator[Item]:
    """The items, with a bar on stderr where they do not go to the terminal themselves."""
    hidden = quiet or out.terminal or not sys.stderr.isatty()
    file = cast(IO[str], STORY)
    yield from tqdm(items, total=total, unit=unit, disable=hidden, file=file, dynamic_ncols=True)
