"""The pace of a run of minutes: how many steps fit in the time that is left.

A plan trusts a measurement of a few seconds. If another program then takes a core, a run would end
late; if one goes away, its time would not be used. So the steps that remain are counted again while
the run trains, and the rest of the schedule is fitted to them (see `optimizer.learning_rate`).
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

CHECK_SECONDS = 5.0  # between two looks at the pace, or a twentieth of the time if that is less
# A run is replanned if this many times the remaining steps fit into the time, and if the difference
# is worth this share of the whole time.
FEWER, LATE = 0.9, 0.02
MORE, EARLY = 1.2, 0.05
SLOW = 2.0  # times the quickest steps so far: try another number of threads
VERY_SLOW = 3.0  # worth a warning
STALL = 3.0  # times what is usual: the process was stopped for a while, for example by Ctrl-Z
RETRY_SECONDS = 60.0  # between two tries, doubled after each that was in vain

Clock = Callable[[], float]


@dataclass(frozen=True)
class TimeLimit:
    """When a run of minutes should end, and what may be changed so that it does."""

    deadline: float  # in the time of `time.monotonic`
    max_steps: int  # more would repeat the text too often
    all_threads: int = 0  # CPU threads that may be used instead of one; 0: no choice


@dataclass(frozen=True)
class Adjustment:
    """The steps and the threads that a run should have from now on, and what to say about it."""

    steps: int
    threads: int
    note: str = ""


class Pace:
    """Measures the steps of a run, and says how many it should make and with how many threads."""

    def __init__(self, limit: TimeLimit, step: int, clock: Clock = time.monotonic) -> None:
        """Measure from `step` on."""
        self._limit, self._clock = limit, clock
        self._first, self._from, self._since = step, step, clock()
        self._time = max(0.001, limit.deadline - self._since)
        self._every = min(CHECK_SECONDS, self._time / 20)
        self._paused = self._longest_pause = 0.0
        self._seconds = self._steps = 0.0  # of the last few looks; the older ones count less
        self._quickest, self._warned = float("inf"), False
        self._stalls, self._stalled_pauses = _Stalls(), _Stalls()
        self._switch = ThreadSwitch(limit.all_threads, clock)

    @contextlib.contextmanager
    def pause(self) -> Iterator[None]:
        """Leave the time of this block, a validation or a save, out of the steps' time."""
        start = self._clock()
        try:
            yield
        finally:
            seconds = self._clock() - start
            self._since += seconds
            if not self._stalled_pauses.add(seconds, max(self._every, self._longest_pause)):
                self._paused += seconds
                self._longest_pause = max(self._longest_pause, seconds)

    def due(self, step: int) -> bool:
        """Return whether it is time to look at the pace, after `step`."""
        return step > self._from and self._clock() - self._since >= self._every

    def look(self, step: int, steps: int, threads: int) -> Adjustment:
        """Return what a run of `steps` should do after `step`, when a look is due."""
        seconds, made = self._clock() - self._since, step - self._from
        self._from, self._since = step, self._since + seconds
        planned = self._time / (steps - self._first)
        usual = self._seconds / self._steps if self._steps else planned
        if self._stalls.add(seconds, self._every + usual):
            affordable = self._affordable(step, steps) if self._steps else steps
            return Adjustment(affordable, threads)
        self._seconds, self._steps = self._seconds / 2 + seconds, self._steps / 2 + made
        each = seconds / made
        self._quickest = min(self._quickest, each)
        slowdown = each / self._quickest
        note = ""
        if slowdown >= VERY_SLOW and not self._warned:
            self._warned = True
            note = f"steps take {slowdown:.1f} times as long as before: the machine is busy"
        if self._limit.all_threads:
            other = self._switch.next(threads, each, slowdown)
            if other != threads:  # their speed is not known yet
                self._seconds = self._steps = 0.0
                return Adjustment(steps, other, note)
        return Adjustment(self._affordable(step, steps), threads, note)

    def _affordable(self, step: int, steps: int) -> int:
        """Return how many steps the run should have: `steps`, or what the time allows if that is a
        lot less or more."""
        planned = steps - step
        if planned < 1:
            return steps
        left = self._limit.deadline - self._clock() - self._longest_pause  # there is one at the end
        each = self._seconds / self._steps + self._paused / (step - self._first)
        most = self._limit.max_steps - step
        affordable = max(1, min(int(left / each), most))
        change, saved = affordable / planned, (planned - affordable) * each / self._time
        worth_it = (change < FEWER and saved > LATE) or (change > MORE and saved < -EARLY)
        return step + affordable if worth_it else steps


class _Stalls:
    """Tells a time that will not come again from times that have become longer: it is much longer
    than usual, and none of about its length was there before."""

    def __init__(self) -> None:
        self._longest = 0.0

    def add(self, seconds: float, usual: float) -> bool:
        """Return True if a time was a stall."""
        stalled = seconds > STALL * usual and seconds > 2 * self._longest
        if stalled:
            self._longest = seconds
        return stalled


class ThreadSwitch:
    """Tries one CPU thread instead of all, or all instead of one, when steps have become slow.

    Threads wait for each other at every operation: beside another busy process one alone can be
    many times faster.
    """

    def __init__(self, all_threads: int, clock: Clock = time.monotonic) -> None:
        self._all, self._clock = all_threads, clock
        self._before: float | None = None  # seconds of a step before the try that is going on
        self._wait, self._last_try = RETRY_SECONDS, float("-inf")
        self._fewer = False  # one thread because of a try

    def next(self, threads: int, seconds: float, slowdown: float) -> int:
        """Return the threads to use, after steps of `seconds` each were made with `threads`."""
        other = self._all if threads == 1 else 1
        if self._before is not None:
            better, self._before = seconds < self._before, None
            self._wait = RETRY_SECONDS if better else 2 * self._wait
            self._fewer ^= better
            return threads if better else other
        slow = slowdown >= SLOW or self._fewer  # the disturbance may be over
        if not slow or self._clock() < self._last_try + self._wait:
            return threads
        self._before, self._last_try = seconds, self._clock()
        return other
