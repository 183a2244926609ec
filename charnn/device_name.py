"""The device that a name stands for, found without torch where there is only the CPU."""

import os
import sys
from pathlib import Path

# Files of the drivers that a build of PyTorch with CUDA or ROCm needs, one of them.
_DRIVERS = (
    Path("/proc/driver/nvidia/version"), Path("/dev/nvidiactl"), Path("/dev/nvidia0"),
    Path("/dev/nvmap"), Path("/dev/dxg"), Path("/dev/kfd"),
)  # fmt: skip
_WINDOWS_DRIVER = ("System32", "nvcuda.dll")


def device_name(name: str) -> str:
    """Return the full name of the device called `name`; raise `SettingError` if there is none.

    "auto" is CUDA if present, else the CPU.
    """
    if name == "cpu" or (name == "auto" and not _has_driver()):
        return "cpu"
    from charnn.device import pick_device  # imports torch

    return str(pick_device(name))


def _has_driver() -> bool:
    drivers = _DRIVERS
    if sys.platform == "win32":
        drivers = (Path(os.environ.get("SYSTEMROOT", "C:/Windows"), *_WINDOWS_DRIVER),)
    return any(path.exists() for path in drivers)
