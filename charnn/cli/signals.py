"""Signals end the program at once, or a run after its step, saved; a second one acts at once."""

import contextlib
import os
import signal
import time
from types import FrameType
from typing import TYPE_CHECKING

from charnn.cli.columns import empty_line
from charnn.cli.terminal import is_bar_shown

if TYPE_CHECKING:
    from charnn.runs.run import Run

TORCHRUN_SECONDS = 2.0  # within which the same interrupt may arrive twice


def _handled() -> list[int]:
    """Return the signals that end charnn, without those that are to be ignored, as by `nohup`."""
    numbers = [getattr(signal, name, None) for name in ("SIGINT", "SIGTERM", "SIGHUP")]
    known = [number for number in numbers if number is not None]  # Windows has no SIGHUP
    return [number for number in known if signal.getsignal(number) is not signal.SIG_IGN]


class ExitOnSignal:
    """Exits with 128 + N at signal N, with a line that says so.

    A `SystemExit` lets files be closed and removed. While modules are imported it could get lost
    or become an error of theirs, so that before `started` the process ends at once; so it does at
    a second signal and after `finished`.
    """

    def __init__(self) -> None:
        self._signal, self._line = 0, "stopped"
        self._started = self._finished = False

    def install(self, line: str) -> None:
        """Handle signals from here on, and print `line` at the first one."""
        self._line = line
        for number in _handled():
            signal.signal(number, self._exit)

    def check(self) -> None:
        """Exit if a signal arrived and its exception got lost."""
        if self._signal:
            raise SystemExit(128 + self._signal)

    def started(self, line: str = "") -> None:
        """Let signals raise `SystemExit` from here on, as files are open, and print `line`."""
        self.check()
        self._started, self._line = True, line

    def finished(self) -> None:
        """Let signals end the process at once, as nothing is left to be closed."""
        self.check()
        self._finished = True

    def _exit(self, number: int, frame: FrameType | None) -> None:
        if self._signal == 0:
            _print_now(self._line)
        starting = not self._started and _is_importing(frame)
        if self._signal or self._finished or starting:
            os._exit(128 + number)
        self._signal = number
        raise SystemExit(128 + number)


EXIT = ExitOnSignal()


def _print_now(line: str) -> None:
    """Print a line on stderr even if a write to `sys.stderr` is under way."""
    with contextlib.suppress(OSError):
        start = ""
        if os.isatty(2):  # which shows ^C in the line
            start = empty_line() if is_bar_shown() else "\n"
        os.write(2, f"{start}{line}\n".encode() if line else start.encode())


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


class StopOnSignal:
    """Ends a run, saved, after its current step at SIGINT, SIGTERM or SIGHUP.

    A second signal acts at once. Signals that were ignored before (`nohup`) stay ignored. With
    several processes the signals of the first seconds count as one, because torchrun repeats what
    the terminal has sent already.
    """

    def __init__(self, run: "Run") -> None:
        self.signal = 0  # the first signal that arrived
        self._run = run

    def __enter__(self) -> "StopOnSignal":
        self._before = {number: signal.getsignal(number) for number in _handled()}
        for number in self._before:
            signal.signal(number, self._handle)
        EXIT.started("stopped")
        return self

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._run.stopping = True
        again, now = self.signal != 0, time.monotonic()
        if not again:
            self.signal, self._first = number, now
        if self._run.world.size > 1 and now - self._first < TORCHRUN_SECONDS:
            return
        self.__exit__()
        if again:
            signal.raise_signal(number)

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
