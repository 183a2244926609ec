"""Which device a name means, checked before anything is built on it."""

import contextlib
import functools
import os
from collections.abc import Iterator
from pathlib import Path

import torch

from charnn.errors import SettingError

DEVICES = ("auto", "cpu", "cuda", "mps")
_DRIVER = (Path("/proc/driver/nvidia/version"), Path("/dev/nvidia0"))


def pick_device(name: str) -> torch.device:
    """The device that `name` means: `auto` is CUDA where there is one, then the CPU."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise SettingError(
            f"no device called {name!r}; try {', '.join(DEVICES)} or cuda:1"
        ) from error
    if device.type == "cuda" and (device.index or 0) >= (there := torch.cuda.device_count()):
        raise SettingError(f"{name}: {_no_card(there)}, or try --device cpu")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise SettingError("mps: no Apple GPU that this PyTorch can use; try --device cpu")
    if device.type not in DEVICES:
        raise SettingError(f"charnn does not run on {device.type!r}; try {', '.join(DEVICES)}")
    return device


def _no_card(there: int) -> str:
    """Why a CUDA device cannot be had, and what to do about it."""
    if there:
        return f"there are {there} CUDA devices, from cuda:0 on; name one of them"
    if torch.version.cuda is None:
        return "this PyTorch is built without CUDA; install one that is built with it"
    if not any(path.exists() for path in _DRIVER):
        return "no NVIDIA driver is loaded; install it, see what nvidia-smi says"
    return "the driver shows no card; see what nvidia-smi and CUDA_VISIBLE_DEVICES say"


def idle_card() -> str:
    """What to say where there is a card that PyTorch does not use, or nothing."""
    if torch.cuda.is_available() or not any(path.exists() for path in _DRIVER):
        return ""
    return f"this machine has an NVIDIA card, but {_no_card(0)}"


@functools.cache
def fast_bfloat16(device: torch.device) -> bool:
    """Whether this device has instructions for products of bfloat16 matrices."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    with contextlib.suppress(AttributeError):  # older versions do not tell
        return device.type == "cpu" and bool(torch.cpu.get_capabilities().get("amx_bf16"))
    return False


@functools.cache
def has_bfloat16_lstm(device: torch.device) -> bool:
    """Return whether an LSTM can be computed in bfloat16: on a CPU oneDNN needs AVX-512 for it."""
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
    """Let torch use `count` CPU threads within the block; 0 changes nothing."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def make_deterministic(device: torch.device) -> None:
    """Let torch use only CUDA kernels that give the same bits each time, in the whole process.

    cuBLAS, and the recurrent layers of cuDNN with it, need the environment variable before their
    first use (PyTorch's notes on nn.LSTM and on reproducibility). A CPU needs nothing.
    """
    if device.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.benchmark = False
