"""What does a run look like that can be killed before any system call of a save?

Started by torture.py: `charnn` itself, which tells a pipe of its first training step, and halts
before the call that its second argument counts to, until it is killed.
"""

import contextlib
import functools
import importlib
import io
import os
import re
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

TRAINING, AT = "training", "at "
HANG = 300  # seconds; no child needs so long


def run_child(pipe: int, call: int, arguments: list[str]) -> None:
    """Be `charnn`, tell of the first step, and halt before one of the calls that write."""
    signal.alarm(HANG)  # in case that nobody is left to kill it
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in a shell's background
    from charnn.cli.main import main

    run: Any = importlib.import_module("charnn.runs.run")
    run.train_steps = functools.partial(_tell_first, pipe, run.train_steps)
    halt = Halt(pipe, call)
    for name in ("fsync", "link", "replace", "unlink", "posix_fadvise"):
        setattr(os, name, halt.before(getattr(os, name)))
    Path.open = functools.partialmethod(_open, halt=halt, plain=Path.open)  # type: ignore[assignment]
    try:
        main(arguments, prog_name="charnn")
    finally:  # the program is over: a stop that comes now is none of its business
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)


def _tell_first(pipe: int, train_steps: Any, *arguments: Any) -> Iterator[Any]:
    os.write(pipe, f"{TRAINING}\n".encode())
    yield from train_steps(*arguments)


class Halt:
    """Counts calls, and waits to be killed before one of them."""

    def __init__(self, pipe: int, call: int) -> None:
        self._pipe, self._left = pipe, call

    def count(self, name: str, what: str | int | Path) -> None:
        """Take one call, and what it is made on: a path or a file's number."""
        self._left -= 1
        if self._left == 0:
            os.write(self._pipe, f"{AT}{name} {_called(what)}\n".encode())
            time.sleep(HANG)

    def before(self, function: Any) -> Any:
        """The function, counted."""

        @functools.wraps(function)
        def counted(*arguments: Any, **named: Any) -> Any:
            what = arguments[function.__name__ in ("link", "replace")]
            self.count(function.__name__, what)
            return function(*arguments, **named)

        return counted


class Halves(io.FileIO):
    """A file that takes half of what it is first given, and tells of each write."""

    def __init__(self, halt: Halt, path: Path) -> None:
        super().__init__(path, "x")
        self._halt, self._empty = halt, True

    def write(self, data: Any) -> int:
        self._halt.count("write", self.fileno())
        view = memoryview(data)
        half = len(view) // 2 if self._empty and len(view) > 1 else len(view)
        self._empty = False
        return super().write(view[:half])


def _open(path: Path, mode: str = "r", *more: Any, halt: Halt, plain: Any, **named: Any) -> Any:
    if mode != "xb":
        return plain(path, mode, *more, **named)
    halt.count("open", path)
    return io.BufferedWriter(Halves(halt, path))


def _called(what: str | int | Path) -> str:
    """The name of a file, without what makes a temporary one's unique."""
    with contextlib.suppress(OSError):  # only Linux tells the name of an open file
        path = Path(f"/proc/self/fd/{what}").readlink() if isinstance(what, int) else Path(what)
        return "the folder" if path.is_dir() else re.sub(r"\w+\.tmp$", "tmp", path.name)
    return "a file"


if __name__ == "__main__":
    run_child(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
