"""How can a run be killed right before a chosen system call of a save?

torture.py starts this script as `torture_child.py PIPE CALL ARGUMENT...`. It runs `charnn` with the
arguments, writes a line to the file descriptor PIPE before the first training step, and pauses
before the CALL-th system call of its saves until it is killed. With CALL 0 it does not pause.
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
TIMEOUT = 300  # seconds; no child process needs so long


def run_child(pipe: int, call: int, arguments: list[str]) -> None:
    """Run `charnn`, report the first step, and pause before one of the calls that save."""
    signal.alarm(TIMEOUT)  # ends the process if torture.py is gone
    # A shell makes its background processes ignore SIGINT.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    from charnn.cli.main import main

    run: Any = importlib.import_module("charnn.runs.run")
    run.train_steps = functools.partial(_report_first_step, pipe, run.train_steps)
    pause = Pause(pipe, call)
    for name in ("fsync", "link", "replace", "unlink", "posix_fadvise"):
        setattr(os, name, pause.before(getattr(os, name)))
    Path.open = functools.partialmethod(_open, pause=pause, plain=Path.open)  # type: ignore[assignment]
    try:
        main(arguments, prog_name="charnn")
    finally:  # A signal after the end of the command must not change its exit status.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)


def _report_first_step(pipe: int, train_steps: Any, *arguments: Any) -> Iterator[Any]:
    os.write(pipe, f"{TRAINING}\n".encode())
    yield from train_steps(*arguments)


class Pause:
    """Counts system calls and, before the chosen one, waits to be killed."""

    def __init__(self, pipe: int, call: int) -> None:
        self._pipe, self._left = pipe, call

    def count(self, name: str, target: str | int | Path) -> None:
        """Count a call on a path or a file descriptor."""
        self._left -= 1
        if self._left == 0:
            os.write(self._pipe, f"{AT}{name} {_file_name(target)}\n".encode())
            time.sleep(TIMEOUT)

    def before(self, function: Any) -> Any:
        """Wrap a function so that its calls are counted."""

        @functools.wraps(function)
        def counted(*arguments: Any, **named: Any) -> Any:
            target = arguments[function.__name__ in ("link", "replace")]
            self.count(function.__name__, target)
            return function(*arguments, **named)

        return counted


class PartialFile(io.FileIO):
    """A file whose first write takes only half of the data, and that counts its writes."""

    def __init__(self, pause: Pause, path: Path) -> None:
        super().__init__(path, "x")
        self._pause, self._empty = pause, True

    def write(self, data: Any) -> int:
        self._pause.count("write", self.fileno())
        view = memoryview(data)
        half = len(view) // 2 if self._empty and len(view) > 1 else len(view)
        self._empty = False
        return super().write(view[:half])


def _open(path: Path, mode: str = "r", *more: Any, pause: Pause, plain: Any, **named: Any) -> Any:
    if mode != "xb":
        return plain(path, mode, *more, **named)
    pause.count("open", path)
    return io.BufferedWriter(PartialFile(pause, path))


def _file_name(target: str | int | Path) -> str:
    """Return the name of a file; without the random part if it is a temporary one."""
    with contextlib.suppress(OSError):  # only Linux knows the name of an open file
        path = (
            Path(f"/proc/self/fd/{target}").readlink() if isinstance(target, int) else Path(target)
        )
        return "the folder" if path.is_dir() else re.sub(r"\w+\.tmp$", "tmp", path.name)
    return "a file"


if __name__ == "__main__":
    run_child(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
