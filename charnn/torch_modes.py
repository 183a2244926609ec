"""PyTorch's global modes, which belong to the user's own work: charnn computes without them.

The default data type and device, `no_grad` and `inference_mode`, autocast, deterministic
algorithms, flushed denormal numbers: each would change what charnn computes, or make it fail. The
user's number of threads and choice of kernels (TF32, oneDNN) stay, because they change the speed.
"""

import contextlib
import sys
import threading
from collections.abc import Callable, Generator, Iterator
from typing import TypeVar

import torch

from charnn.device import make_deterministic

Item = TypeVar("Item")

_AUTOCAST_DEVICES = ("cpu", "cuda", "mps")
_SMALLEST = sys.float_info.min  # half of it is denormal, and 0 where such numbers are flushed


class _ProcessModes:
    """The modes of the whole process: the first thread that computes sets them aside, the last
    thread restores them."""

    def __init__(self) -> None:
        self.threads = 0
        self._lock = threading.Lock()
        self._restore: Callable[[], object] = lambda: None

    @contextlib.contextmanager
    def set_aside(self) -> Iterator[None]:
        """Use PyTorch's own defaults within the block."""
        with self._lock:
            self.threads += 1
            if self.threads == 1:
                self._restore = _use_default_process_modes()
        try:
            yield
        finally:
            with self._lock:
                self.threads -= 1
                if self.threads == 0:
                    self._restore()


_PROCESS = _ProcessModes()


def _use_default_process_modes() -> Callable[[], object]:
    """Set the modes of the process to PyTorch's defaults; return what restores them."""
    restore = contextlib.ExitStack()
    restore.callback(torch.set_default_dtype, torch.get_default_dtype())
    torch.set_default_dtype(torch.float32)
    restore.callback(_set_deterministic, *_deterministic())
    _set_deterministic(False, False)
    restore.callback(setattr, torch.backends.cudnn, "benchmark", torch.backends.cudnn.benchmark)
    return restore.close


def _deterministic() -> tuple[bool, bool]:
    """Return whether only deterministic kernels are allowed, and whether others only warn."""
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    return torch.are_deterministic_algorithms_enabled(), warn_only


def _set_deterministic(enabled: bool, warn_only: bool) -> None:
    if _deterministic() != (enabled, warn_only):  # setting it imports much of torch
        torch.use_deterministic_algorithms(enabled, warn_only=warn_only)


def are_default() -> bool:
    """Return True if every mode has PyTorch's default, so that there is nothing to set aside."""
    return (
        torch.is_grad_enabled()
        and not torch.is_inference_mode_enabled()
        and torch.get_default_dtype() is torch.float32
        and not torch._C._len_torch_function_stack()  # the default device is such a mode
        and not torch._C._is_any_autocast_enabled()
        and not torch.are_deterministic_algorithms_enabled()
        and _SMALLEST / 2 > 0
        and not _PROCESS.threads
    )


@contextlib.contextmanager
def default_torch_modes(deterministic: bool = False) -> Iterator[None]:
    """Compute as if the user had set no mode of PyTorch within the block; then restore the modes.

    With `deterministic`, PyTorch is restricted to kernels that give the same bits each time. Also
    decorates functions.
    """
    if are_default() and not deterministic:
        yield
        return
    with contextlib.ExitStack() as stack:
        stack.enter_context(_PROCESS.set_aside())
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        stack.enter_context(torch.inference_mode(False))  # enables gradients too
        stack.enter_context(_without_autocast())
        if _SMALLEST / 2 == 0:
            torch.set_flush_denormal(False)
            stack.callback(torch.set_flush_denormal, True)
        if deterministic:
            make_deterministic()
        yield


@contextlib.contextmanager
def _without_autocast() -> Iterator[None]:
    # Within the user's autocast, that of a training step would not clear the cache of cast weights.
    cached = torch.is_autocast_cache_enabled()
    enabled = [device for device in _AUTOCAST_DEVICES if torch.is_autocast_enabled(device)]
    torch.set_autocast_cache_enabled(False)
    for device in enabled:
        torch.set_autocast_enabled(device, False)
    try:
        yield
    finally:
        for device in enabled:
            torch.set_autocast_enabled(device, True)
        torch.set_autocast_cache_enabled(cached)


def in_default_torch_modes(
    items: Generator[Item, None, None], deterministic: bool = False
) -> Generator[Item, None, None]:
    """Yield the items, each computed in `default_torch_modes`; in between the user's apply."""
    with contextlib.closing(items):
        while True:
            with default_torch_modes(deterministic):
                try:
                    item = next(items)
                except StopIteration:
                    return
            yield item
