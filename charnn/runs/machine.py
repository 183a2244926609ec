"""The machine that computes a run, and what differs if a run is resumed on another one."""

import os
import sys
from collections.abc import Iterator, Mapping
from typing import Any, get_type_hints

import torch

from charnn.checkpoint import Checkpoint
from charnn.config import MAX_STRING
from charnn.device import fast_bfloat16, has_bfloat16_lstm, processor_name
from charnn.facts import Machine
from charnn.words import plural

# Environment variables by which PyTorch, oneDNN and MKL compute with other instructions.
VARIABLES = (
    "ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "MKL_CBWR",
    "MKL_ENABLE_INSTRUCTIONS",
)  # fmt: skip


def this_machine(device: torch.device, threads: int = 0, processes: int = 1) -> Machine:
    """Return the machine as it computes on `device` now; 0 threads are those torch is set to."""
    cuda = device.type == "cuda"
    variables = " ".join(f"{name}={os.environ[name]}" for name in VARIABLES if name in os.environ)
    return Machine(
        _plain(torch.cuda.get_device_name(device) if cuda else str(device)),
        _plain(processor_name()),
        torch.backends.cpu.get_cpu_capability(),
        _plain(variables),
        threads or torch.get_num_threads(),
        processes,
        fast_bfloat16(device),
        _plain(torch.__version__),
    )


def machine_to_json(machine: Machine) -> dict[str, Any]:
    """Return the field `machine` of run.json, whose versions are a field of their own."""
    facts = machine.to_json()
    del facts["torch"]
    return facts | {"system": sys.platform}


def machine_before(last: Checkpoint, info: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the machine that wrote `last`; an older checkpoint does not name it, so run.json does.

    What is not known is left out.
    """
    if last.run is not None:
        return last.run.machine.to_json()
    machine, versions = (
        part if isinstance(part := info.get(name), dict) else {} for name in ("machine", "versions")
    )
    merged = {**machine, "torch": versions.get("torch")}
    kinds = get_type_hints(Machine)
    known = {k: v for k, v in merged.items() if k in kinds and type(v) is kinds[k]}
    return {k: _plain(v) if isinstance(v, str) else v for k, v in known.items()}


def threads_before(before: Mapping[str, Any]) -> int:
    """Return the thread count that the run had, or 0 where this machine should not use it."""
    threads: int = before.get("threads", 0)
    if "OMP_NUM_THREADS" in os.environ:
        return 0
    return threads if 1 <= threads <= (os.cpu_count() or 1) else 0


def differences(
    before: Mapping[str, Any], now: Machine, device: torch.device, last: Checkpoint
) -> Iterator[str]:
    """Yield what keeps the rest of the run from being bit for bit what it would have been, or as
    fast."""
    on_cpu = device.type == "cpu"
    threads, processes = before.get("threads", now.threads), before.get("processes", 1)
    if on_cpu and threads != now.threads:
        yield (
            f"{plural(threads, 'thread')} before, {now.threads} now: the last bits will differ "
            f"(`threads={threads}` keeps them)"
        )
    if processes != now.processes:
        yield (
            f"{plural(processes, 'process', 'processes')} before, {now.processes} now: the run "
            "continues from the same weights, but not bit for bit"
        )
    yield from _precision_differences(before.get("bfloat16"), device, last)
    name = before.get("device", now.device)
    if (name == "cpu") != on_cpu:
        yield f"on {name} before, on {device} now: the last bits will differ"
    elif on_cpu and "instructions" in before:
        cpus = [_cpu(before), _cpu(now.to_json())]
        if cpus[0] != cpus[1]:
            yield f"on {cpus[0]} before, on {cpus[1]} now: the last bits may differ"
    elif name != now.device:
        yield f"on {name} before, on {now.device} now: the last bits may differ"
    version = before.get("torch", now.torch)
    if version != now.torch:
        yield f"PyTorch {version} before, {now.torch} now: the last bits may differ"


def _cpu(machine: Mapping[str, Any]) -> str:
    """Return the processor with the instructions that are used of it."""
    variables = f", {machine['variables']}" if machine["variables"] else ""
    return f"{machine['processor']} ({machine['instructions']}{variables})"


def _precision_differences(
    fast_before: object, device: torch.device, last: Checkpoint
) -> Iterator[str]:
    """Yield the differences that bfloat16 makes, by whether its products were fast before."""
    fast = fast_bfloat16(device)
    if last.train.optimizer == "muon" and isinstance(fast_before, bool) and fast_before != fast:
        kinds = ("bfloat16", "float32") if fast_before else ("float32", "bfloat16")
        yield f"muon in {kinds[0]} before, in {kinds[1]} now: the result will differ slightly"
    if last.train.precision == "bf16":
        if last.model.cell == "lstm" and not has_bfloat16_lstm(device):
            yield (
                "precision bf16, but this CPU has no LSTM in bfloat16: computing in fp32, so the "
                "result will differ slightly"
            )
        elif fast_before is True and not fast:
            yield "precision bf16, which is slow on this machine"


def _plain(text: str) -> str:
    """Return a text as a checkpoint may hold it: printable, and not too long."""
    return "".join(c if c.isprintable() else " " for c in text)[:MAX_STRING]
