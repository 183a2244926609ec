"""Environment variables that decide how OpenMP threads wait, set before torch is imported.

A thread that has finished its share of an operation spins at a barrier until the others arrive.
Beside another busy process that costs the others their time slices, and a training step can take
many times as long. Where cores are scarce when the program starts, threads therefore spin only
briefly before they sleep; where they are not, they spin as usual, which is up to a sixth faster
(scripts/bench_busy.py).
"""

import os
import statistics
import sys
import time
from collections.abc import Callable, MutableMapping
from pathlib import Path

SPINNING = {
    "GOMP_SPINCOUNT": "300",  # iterations; GNU's OpenMP, of PyTorch's builds for Linux
    "KMP_BLOCKTIME": "0",  # milliseconds; LLVM's and Intel's OpenMP, of other builds
}
POLICY = "OMP_WAIT_POLICY"  # a user who has set this has decided
_LOOKS, _PAUSE = 5, 0.002  # how often the number of running processes is read, and seconds between


def limit_spinning() -> None:
    """Let OpenMP threads sleep soon if the machine has other work.

    Changes nothing that the user has set, and nothing once torch is loaded: OpenMP reads the
    variables only once.
    """
    if "torch" not in sys.modules:
        limit_spinning_in(os.environ, others_running)


def limit_spinning_in(environment: MutableMapping[str, str], others: Callable[[], float]) -> None:
    """Set the variables if the threads and `others`, the busy processes, outnumber the cores."""
    if POLICY in environment:
        return
    cores = os.cpu_count() or 1
    asked = environment.get("OMP_NUM_THREADS", "")
    threads = int(asked) if asked.isdecimal() else cores
    if threads > 1 and threads + others() > cores + 0.5:
        for name, value in SPINNING.items():
            environment.setdefault(name, value)


def others_running(loadavg: Path = Path("/proc/loadavg")) -> float:
    """Count the other processes that want a core at this moment, as well as the system can tell."""
    try:
        running = []
        for _ in range(_LOOKS):
            running.append(int(loadavg.read_text().split()[3].split("/")[0]))
            time.sleep(_PAUSE)
        return statistics.median(running) - 1  # without this process
    except (OSError, ValueError, IndexError):  # not Linux
        with_average = getattr(os, "getloadavg", None)
        return float(with_average()[0]) if with_average else 0.0
