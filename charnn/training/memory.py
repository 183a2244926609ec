"""Estimate the memory that a run needs, find out how much is available, suggest smaller sizes."""

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
from charnn.model.weights import GATES
from charnn.training.distributed import local_world_size

# Numbers kept per parameter: weight, gradient, two moments, and a snapshot of all but the gradient.
# (Muon keeps one moment for a matrix, but makes temporary copies of one matrix at a time.)
VALUES_PER_PARAMETER = 7
# While `last` is saved, six of them are held twice on the host: as tensors and as the file's bytes.
VALUES_WHILE_SAVING = 12
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # from glibc's malloc.h


def parameter_count(model: ModelConfig) -> int:
    """Return the number of weights of the network without building it."""
    G, E, H, V = GATES[model.cell], model.embedding_size, model.hidden_size, model.vocabulary_size
    input_sizes = [E] + [H] * (model.num_layers - 1)
    return V * E + (H + 1) * V + sum(G * H * (size + H + 2) for size in input_sizes)


def estimate_memory(model: ModelConfig, train: TrainConfig, on_cpu: bool = True) -> float:
    """Return an upper estimate of the bytes that training takes on its device at its peak.

    The formula was fitted to measurements on a CPU by scripts/bench_memory.py.
    """
    G, H, V = GATES[model.cell], model.hidden_size, model.vocabulary_size
    per_symbol = model.num_layers * H * (2.5 * G + 7) + 6 * V + 2 * model.embedding_size
    per_parameter = VALUES_PER_PARAMETER + VALUES_WHILE_SAVING * on_cpu
    symbols = train.batch_size * train.seq_len
    return 4.0 * (per_parameter * parameter_count(model) + per_symbol * symbols)


def available_memory(device: torch.device) -> float:
    """Return the bytes that a run on `device` can take, infinite if that cannot be found out."""
    if device.type == "cuda":
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return float(torch.cuda.mem_get_info(device)[0] + cached)
    return min(_system_available(), *(_cgroup_available(*files) for files in CGROUPS))


def available_per_process(device: torch.device) -> float:
    """Return the bytes that this process can take: CPU memory is shared by all processes of a
    machine, but each has its own GPU."""
    return available_memory(device) / (local_world_size() if device.type == "cpu" else 1)


def _system_available() -> float:
    """Return the bytes that the operating system can give."""
    with contextlib.suppress(OSError, ValueError):
        found = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text())
        if found:
            return 1024.0 * int(found[1])
    with contextlib.suppress(OSError, ValueError, AttributeError):
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return math.inf


# A container's limit, its usage, and the statistics that say how much of the usage is cached file
# pages, which the kernel frees on demand: for cgroup 2 and cgroup 1.
CGROUPS = [
    ("memory.max", "memory.current", "memory.stat"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat"),
]


def _cgroup_available(
    limit: str, usage: str, stat: str, folder: Path = Path("/sys/fs/cgroup")
) -> float:
    """Return the bytes that a container's limit leaves, infinite if there is no limit."""
    with contextlib.suppress(OSError, ValueError):  # the file is missing, or the limit is "max"
        left = int((folder / limit).read_text()) - int((folder / usage).read_text())
        pages = re.search(r"^(?:total_)?inactive_file (\d+)$", (folder / stat).read_text(), re.M)
        return float(left + (int(pages[1]) if pages else 0))
    return math.inf


def check_memory(
    model: ModelConfig, train: TrainConfig, available: float, on_cpu: bool = True
) -> None:
    """Raise `SettingError` if a run would need more than the `available` bytes."""
    needed = estimate_memory(model, train, on_cpu)
    if needed > available:
        advice = f"{suggest_smaller(model, train, on_cpu)}, or `force=True` to try anyway"
        raise SettingError(
            f"{describe_sizes(model, train)} would need about {format_bytes(needed)} of memory, "
            f"but only {format_bytes(available)} is available; {advice}"
        )


def suggest_smaller(model: ModelConfig, train: TrainConfig, on_cpu: bool = True) -> str:
    """Return the three settings that save most memory when halved, each with what it would need.

    For example: "try `hidden_size=256` (1.2 GB), `batch_size=32` (1.9 GB), `seq_len=64` (1.9 GB)".
    """
    needed: dict[str, float] = {}
    for name in ("hidden_size", "num_layers", "embedding_size", "batch_size", "seq_len"):
        in_model = hasattr(model, name)
        half = max(1, getattr(model if in_model else train, name) // 2)
        smaller_model = replace(model, **{name: half}) if in_model else model
        smaller_train = train if in_model else replace(train, **{name: half})
        needed[f"`{name}={half}`"] = estimate_memory(smaller_model, smaller_train, on_cpu)
    best = sorted(needed, key=lambda setting: needed[setting])[:3]
    return "try " + ", ".join(f"{setting} ({format_bytes(needed[setting])})" for setting in best)


def describe_sizes(model: ModelConfig, train: TrainConfig) -> str:
    """Return the sizes that decide memory, such as "2 x 512 lstm, 65 symbols, 64 lanes x 64"."""
    return (
        f"{model.num_layers} x {model.hidden_size} {model.cell}, {model.vocabulary_size:,} "
        f"symbols, {train.batch_size} lanes x {train.seq_len}"
    )


def format_bytes(size: float) -> str:
    """Return a number of bytes in MB or GB, for example "1.2 GB"."""
    return f"{size / 1e9:,.1f} GB" if size >= 1e9 else f"{size / 1e6:,.0f} MB"


@contextlib.contextmanager
def memory_explained(model: ModelConfig, train: TrainConfig) -> Iterator[None]:
    """Turn an out-of-memory error in the block into a `SettingError` with smaller sizes."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise SettingError(
            f"not enough memory for {describe_sizes(model, train)}; {suggest_smaller(model, train)}"
        ) from error


@functools.cache
def keep_freed_memory() -> None:
    """Make glibc reuse the large buffers that every training step allocates and frees.

    By default glibc maps each of them and unmaps it again, and the page faults make training
    slower, most of all with many lanes (docs/recipe/). With other C libraries nothing happens.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_MAX, 0)
        libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
