"""Environment variables that decide how idle OpenMP threads wait, set before torch is imported.

A thread that has finished its part of an operation spins at a barrier until the others arrive.
If another process needs the core, spinning takes away its time slices, and a training step can
take many times as long. If cores are scarce when the program starts, threads therefore spin only
briefly before they sleep; otherwise they spin as usual, which is up to a sixth faster
(scripts/bench_busy.py).
"""

import os
import statistics
import sys
import time
from collections.abc import Callable, MutableMapping
from pathlib import Path

SHORT_SPINNING = {
    "GOMP_SPINCOUNT": "300",  # iterations; GNU's OpenMP, in PyTorch's builds for Linux
    "KMP_BLOCKTIME": "0",  # milliseconds; LLVM's and Intel's OpenMP, in other builds
}
WAIT_POLICY = "OMP_WAIT_POLICY"  # if the user has set it, nothing is changed
_SAMPLES, _SAMPLE_SECONDS = 5, 0.002  # of the number of running processes, and the pause between


def limit_spinning() -> None:
    """Make OpenMP threads sleep early if other processes keep the machine busy.

    Variables that the user has set stay as they are. Once torch is loaded this does nothing,
    because OpenMP reads the variables only once.
    """
    if "torch" not in sys.modules:
        limit_spinning_in(os.environ, others_running)


def limit_spinning_in(environment: MutableMapping[str, str], others: Callable[[], float]) -> None:
    """Set the variables in `environment` if there are more busy threads than cores.

    `others` returns the number of other busy processes.
    """
    if WAIT_POLICY in environment:
        return
    cores = os.cpu_count() or 1
    requested = environment.get("OMP_NUM_THREADS", "")
    threads = int(requested) if requested.isdecimal() else cores
    if threads > 1 and threads + others() > cores + 0.5:
        for name, value in SHORT_SPINNING.items():
            environment.setdefault(name, value)


def others_running(loadavg: Path = Path("/proc/loadavg")) -> float:
    """Return how many other processes want a core now, as well as the system can tell."""
    try:
        running = []
        for _ in range(_SAMPLES):
            running.append(int(loadavg.read_text().split()[3].split("/")[0]))
            time.sleep(_SAMPLE_SECONDS)
        return statistics.median(running) - 1  # without this process
    except (OSError, ValueError, IndexError):  # not Linux
        getloadavg = getattr(os, "getloadavg", None)
        return float(getloadavg()[0]) if getloadavg else 0.0
