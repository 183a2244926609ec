"""Everything that training changes, as one object that can be saved, restored and rolled back."""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Self

import torch
from torch import Tensor, nn

from charnn.config import ModelConfig, TrainConfig
from charnn.errors import CheckpointError
from charnn.facts import Progress
from charnn.model.network import CharNetwork
from charnn.model.weights import in_range
from charnn.text.batches import Position
from charnn.training.distributed import SINGLE_PROCESS, World
from charnn.training.memory import keep_freed_memory
from charnn.training.optimizer import LossScale, Optimizer

# Names of tensors in a snapshot and in a checkpoint's training state.
_WEIGHTS, _OPTIMIZER, _SNAPSHOT = "weights.", "optimizer.", "snapshot."
_RANDOM, _RECURRENT, _LOSS_SCALE = "random.", "recurrent", "loss_scale"
_RECURRENT_DIMENSIONS = 4
# Between the seeds of two processes; large, so that runs with neighbouring seeds share none.
_SEED_STRIDE = 0x9E3779B97F4A7C15

# Shapes: S states (an LSTM has 2, other cells 1), B lanes, L layers, H hidden units.


@dataclass(frozen=True)
class Snapshot:
    """A copy of everything that training changes, taken after an update."""

    step: int
    position: Position
    tensors: Mapping[str, Tensor]


@dataclass
class TrainState:
    """Everything that training needs to continue, in one object."""

    network: CharNetwork
    forward: nn.Module  # the network; with several processes, wrapped to average the gradients
    optimizer: Optimizer
    recurrent: Tensor  # the recurrent states of this process's lanes [S, B, L, H]
    step: int = 0  # updates made
    position: Position = field(default_factory=Position)
    random: dict[str, Tensor] = field(default_factory=dict)  # generator states by device type
    rollbacks: int = 0
    loss_scale: Tensor | None = None  # float16 only: a `LossScale` as a tensor [3]
    snapshot: Snapshot = Snapshot(-1, Position(), {})  # replaced by `start`
    world: World = SINGLE_PROCESS
    mid_step: bool = False  # while a step is made: an exception then leaves half of it

    @classmethod
    def start(
        cls,
        model: ModelConfig,
        config: TrainConfig,
        lanes: int,
        device: torch.device,
        weights: Mapping[str, Tensor] | None = None,
        world: World = SINGLE_PROCESS,
    ) -> Self:
        """Return the state before the first update; all random numbers follow from the seed.

        `lanes` counts the lanes of the whole world. The weights are drawn unless they are given.
        """
        keep_freed_memory()
        callers = _random_state(device)
        torch.manual_seed(config.seed)
        # Built on the CPU first, so that the initial weights are equal on every device.
        network = CharNetwork(model).to(device).train()
        lanes //= world.size
        optimizer, forward = Optimizer(network, config), world.wrap(network)
        state = cls(network, forward, optimizer, network.zero_state(lanes), world=world)
        if world.rank > 0:  # so that dropout masks differ between processes
            torch.manual_seed((config.seed + world.rank * _SEED_STRIDE) % 2**63)
        state.random = _random_state(device)
        _set_random_state(callers, device)
        if config.precision == "fp16":
            state.loss_scale = LossScale().to_tensor().to(device)
        if weights is not None:
            network.load_state_dict(dict(weights))
        state.take_snapshot()
        return state

    def take_snapshot(self) -> None:
        """Copy the state into `snapshot`, to which `roll_back` returns."""
        self.snapshot = self.to_snapshot()

    def roll_back(self) -> None:
        """Return to `snapshot` and count the rollback."""
        self.load_snapshot(self.snapshot)
        self.rollbacks += 1

    def to_snapshot(self) -> Snapshot:
        """Return a copy of everything that changes."""
        copies = {name: tensor.detach().clone() for name, tensor in self._live_tensors().items()}
        return Snapshot(self.step, self.position, copies)

    def load_snapshot(self, snapshot: Snapshot) -> None:
        """Copy `snapshot` into the state in place: CUDA graphs know tensors by their addresses."""
        self.step, self.position, self.mid_step = snapshot.step, snapshot.position, True
        tensors = snapshot.tensors
        with torch.no_grad():
            for name, parameter in self.network.named_parameters():
                parameter.copy_(tensors[_WEIGHTS + name])
        self.recurrent.copy_(tensors[_RECURRENT])
        if self.loss_scale is not None:
            self.loss_scale.copy_(LossScale.from_tensor(tensors[_LOSS_SCALE]).to_tensor())
        self.optimizer.load_tensors(_with_prefix(tensors, _OPTIMIZER))
        # A run that is resumed on another kind of device keeps that device's fresh generator.
        self.random = {
            kind: tensors.get(_RANDOM + kind, fresh) for kind, fresh in self.random.items()
        }
        with self.random_state():
            pass  # so that PyTorch refuses invalid generator states here, not during a step
        self.mid_step = False

    def weights_are_finite(self) -> bool:
        """Return True if every weight is a finite number, and none too large to predict with."""
        return all(map(in_range, self.network.parameters()))

    @contextlib.contextmanager
    def random_state(self) -> Iterator[None]:
        """Let PyTorch draw from the run's generators within the block, then from the caller's."""
        device = self.recurrent.device
        callers = _random_state(device)
        _set_random_state(self.random, device)
        try:
            yield
        finally:
            self.random = _random_state(device)
            _set_random_state(callers, device)

    def progress(self) -> Progress:
        """Return step and position, of the state and of its snapshot."""
        position, snapshot = self.position, self.snapshot
        return Progress(
            self.step, position.epoch, position.window, self.rollbacks,
            snapshot.step, snapshot.position.epoch, snapshot.position.window,
        )  # fmt: skip

    def tensors(self) -> dict[str, Tensor]:
        """Return every tensor that `restore` needs but the weights, by name.

        This is a collective: all processes must call it together. The snapshot is left out if it
        was taken at the present step.
        """
        tensors = {k: v for k, v in self._live_tensors().items() if not k.startswith(_WEIGHTS)}
        if self.snapshot.step != self.step:
            tensors |= {_SNAPSHOT + name: value for name, value in self.snapshot.tensors.items()}
        return self._gather(tensors)

    def restore(
        self, weights: Mapping[str, Tensor], progress: Progress, tensors: Mapping[str, Tensor]
    ) -> None:
        """Continue from the `weights`, and from what `progress()` and `tensors()` returned.

        Raises `CheckpointError` if they do not fit the model or are damaged.
        """
        p, tensors = progress, self._shard(tensors)
        current = {name: t for name, t in tensors.items() if not name.startswith(_SNAPSHOT)}
        current |= {_WEIGHTS + name: value for name, value in weights.items()}
        saved = Snapshot(p.step, Position(p.epoch, p.window), current)
        self._check(saved)
        snapshot = saved
        if p.snapshot_step > p.step:
            raise CheckpointError("the training state has a snapshot from a later step")
        if p.snapshot_step < p.step:
            position = Position(p.snapshot_epoch, p.snapshot_window)
            snapshot = Snapshot(p.snapshot_step, position, _with_prefix(tensors, _SNAPSHOT))
            self._check(snapshot)
        try:
            self.load_snapshot(snapshot)
            self.take_snapshot()
            self.load_snapshot(saved)
        except RuntimeError as error:  # PyTorch refuses the state of a random generator
            raise CheckpointError(f"the training state is damaged ({error})") from error
        self.rollbacks = p.rollbacks

    def _live_tensors(self) -> dict[str, Tensor]:
        """Return the tensors that training changes, not copied."""
        tensors = {_OPTIMIZER + name: value for name, value in self.optimizer.tensors().items()}
        tensors |= {_WEIGHTS + name: p for name, p in self.network.named_parameters()}
        tensors |= {_RANDOM + kind: value for kind, value in self.random.items()}
        if self.loss_scale is not None:
            tensors[_LOSS_SCALE] = self.loss_scale
        return tensors | {_RECURRENT: self.recurrent}

    def _gather(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Combine the tensors of all processes for a checkpoint.

        The recurrent states get all lanes; generator states of other processes get their rank as a
        suffix, such as `random.cpu.1`.
        """
        if self.world.size == 1:
            return tensors
        lanes = {k: self.world.unshard(v) for k, v in tensors.items() if k.endswith(_RECURRENT)}
        own = {name: value for name, value in tensors.items() if _RANDOM in name}
        others = enumerate(self.world.all_gather(own)[1:], 1)
        generators = {f"{k}.{rank}": v for rank, theirs in others for k, v in theirs.items()}
        return tensors | lanes | generators

    def _shard(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return this process's part of what `_gather` returned, in a world of any size."""
        result, own_rank = {}, str(self.world.rank or "")
        for name, value in tensors.items():
            prefix, random, generator = name.partition(_RANDOM)
            kind, _, rank = generator.partition(".")
            if random and rank == own_rank:
                result[prefix + random + kind] = value
            elif not random:
                has_lanes = name.endswith(_RECURRENT) and value.dim() == _RECURRENT_DIMENSIONS
                result[name] = self.world.shard(value) if has_lanes else value
        return result

    def _check(self, saved: Snapshot) -> None:
        """Raise `CheckpointError` unless names, shapes and types are those of this state."""
        live = {name: _signature(tensor) for name, tensor in self._live_tensors().items()}
        met = {name: _signature(tensor) for name, tensor in saved.tensors.items()}
        expected = {k: v for k, v in live.items() if not k.startswith((_OPTIMIZER, _RANDOM))}
        # Ranks that the saved world did not have start with a fresh generator.
        if self.world.is_main or "random.cpu" in met:
            expected["random.cpu"] = live["random.cpu"]
        for name in {"random.cuda", "random.mps"} & met.keys():
            if name in live:
                expected[name] = live[name]
            else:  # the generator of a device that is not used now
                del met[name]
        # Older checkpoints have no optimizer state before the first update, which can come late in
        # float16, because updates that overflow are skipped.
        updated = any(name.startswith(_OPTIMIZER) for name in met)
        if updated or (saved.step > 0 and self.loss_scale is None):
            expected |= {k: v for k, v in live.items() if k.startswith(_OPTIMIZER)}
        if met != expected:
            wrong = sorted(n for n in {*met, *expected} if met.get(n) != expected.get(n))
            names = ", ".join(name[:80] for name in wrong[:3])
            raise CheckpointError(f"the training state does not fit the model: {names}")


def _with_prefix(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors whose names start with `prefix`, without it."""
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _signature(tensor: Tensor) -> tuple[torch.Size, torch.dtype]:
    return tensor.shape, tensor.dtype


def _random_state(device: torch.device) -> dict[str, Tensor]:
    """Return the states of the generators that training on `device` draws from, by device type."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    if device.type == "mps":
        states["mps"] = torch.mps.get_rng_state()
    return states


def _set_random_state(states: Mapping[str, Tensor], device: torch.device) -> None:
    torch.set_rng_state(states["cpu"])
    if "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)
    if "mps" in states:
        torch.mps.set_rng_state(states["mps"])
