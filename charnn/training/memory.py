"""How much memory a run will need, how much there is, and what to make smaller."""

import contextlib
import ctypes
import functools
import math
import os
import platform
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch

from charnn.config import ModelConfig, TrainConfig
from charnn.errors import SettingError, is_out_of_memory
from charnn.training.distributed import local_world_size

# Numbers held for each parameter: weight, gradient, two moments, and a snapshot of three of them.
# (Muon keeps one moment for a matrix, but makes copies of one matrix after the other.)
PER_PARAMETER = 7
# While `last` is saved, six of them twice on the host: as tensors' bytes and as the file's.
WHILE_SAVING = 12
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # glibc's malloc.h
GATES = {"lstm": 4, "gru": 3, "rnn": 1}


def parameters(model: ModelConfig) -> int:
    """How many numbers the network learns, without making it."""
    G, E, H, V = GATES[model.cell], model.embedding_size, model.hidden_size, model.vocabulary_size
    inputs = [E] + [H] * (model.num_layers - 1)
    return V * E + (H + 1) * V + sum(G * H * (size + H + 2) for size in inputs)


def estimate(model: ModelConfig, train: TrainConfig, on_cpu: bool = True) -> float:
    """Bytes that training takes of its device at its peak: a formula fitted to what
    scripts/bench_memory.py measures on a CPU, on the safe side."""
    G, H, V = GATES[model.cell], model.hidden_size, model.vocabulary_size
    per_symbol = model.num_layers * H * (2.5 * G + 7) + 6 * V + 2 * model.embedding_size
    per_parameter = PER_PARAMETER + WHILE_SAVING * on_cpu
    numbers = per_parameter * parameters(model) + per_symbol * train.batch_size * train.seq_len
    return 4.0 * numbers


def available(device: torch.device) -> float:
    """Bytes that a run on `device` may take; infinite where this cannot be found out."""
    if device.type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return float(torch.cuda.mem_get_info(device)[0] + kept)
    return min(_free(), *(_allowed(*files) for files in CGROUPS))


def available_per_process(device: torch.device) -> float:
    """Return the bytes that this process may use: processes share a machine's memory, but each has
    a card of its own."""
    return available(device) / (local_world_size() if device.type == "cpu" else 1)


def _free() -> float:
    """What the machine has to give."""
    with contextlib.suppress(OSError, ValueError):
        found = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text())
        if found:
            return 1024.0 * int(found[1])
    with contextlib.suppress(OSError, ValueError, AttributeError):
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return math.inf


# A container's limit, what is taken of it, and what says how much of that are files' pages, which
# are given back when they are wanted: cgroup 2 and cgroup 1.
CGROUPS = [
    ("memory.max", "memory.current", "memory.stat"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat"),
]


def _allowed(limit: str, usage: str, stat: str, folder: Path = Path("/sys/fs/cgroup")) -> float:
    """What a container's limit leaves."""
    with contextlib.suppress(OSError, ValueError):  # no such file; "max" is no number
        left = int((folder / limit).read_text()) - int((folder / usage).read_text())
        pages = re.search(r"^(?:total_)?inactive_file (\d+)$", (folder / stat).read_text(), re.M)
        return float(left + (int(pages[1]) if pages else 0))
    return math.inf


def refuse_too_large(
    model: ModelConfig, train: TrainConfig, there: float, on_cpu: bool = True
) -> None:
    """`SettingError` when a run would need more than the bytes there are."""
    needed = estimate(model, train, on_cpu)
    if needed > there:
        raise SettingError(
            f"{sizes(model, train)} would need about {readable(needed)} of memory, and there are "
            f"{readable(there)}; {advice(model, train, on_cpu)}, or --force to try"
        )


def advice(model: ModelConfig, train: TrainConfig, on_cpu: bool = True) -> str:
    """The three options that help most, each halved: what it would then need."""
    smaller: dict[str, float] = {}
    for name in ("hidden_size", "num_layers", "embedding_size", "batch_size", "seq_len"):
        option = f"--{name.replace('_', '-')}"
        half = max(1, getattr(model if hasattr(model, name) else train, name) // 2)
        if hasattr(model, name):
            both = (replace(model, **{name: half}), train)
        else:
            both = (model, replace(train, **{name: half}))
        smaller[f"{option} {half}"] = estimate(*both, on_cpu)
    best = sorted(smaller, key=lambda option: smaller[option])[:3]
    return "try " + ", ".join(f"{option} ({readable(smaller[option])})" for option in best)


def sizes(model: ModelConfig, train: TrainConfig) -> str:
    """The sizes that memory depends on, in words."""
    return (
        f"{model.num_layers} x {model.hidden_size} {model.cell} over {model.vocabulary_size:,} "
        f"symbols, {train.batch_size} lanes x {train.seq_len}"
    )


def readable(size: float) -> str:
    """Bytes in MB or GB."""
    return f"{size / 1e9:,.1f} GB" if size >= 1e9 else f"{size / 1e6:,.0f} MB"


@contextlib.contextmanager
def memory_explained(model: ModelConfig, train: TrainConfig) -> Iterator[None]:
    """Turn an allocator's refusal within the block into one line with the sizes and what helps."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise SettingError(
            f"not enough memory for {sizes(model, train)}; {advice(model, train)}"
        ) from error


@functools.cache
def keep_freed_memory() -> None:
    """Make glibc reuse the large buffers that every step takes and frees.

    By default it maps each of them anew and gives it back, and the page faults cost speed, most
    with many lanes (docs/recipe/). Elsewhere than on glibc nothing happens.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_MAX, 0)
        libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
