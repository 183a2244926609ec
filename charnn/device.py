"""Choose the device that a name stands for, and find out what it supports."""

import contextlib
import functools
import os
import platform
from collections.abc import Iterator
from pathlib import Path

import torch

from charnn.arguments import text
from charnn.errors import SettingError
from charnn.words import plural, shown

DEVICES = ("auto", "cpu", "cuda", "mps")
_NVIDIA_DRIVER = (Path("/proc/driver/nvidia/version"), Path("/dev/nvidia0"))


def pick_device(name: str) -> torch.device:
    """Return the device called `name`, which must be usable; `auto` is CUDA if present, else CPU.

    Raises `SettingError` if there is no such device.
    """
    name = str(name) if isinstance(name, torch.device) else text("device", name)
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except (RuntimeError, ValueError) as error:
        raise SettingError(
            f"unknown device {shown(name)}; use {', '.join(DEVICES)} or cuda:1"
        ) from error
    if device.type == "cuda" and (device.index or 0) >= (count := torch.cuda.device_count()):
        raise SettingError(f'{name}: {_missing_cuda(count)}, or use `device="cpu"`')
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise SettingError('mps: PyTorch finds no Apple GPU to use; use `device="cpu"`')
    if device.type not in DEVICES:
        raise SettingError(f"charnn does not support {device.type!r}; use {', '.join(DEVICES)}")
    return device


def _missing_cuda(count: int) -> str:
    """Return why a CUDA device is missing although there are `count` of them, and what to do."""
    if count:
        return f"this machine has {plural(count, 'CUDA device')}, numbered from cuda:0; use another"
    if torch.version.cuda is None:
        return "this PyTorch was built without CUDA; install a build with CUDA"
    if not any(path.exists() for path in _NVIDIA_DRIVER):
        return "no NVIDIA driver is loaded; install one and check nvidia-smi"
    return "the NVIDIA driver reports no GPU; check nvidia-smi and CUDA_VISIBLE_DEVICES"


def unused_gpu() -> str:
    """Return why PyTorch cannot use this machine's NVIDIA GPU, or "" if it can or there is none."""
    if torch.cuda.is_available() or not any(path.exists() for path in _NVIDIA_DRIVER):
        return ""
    return f"this machine has an NVIDIA GPU, but {_missing_cuda(0)}"


@functools.cache
def processor_name() -> str:
    """Return the processor's name as it is sold."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


@functools.cache
def fast_bfloat16(device: torch.device) -> bool:
    """Return True if `device` has instructions for bfloat16 matrix products."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    with contextlib.suppress(AttributeError):  # older versions of PyTorch do not report it
        return device.type == "cpu" and bool(torch.cpu.get_capabilities().get("amx_bf16"))
    return False


@functools.cache
def has_bfloat16_lstm(device: torch.device) -> bool:
    """Return True if `device` computes LSTMs in bfloat16: oneDNN needs AVX-512 for it on a CPU."""
    if device.type != "cpu":
        return True
    with torch.random.fork_rng(devices=()):
        layer = torch.nn.LSTM(4, 4)
    try:
        with torch.autocast("cpu", torch.bfloat16):
            layer(torch.zeros(1, 1, 4))
    except RuntimeError:
        return False
    return True


@contextlib.contextmanager
def thread_count(count: int) -> Iterator[None]:
    """Let PyTorch use `count` CPU threads within the block; 0 leaves the number as it is."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def make_deterministic() -> None:
    """Restrict PyTorch to kernels that give the same bits each time.

    Only CUDA needs this. cuBLAS, which cuDNN's recurrent layers use, reads the environment
    variable at its first use (see PyTorch's notes on nn.LSTM and on reproducibility).
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
