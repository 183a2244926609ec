"""Signals end a run after its step, saved; a second one acts at once."""

import signal
import time
from types import FrameType

from charnn.runs.run import Run

TORCHRUN_SECONDS = 2.0  # within which the same interrupt may arrive twice


class StopOnSignal:
    """Ends a run, saved, after its current step at SIGINT, SIGTERM or SIGHUP.

    A second signal acts at once. Signals that were ignored before (`nohup`) stay ignored. With
    several processes the signals of the first seconds count as one, because torchrun repeats what
    the terminal has sent already.
    """

    def __init__(self, run: Run) -> None:
        self.signal = 0  # the first signal that arrived
        self._run = run

    def __enter__(self) -> "StopOnSignal":
        numbers = [getattr(signal, name, None) for name in ("SIGINT", "SIGTERM", "SIGHUP")]
        handlers = {n: signal.getsignal(n) for n in numbers if n is not None}  # Windows lacks one
        self._before = {n: h for n, h in handlers.items() if h is not signal.SIG_IGN}
        for number in self._before:
            signal.signal(number, self._handle)
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
