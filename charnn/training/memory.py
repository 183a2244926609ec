"""How much memory a run will need, how much there is, and what to make smaller."""

import contextlib
import math
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch

from charnn.config import ModelConfig, TrainConfig
from charnn.errors import SettingError

# Numbers held for each parameter: weight, gradient, two moments, a snapshot of three of them, and
# while `last` is saved six of them twice: as tensors' bytes and as the file's.
PER_PARAMETER = 19
GATES = {"lstm": 4, "gru": 3, "rnn": 1}
_OUT = re.compile("out of memory|can't allocate memory|alloc_cpu|bad allocation")


def parameters(model: ModelConfig) -> int:
    """How many numbers the network learns, without making it."""
    G, E, H, V = GATES[model.cell], model.embedding_size, model.hidden_size, model.vocabulary_size
    inputs = [E] + [H] * (model.num_layers - 1)
    return V * E + (H + 1) * V + sum(G * H * (size + H + 2) for size in inputs)


def estimate(model: ModelConfig, train: TrainConfig) -> float:
    """Bytes that training takes at its peak: a formula fitted to what scripts/bench_memory.py
    measures, on the safe side."""
    G, H, V = GATES[model.cell], model.hidden_size, model.vocabulary_size
    per_symbol = model.num_layers * H * (2.5 * G + 7) + 6 * V + 2 * model.embedding_size
    numbers = PER_PARAMETER * parameters(model) + per_symbol * train.batch_size * train.seq_len
    return 4.0 * numbers


def available(device: torch.device) -> float:
    """Bytes that a run on `device` may take; infinite where this cannot be found out."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    return min(_free(), _allowed())


def _free() -> float:
    """What the machine has to give."""
    with contextlib.suppress(OSError, ValueError):
        found = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text())
        if found:
            return 1024.0 * int(found[1])
    with contextlib.suppress(OSError, ValueError, AttributeError):
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return math.inf


def _allowed() -> float:
    """What a container's limit leaves."""
    with contextlib.suppress(OSError, ValueError):  # cgroup 2; "max" is no number
        folder = Path("/sys/fs/cgroup")
        limit = int((folder / "memory.max").read_text())
        return float(limit - int((folder / "memory.current").read_text()))
    return math.inf


def refuse_too_large(model: ModelConfig, train: TrainConfig, there: float) -> None:
    """`SettingError` when a run would need more than the bytes there are."""
    needed = estimate(model, train)
    if needed > there:
        raise SettingError(
            f"{sizes(model, train)} would need about {readable(needed)} of memory, and there are "
            f"{readable(there)}; {advice(model, train)}, or --force to try"
        )


def advice(model: ModelConfig, train: TrainConfig) -> str:
    """The three options that help most, each halved: what it would then need."""
    smaller: dict[str, float] = {}
    for name in ("hidden_size", "num_layers", "embedding_size", "batch_size", "seq_len"):
        config = model if hasattr(model, name) else train
        half = replace(config, **{name: max(1, getattr(config, name) // 2)})
        pair = (half, train) if config is model else (model, half)
        smaller[f"--{name.replace('_', '-')} {getattr(half, name)}"] = estimate(*pair)
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
    except (MemoryError, RuntimeError) as error:  # torch has no class of its own for the CPU
        if not isinstance(error, MemoryError) and not _OUT.search(str(error)):
            raise
        raise SettingError(
            f"not enough memory for {sizes(model, train)}; {advice(model, train)}"
        ) from error
