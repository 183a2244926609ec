"""Several processes that train one model, started by torchrun, each with its share of the lanes.

torch's DistributedDataParallel averages the gradients; this module has the other collectives that
training needs. Only rank 0 writes files and prints. A single process is a world of size 1, in which
every collective returns at once.
"""

import contextlib
import gc
import logging
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.rendezvous import rendezvous

from charnn.device import pick_device, unused_gpu
from charnn.errors import SettingError, TrainingError
from charnn.words import plural

log = logging.getLogger(__name__)

Result = TypeVar("Result")
JOIN_SECONDS = 300  # in which all processes must have started


@dataclass(frozen=True)
class World:
    """Rank, world size, and the collectives that training needs.

    Every process must call each collective, in the same order.
    """

    rank: int = 0
    size: int = 1
    is_local_main: bool = True  # local rank 0, the first process on its machine

    @property
    def is_main(self) -> bool:
        """True on rank 0, the process that writes files and prints."""
        return self.rank == 0

    def wrap(self, network: nn.Module) -> nn.Module:
        """Return `network` so that its gradients are averaged over all processes."""
        if self.size == 1:
            return network
        return nn.parallel.DistributedDataParallel(network)  # which finds the device itself

    def shard(self, lanes: Tensor, dim: int = 1) -> Tensor:
        """Return this process's part of a tensor that has all lanes along `dim`."""
        return lanes.chunk(self.size, dim)[self.rank] if self.size > 1 else lanes

    def unshard(self, lanes: Tensor, dim: int = 1) -> Tensor:
        """Return the tensor with all lanes, on the CPU, from the parts of all processes."""
        return torch.cat(self.all_gather(lanes.cpu()), dim) if self.size > 1 else lanes

    def all_gather(self, value: Result) -> list[Result]:
        """Return the values of all processes, ordered by rank."""
        if self.size == 1:
            return [value]
        values: list[Result | None] = [None] * self.size
        dist.all_gather_object(values, value)
        return values  # type: ignore[return-value]

    def mean(self, value: float) -> float:
        """Return the mean of the processes' values."""
        if self.size == 1:
            return value
        total = torch.tensor(value, dtype=torch.float64)
        dist.all_reduce(total)
        return total.item() / self.size

    def any(self, *flags: bool) -> Sequence[bool]:
        """Return, for each flag, True if it is set in any process."""
        if self.size == 1:
            return flags
        combined = torch.tensor([int(flag) for flag in flags])
        dist.all_reduce(combined, dist.ReduceOp.MAX)
        return [bool(flag) for flag in combined.tolist()]

    def barrier(self) -> None:
        """Wait until all processes have come here."""
        self.any(True)  # of an empty tensor gloo would return at once

    def local_main_first(self, make: Callable[[], Result]) -> Result:
        """Call `make` on each machine's local rank 0, then on the rest, which reuse its cache."""
        if not self.is_local_main:
            self.barrier()
            return make()
        try:
            return make()
        finally:
            self.barrier()

    def broadcast(self, make: Callable[[], Result]) -> Result:
        """Call `make` on rank 0 and return its result on every process."""
        if self.size == 1:
            return make()
        made: list[Result | None] = [make() if self.is_main else None]
        dist.broadcast_object_list(made)
        return made[0]  # type: ignore[return-value]


SINGLE_PROCESS = World()


def world_from_environment() -> World:
    """Return the world that torchrun's environment variables describe."""
    rank, size = _integer("RANK", 0), _integer("WORLD_SIZE", 1, 1)
    local_world_size()  # which must be a number too
    if not 0 <= rank < size:
        raise SettingError(f"RANK={rank} is not below WORLD_SIZE={size}; start with torchrun")
    return World(rank, size, _integer("LOCAL_RANK", rank) == 0)


def local_world_size() -> int:
    """Return the number of processes on this machine."""
    return _integer("LOCAL_WORLD_SIZE", _integer("WORLD_SIZE", 1, 1), 1)


def _integer(name: str, default: int, least: int = 0) -> int:
    """Return the value of an environment variable, a whole number of at least `least`."""
    value = os.environ.get(name, str(default))
    if not re.fullmatch("[0-9]{1,9}", value):
        raise SettingError(f"{name} is set to {value[:40]!r}, which is not a number; unset it")
    if int(value) < least:
        raise SettingError(f"{name}={value} must be at least {least}; start with torchrun")
    return int(value)


def local_device(name: str) -> str:
    """Return the name of this process's device: torchrun's processes get one GPU each.

    Raises `SettingError` if there are too few GPUs, or if they are of different models.
    """
    if "LOCAL_RANK" not in os.environ or not torch.cuda.is_available():
        return name
    if name.startswith("cuda:") and local_world_size() > 1:
        raise SettingError(
            f'several processes cannot share {name}; use `device="cuda"` to give each its own GPU'
        )
    if name not in ("auto", "cuda"):
        return name
    local_rank = _integer("LOCAL_RANK", 0)
    if local_rank >= (count := torch.cuda.device_count()):
        raise SettingError(
            f"no GPU is left for local rank {local_rank}: this machine has {plural(count, 'GPU')}; "
            f"start torchrun with `--nproc-per-node {count}`"
        )
    models = {torch.cuda.get_device_name(number) for number in range(count)}
    if len(models) > 1:
        raise SettingError(
            f"the GPUs are of different models ({', '.join(sorted(models))}), so the slowest would "
            "hold up the rest; select equal ones with CUDA_VISIBLE_DEVICES"
        )
    return f"cuda:{local_rank}"


@contextlib.contextmanager
def join_world(device_name: str) -> Iterator[tuple[World, torch.device]]:
    """Connect the processes that torchrun has started; yield this process's world and its device.

    `device_name` is one of `charnn.device.DEVICES`, or a particular device such as `cuda:1`.
    """
    world = world_from_environment()
    device = pick_device(local_device(device_name))
    if world.is_main and device_name == "auto" and (note := unused_gpu()):
        log.warning(note)
    with process_group(world, device):
        yield world, device


@contextlib.contextmanager
def process_group(world: World, device: torch.device) -> Iterator[None]:
    """Connect the processes of `world` within the block, in which collectives can be called.

    Raises `SettingError` if they cannot be reached, and `TrainingError` if one of them is lost.
    """
    if world.size == 1:
        yield
        return
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        if name not in os.environ:
            raise SettingError(f"WORLD_SIZE is set, but {name} is not; start with torchrun")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    _connect("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo", world)
    try:
        with _lost_process_explained():
            yield
            world.barrier()  # leaving early would break the others' last exchanges
    finally:
        # References to the group that are still alive would abort this process at its exit.
        gc.collect()
        with contextlib.suppress(RuntimeError):
            dist.destroy_process_group()


def _connect(backend: str, world: World) -> None:
    """Wait for the other processes, no longer than `JOIN_SECONDS`, and form a group with them.

    Within the group, waiting may last as long as PyTorch lets it: rank 0 may read a large text.
    """
    address = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
    try:
        store, _, _ = next(rendezvous("env://", timeout=timedelta(seconds=JOIN_SECONDS)))
        store.set_timeout(dist.default_pg_timeout)
        dist.init_process_group(backend, store=store, rank=world.rank, world_size=world.size)
    except (RuntimeError, ValueError) as error:
        raise SettingError(
            f"cannot connect {world.size} processes at {address} within {JOIN_SECONDS} seconds "
            f"({_first_line(error)}); start them all with torchrun, check the address, or give "
            "torchrun another `--master-port`"
        ) from error


@contextlib.contextmanager
def _lost_process_explained() -> Iterator[None]:
    """Turn the error of a collective whose other end has died into a `TrainingError`."""
    try:
        yield
    except RuntimeError as error:
        if not any(word in str(error) for word in ("gloo", "NCCL", "onnection", "process group")):
            raise
        raise TrainingError(
            f"another process of this run was lost ({_first_line(error)}); resume the run to "
            "continue from its last save, with any number of processes that divides the lanes"
        ) from error


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0][:120]
