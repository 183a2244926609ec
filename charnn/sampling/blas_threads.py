"""The threads of NumPy's products while a text is generated: one or two, whichever is faster.

On a quiet machine two threads compute the products of a large model half as fast again as one.
Beside a busy process they wait for each other at every product, and take many times as long. So
both are tried now and then. The numbers are the same: `ROW_MULTIPLE` sees to that.

NumPy has no function for the number of threads, but its OpenBLAS has. With another library, such as
Accelerate on macOS, nothing is changed.
"""

import ctypes
import functools
import importlib
import time
from collections.abc import Callable
from typing import Any

MOST = 2  # more were not measured
# Rows of a matrix, such that two threads compute the same bits as one: OpenBLAS computes some rows
# at a time, and the rest at the end of each thread's share otherwise.
ROW_MULTIPLE = 16
# OpenBLAS computes smaller products in one thread anyway.
SMALL_PRODUCT = 9216
ROUND, ROUNDS = 32, 64  # steps that are timed together; rounds after which both are tried again
_SLOWED = 1.5  # a round that takes this much longer than the best so far lets both be tried again
_MODULES = ("numpy._core._multiarray_umath", "numpy.core._multiarray_umath")
_NAMES = ("scipy_openblas_{}64_", "scipy_openblas_{}", "openblas_{}64_", "openblas_{}")


@functools.cache
def blas_function(name: str) -> Callable[..., int] | None:
    """Return a function of NumPy's OpenBLAS, such as "set_num_threads"; None if there is none."""
    for module in _MODULES:
        try:
            path: Any = importlib.import_module(module).__file__
            library = ctypes.CDLL(path)
        except (ImportError, OSError, TypeError):
            continue
        for pattern in _NAMES:
            if function := getattr(library, pattern.format(name), None):
                return function
    return None


@functools.cache
def usual_threads() -> int:
    """Return the number of threads that NumPy used when this was first asked; 0 if unknown."""
    get = blas_function("get_num_threads")
    return get() if get else 0


class ThreadChoice:
    """Sets the threads for each step of one text, and restores NumPy's usual number after it."""

    def __init__(self, threads: int = 0) -> None:
        """Use so many threads; 0 chooses."""
        usual = usual_threads()
        self._most = min(threads or MOST, usual)
        self._set = blas_function("set_num_threads") if usual > 1 else None
        self._usual = usual
        self._chooses = threads == 0 and self._most > 1
        self.count = 1 if self._chooses else max(1, self._most)
        self._best = dict.fromkeys((1, 2), 0.0)  # seconds of a round
        self._steps, self._rounds, self._start, self._trial = 0, 0, 0.0, False

    def begin(self) -> None:
        """Set the threads for a step."""
        if self._set:
            self._set(self.count)
            if self._chooses and self._steps == 0:
                self._start = time.perf_counter()

    def end(self) -> None:
        """Restore NumPy's threads after a step."""
        if not self._set:
            return
        self._set(self._usual)
        if not self._chooses:
            return
        self._steps += 1
        if self._steps == ROUND or self._trial:
            self._time(time.perf_counter() - self._start)

    def _time(self, seconds: float) -> None:
        """Take note of the time of the round so far; a trial that is slower ends early."""
        other = 3 - self.count
        if self._steps < ROUND and seconds < self._best[other]:
            return
        best = self._best
        slowed = best[self.count] and seconds > _SLOWED * best[self.count]
        best[self.count] = seconds
        self._steps, self._rounds = 0, self._rounds + 1
        if self._trial:
            self._trial = False
            self.count = min(best, key=lambda count: best[count])
        elif slowed or self._rounds % ROUNDS == 1:
            self._trial, self.count = True, other
