"""Several processes that train one model, started by torchrun: each has a share of the lanes.

torch's DistributedDataParallel averages the gradients; what else must be equal everywhere is agreed
on here. Only the first process writes. A process alone is a world too, in which nothing is sent.
"""

import contextlib
import gc
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from charnn.device import idle_card, pick_device
from charnn.errors import SettingError, TrainingError

log = logging.getLogger(__name__)

Result = TypeVar("Result")


@dataclass(frozen=True)
class World:
    """This process's number and how many there are."""

    rank: int = 0
    size: int = 1
    is_local_main: bool = True  # of the processes on its machine

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes and speaks."""
        return self.rank == 0

    def wrap(self, network: nn.Module) -> nn.Module:
        """The network, as one whose gradients are averaged over all processes."""
        if self.size == 1:
            return network
        return nn.parallel.DistributedDataParallel(network)  # which finds the device itself

    def shard(self, lanes: Tensor, dim: int = 1) -> Tensor:
        """This process's part of what is there for all lanes."""
        return lanes.chunk(self.size, dim)[self.rank] if self.size > 1 else lanes

    def unshard(self, lanes: Tensor, dim: int = 1) -> Tensor:
        """What `shard` was given, from the parts of all processes."""
        return torch.cat(self.all_gather(lanes.cpu()), dim) if self.size > 1 else lanes

    def all_gather(self, value: Result) -> list[Result]:
        """The values of all processes, in their order."""
        if self.size == 1:
            return [value]
        values: list[Result | None] = [None] * self.size
        dist.all_gather_object(values, value)
        return values  # type: ignore[return-value]

    def mean(self, value: float) -> float:
        """The average of the processes' values."""
        if self.size == 1:
            return value
        total = torch.tensor(value, dtype=torch.float64)
        dist.all_reduce(total)
        return total.item() / self.size

    def any(self, *flags: bool) -> Sequence[bool]:
        """For each flag whether it is set in any process."""
        if self.size == 1:
            return flags
        together = torch.tensor([int(flag) for flag in flags])
        dist.all_reduce(together, dist.ReduceOp.MAX)
        return [bool(flag) for flag in together.tolist()]

    def local_main_first(self, make: Callable[[], Result]) -> Result:
        """What each process makes: one of each machine before the others, who find what it left."""
        if self.is_local_main:
            made = make()
        self.any()
        return made if self.is_local_main else make()

    def broadcast(self, make: Callable[[], Result]) -> Result:
        """What the first process makes, for all."""
        if self.size == 1:
            return make()
        made: list[Result | None] = [make() if self.is_main else None]
        dist.broadcast_object_list(made)
        return made[0]  # type: ignore[return-value]


SINGLE_PROCESS = World()


def world_from_environment() -> World:
    """Who this process is, as torchrun says."""
    rank, size = _number("RANK", 0), _number("WORLD_SIZE", 1)
    if not 0 <= rank < size:
        raise SettingError(f"RANK {rank} and WORLD_SIZE {size} are set, and do not fit together")
    return World(rank, size, _number("LOCAL_RANK", rank) == 0)


def local_world_size() -> int:
    """How many processes share this machine."""
    return _number("LOCAL_WORLD_SIZE", _number("WORLD_SIZE", 1))


def _number(name: str, otherwise: int) -> int:
    value = os.environ.get(name, str(otherwise))
    if not value.isdecimal():
        raise SettingError(f"{name} is set, but to {value!r}, which is no number; unset it")
    return int(value)


def local_device(name: str) -> str:
    """The name of the device that is this process's: with several on a machine, each its own."""
    if "LOCAL_RANK" not in os.environ or not torch.cuda.is_available():
        return name
    if name.startswith("cuda:") and local_world_size() > 1:
        raise SettingError(f"{name} for several processes; --device cuda gives each one of its own")
    if name not in ("auto", "cuda"):
        return name
    local = _number("LOCAL_RANK", 0)
    if local >= (there := torch.cuda.device_count()):
        raise SettingError(
            f"process {local} of this machine has no GPU of its own, there are {there}; start "
            f"torchrun with --nproc-per-node {there}"
        )
    kinds = {torch.cuda.get_device_name(number) for number in range(there)}
    if len(kinds) > 1:
        raise SettingError(
            f"the GPUs are of different kinds ({', '.join(sorted(kinds))}), and the slowest would "
            "hold up all; choose equal ones with CUDA_VISIBLE_DEVICES"
        )
    return f"cuda:{local}"


@contextlib.contextmanager
def process_group(world: World, device: torch.device) -> Iterator[None]:
    """Within the block the processes can speak with each other."""
    if world.size == 1:
        yield
        return
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        if name not in os.environ:
            raise SettingError(f"WORLD_SIZE is set, but {name} is not; start with torchrun")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    where = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
    try:
        dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
    except (RuntimeError, ValueError) as error:
        raise SettingError(
            f"the other processes cannot be met at {where} ({_line(error)}); check the address, or "
            "give torchrun another --master-port"
        ) from error
    try:
        with _loss_explained():
            yield
            world.any()  # nobody leaves while another still sends
    finally:
        gc.collect()  # what holds on to the group, and would abort this process at its end
        with contextlib.suppress(RuntimeError):
            dist.destroy_process_group()


@contextlib.contextmanager
def _loss_explained() -> Iterator[None]:
    """A process that is gone is noticed by the next exchange, in words of the library's own."""
    try:
        yield
    except RuntimeError as error:
        if not any(word in str(error) for word in ("gloo", "NCCL", "onnection", "process group")):
            raise
        raise TrainingError(
            f"another process of this run is lost ({_line(error)}); --resume goes on from the last "
            "save, if there is one, with any number of processes that divides the lanes"
        ) from error


def _line(error: Exception) -> str:
    return str(error).partition("\n")[0][:120]


@contextlib.contextmanager
def join_world(device_name: str) -> Iterator[tuple[World, torch.device]]:
    """Yield this process's world, as torchrun describes it, and its device; the processes can
    communicate within the block."""
    world = world_from_environment()
    device = pick_device(local_device(device_name))
    if device_name == "auto" and (note := idle_card()):
        log.warning(note)
    with process_group(world, device):
        yield world, device
