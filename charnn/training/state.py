"""All that training needs to go on, in one object; and the snapshot that it can return to."""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Self

import torch
from torch import Tensor, nn

from charnn.checkpoint import Progress
from charnn.config import ModelConfig, TrainConfig
from charnn.device import make_deterministic
from charnn.errors import CheckpointError
from charnn.model.network import CharNetwork
from charnn.text.batches import Position
from charnn.training.distributed import SINGLE_PROCESS, World
from charnn.training.memory import keep_freed_memory
from charnn.training.optimizer import LossScale, Optimizer

_WEIGHTS, _OPTIMIZER, _SNAPSHOT = "weights.", "optimizer.", "snapshot."
_RANDOM, _LANES, _LANES_DIMENSIONS = "random.", "recurrent", 4
_APART = 0x9E3779B97F4A7C15  # between the seeds of processes: far, so that runs share none


@dataclass(frozen=True)
class Snapshot:
    """A copy of everything that changes, at a step."""

    step: int
    position: Position
    tensors: Mapping[str, Tensor]


@dataclass
class TrainState:
    """All that training needs to go on, in one object."""

    network: CharNetwork
    forward: nn.Module  # the network; of a world, with gradients that are averaged
    optimizer: Optimizer
    recurrent: Tensor  # this process's lanes' states [S, B, L, H]
    step: int = 0
    position: Position = field(default_factory=Position)
    random: dict[str, Tensor] = field(default_factory=dict)  # generators' states, by device type
    rollbacks: int = 0
    loss_scale: Tensor | None = None  # of float16, the numbers [3] of a `LossScale`
    snapshot: Snapshot = Snapshot(-1, Position(), {})  # set by `start`
    world: World = SINGLE_PROCESS

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
        """The state before step 1: every random number from here on follows from the seed.

        The weights are drawn too, unless they are given. `lanes` are those of the whole world.
        """
        keep_freed_memory()
        if config.deterministic:
            make_deterministic(device)
        theirs = _generators(device)
        torch.manual_seed(config.seed)
        network = CharNetwork(model).to(device).train()  # made on the CPU: equal on every device
        lanes //= world.size
        optimizer, forward = Optimizer(network, config), world.wrap(network)
        state = cls(network, forward, optimizer, network.zero_state(lanes), world=world)
        if world.rank > 0:  # masks of its own
            torch.manual_seed((config.seed + world.rank * _APART) % 2**63)
        state.random = _generators(device)
        _set_generators(theirs, device)
        if config.precision == "fp16":
            state.loss_scale = LossScale().to_tensor().to(device)
        if weights is not None:
            network.load_state_dict(dict(weights))
        state.keep()
        return state

    def keep(self) -> None:
        """Take the snapshot that a rollback goes back to."""
        self.snapshot = self.copy()

    def roll_back(self) -> None:
        """Be as the snapshot was."""
        self.put(self.snapshot)
        self.rollbacks += 1

    def copy(self) -> Snapshot:
        """A copy of everything that changes."""
        copies = {name: tensor.detach().clone() for name, tensor in self._live().items()}
        return Snapshot(self.step, self.position, copies)

    def put(self, saved: Snapshot) -> None:
        """Be as a copy, in the same places."""
        self.step, self.position = saved.step, saved.position
        with torch.no_grad():
            for name, parameter in self.network.named_parameters():
                parameter.copy_(saved.tensors[_WEIGHTS + name])
        self.recurrent.copy_(saved.tensors["recurrent"])
        if self.loss_scale is not None:
            self.loss_scale.copy_(LossScale.from_tensor(saved.tensors["loss_scale"]).to_tensor())
        moments = saved.tensors.items()
        self.optimizer.remember(
            {k.removeprefix(_OPTIMIZER): v for k, v in moments if k.startswith(_OPTIMIZER)}
        )
        # a run that goes on on another kind of device begins that device's generator anew
        self.random = {k: saved.tensors.get(f"random.{k}", own) for k, own in self.random.items()}
        with own_random(self):
            pass  # torch refuses nonsense here and not in the middle of a step

    def finite(self) -> bool:
        """Whether every weight is a finite number."""
        return all(bool(torch.isfinite(p).all()) for p in self.network.parameters())

    def tensors(self) -> dict[str, Tensor]:
        """Everything that changes but the weights and the plain numbers, by name: of the whole
        world, which must ask for it together.

        The snapshot is left out where it would say the same again.
        """
        tensors = {k: v for k, v in self._live().items() if not k.startswith(_WEIGHTS)}
        if self.snapshot.step != self.step:
            tensors |= {_SNAPSHOT + name: value for name, value in self.snapshot.tensors.items()}
        return self._of_all(tensors)

    def _of_all(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """With all lanes, and the generators of the other processes under names of their own."""
        if self.world.size == 1:
            return tensors
        lanes = {k: self.world.unshard(v) for k, v in tensors.items() if k.endswith(_LANES)}
        own = {name: value for name, value in tensors.items() if _RANDOM in name}
        others = enumerate(self.world.all_gather(own)[1:], 1)
        generators = {f"{k}.{rank}": v for rank, theirs in others for k, v in theirs.items()}
        return tensors | lanes | generators

    def _own(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Of what `_of_all` gave what is this process's; it may have been another number of
        processes then."""
        own, number = {}, str(self.world.rank or "")
        for name, value in tensors.items():
            prefix, random, kind = name.partition(_RANDOM)
            kind, _, rank = kind.partition(".")
            if random and rank == number:
                own[prefix + random + kind] = value
            elif not random:
                lanes = name.endswith(_LANES) and value.dim() == _LANES_DIMENSIONS
                own[name] = self.world.shard(value) if lanes else value
        return own

    def progress(self) -> Progress:
        """The plain numbers: which step, where in the text, and the same of the snapshot."""
        here, there = self.position, self.snapshot.position
        return Progress(
            self.step, here.epoch, here.window, self.rollbacks,
            self.snapshot.step, there.epoch, there.window,
        )  # fmt: skip

    def restore(
        self, weights: Mapping[str, Tensor], progress: Progress, tensors: Mapping[str, Tensor]
    ) -> None:
        """Take back what `progress` and `tensors` gave; `CheckpointError` if they do not fit."""
        tensors = self._own(tensors)
        kept_too = [name for name in tensors if name.startswith(_SNAPSHOT)]
        snapshot = {name.removeprefix(_SNAPSHOT): tensors[name] for name in kept_too}
        now = {name: tensors[name] for name in tensors.keys() - kept_too}
        now |= {_WEIGHTS + name: value for name, value in weights.items()}
        p = progress
        saved = Snapshot(p.step, Position(p.epoch, p.window), now)
        kept = Snapshot(p.snapshot_step, Position(p.snapshot_epoch, p.snapshot_window), snapshot)
        self._check(saved)
        if kept.step == saved.step:
            kept = saved
        elif kept.step > saved.step:
            raise CheckpointError("the training state has a snapshot from a later step")
        else:
            self._check(kept)
        try:
            self.put(kept)
            self.keep()
            self.put(saved)
        except RuntimeError as error:  # from torch's generator, when it is given nonsense
            raise CheckpointError(f"the training state is damaged ({error})") from error
        self.rollbacks = p.rollbacks

    def _live(self) -> dict[str, Tensor]:
        """The tensors that change, themselves."""
        tensors = {_OPTIMIZER + name: value for name, value in self.optimizer.tensors().items()}
        tensors |= {_WEIGHTS + name: p for name, p in self.network.named_parameters()}
        tensors |= {_RANDOM + kind: value for kind, value in self.random.items()}
        if self.loss_scale is not None:
            tensors["loss_scale"] = self.loss_scale
        return tensors | {"recurrent": self.recurrent}

    def _check(self, saved: Snapshot) -> None:
        """Hold names, shapes and types against the network's."""
        expected = {"recurrent": _kind(self.recurrent)}
        if self.world.is_main or "random.cpu" in saved.tensors:  # another process may be a new one
            expected["random.cpu"] = _kind(self.random["cpu"])
        if self.loss_scale is not None:
            expected["loss_scale"] = _kind(self.loss_scale)
        for name, parameter in self.network.named_parameters():
            expected[_WEIGHTS + name] = _kind(parameter)
        # Older files have nothing of it before its first update, which in float16 may come late.
        updated = any(name.startswith(_OPTIMIZER) for name in saved.tensors)
        if updated or (saved.step > 0 and self.loss_scale is None):
            moments = self.optimizer.tensors().items()
            expected |= {_OPTIMIZER + name: _kind(value) for name, value in moments}
        met = {name: _kind(t) for name, t in saved.tensors.items()}
        for name in {"random.cuda", "random.mps"} & met.keys():
            kind = name.removeprefix("random.")
            if kind in self.random:
                expected[name] = _kind(self.random[kind])
            else:  # that of a device which is not used now
                del met[name]
        if met != expected:
            wrong = sorted(n for n in {*met, *expected} if met.get(n) != expected.get(n))
            names = ", ".join(name[:80] for name in wrong[:3])
            raise CheckpointError(f"the training state does not fit the model: {names}")


def _kind(tensor: Tensor) -> tuple[torch.Size, torch.dtype]:
    return tensor.shape, tensor.dtype


def _generators(device: torch.device) -> dict[str, Tensor]:
    """The states of torch's generators that training on `device` draws from."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    if device.type == "mps":
        states["mps"] = torch.mps.get_rng_state()
    return states


@contextlib.contextmanager
def own_random(state: TrainState) -> Iterator[None]:
    """Within the block torch draws from the run's generators, and from the caller's after it."""
    device = state.recurrent.device
    theirs = _generators(device)
    _set_generators(state.random, device)
    try:
        yield
    finally:
        state.random = _generators(device)
        _set_generators(theirs, device)


def _set_generators(states: Mapping[str, Tensor], device: torch.device) -> None:
    torch.set_rng_state(states["cpu"])
    if "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)
    if "mps" in states:
        torch.mps.set_rng_state(states["mps"])
