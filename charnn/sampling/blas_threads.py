"""The threads of NumPy's products while a text is generated: one or two, whichever is faster.

On a quiet machine two threads compute the products of a large model half as fast again as one.
Beside a busy process they wait for each other at every product, and take many times as long. So
both are tried now and then. Their numbers are the same: `ROW_MULTIPLE` sees to that.

NumPy has no function for the number of threads, but its OpenBLAS has. With another library, such as
Accelerate on macOS, nothing is changed.
"""

import ctypes
import functools
import importlib
import threading
import time
from collections.abc import Callable
from typing import Any

MOST = 2  # more were not measured, and might not compute the same bits
# Rows of a matrix, such that two threads compute the same bits as one: OpenBLAS computes some rows
# at a time, and the rest at the end of each thread's share otherwise.
ROW_MULTIPLE = 16
# OpenBLAS computes products of fewer weights in one thread anyway.
SMALL_PRODUCT = 9216
ROUND, ROUNDS = 32, 64  # steps that are timed together; rounds after which both are tried again
_SLOWED = 1.5  # a round that takes this much longer than the best so far lets both be tried again
_MODULE = "numpy._core._multiarray_umath"
_NAMES = ("scipy_openblas_{}64_", "scipy_openblas_{}", "openblas_{}64_", "openblas_{}")


@functools.cache
def blas_function(name: str) -> Callable[..., int] | None:
    """Return a function of NumPy's OpenBLAS, such as "set_num_threads"; None if there is none."""
    try:
        path: Any = importlib.import_module(_MODULE).__file__
        library = ctypes.CDLL(path)
    except (ImportError, OSError, TypeError):
        return None
    found = (getattr(library, pattern.format(name), None) for pattern in _NAMES)
    return next((function for function in found if function), None)


def usual_threads() -> int:
    """Return the number of threads that NumPy uses now; 0 if unknown."""
    get = blas_function("get_num_threads")
    return get() if get else 0


class _Setting:
    """The number of threads, which is one for the whole process: the first step that begins takes
    note of it, the last one that ends restores it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._get, self._set = map(blas_function, ("get_num_threads", "set_num_threads"))
        self._steps, self._usual = 0, 0

    def begin(self, count: int) -> None:
        """Set the threads for a step."""
        if self._get and self._set:
            with self._lock:
                if self._steps == 0:
                    self._usual = self._get()
                self._steps += 1
                self._set(count)

    def end(self) -> None:
        """Restore the threads after a step."""
        if self._set:
            with self._lock:
                self._steps -= 1
                if self._steps == 0:
                    self._set(self._usual)


SETTING = _Setting()


class ThreadChoice:
    """The threads of the steps of one text."""

    def __init__(self, threads: int = 0) -> None:
        """Use so many threads, at most 2; 0 chooses between 1 and 2."""
        self._chooses = threads == 0 and usual_threads() > 1
        self.count = min(threads or 1, MOST)
        self._best = dict.fromkeys((1, 2), 0.0)  # seconds of a round
        self._steps, self._rounds, self._seconds, self._trial = 0, 0, 0.0, False
        self._start = 0.0

    def begin(self) -> None:
        """Set the threads for a step; `end` must follow."""
        SETTING.begin(self.count)
        if self._chooses:
            self._start = time.perf_counter()

    def end(self) -> None:
        """Restore NumPy's threads after a step, and choose those of the next one."""
        if self._chooses:
            self._steps, self._seconds = (
                self._steps + 1, self._seconds + time.perf_counter() - self._start
            )  # fmt: skip
            if self._steps == ROUND or self._trial:
                self._time()
        SETTING.end()

    def _time(self) -> None:
        """Take note of the time of the round so far; a trial that is slower ends early."""
        other, best, seconds = 3 - self.count, self._best, self._seconds
        if self._steps < ROUND and seconds < best[other]:
            return
        slowed = best[self.count] and seconds > _SLOWED * best[self.count]
        best[self.count] = seconds
        self._steps, self._seconds, self._rounds = 0, 0.0, self._rounds + 1
        if self._trial:
            self._trial = False
            self.count = min(best, key=lambda count: best[count])
        elif slowed or self._rounds % ROUNDS == 1:
            self._trial, self.count = True, other
