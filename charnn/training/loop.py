"""Truncated BPTT with clipping: a generator that yields one report per step."""

import contextlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from charnn.config import ModelConfig, TrainConfig
from charnn.errors import TrainingError
from charnn.model.network import CharNetwork
from charnn.text.batches import Batches, Position
from charnn.training.memory import keep_freed_memory
from charnn.training.schedule import learning_rate


@dataclass(frozen=True)
class StepReport:
    """What one update was like."""

    step: int  # updates made, this one included
    loss: float  # nats per character of its window, before the update
    learning_rate: float
    gradient_norm: float  # before clipping


@dataclass
class TrainState:
    """All that training needs to go on, in one object."""

    network: CharNetwork
    optimizer: torch.optim.Optimizer
    recurrent: Tensor  # the lanes' states [S, B, L, H]
    step: int = 0
    position: Position = field(default_factory=Position)
    random: dict[str, Tensor] = field(default_factory=dict)  # generators' states, by device type

    @classmethod
    def start(
        cls, model: ModelConfig, config: TrainConfig, lanes: int, device: torch.device
    ) -> Self:
        """The state before step 1: every random number from here on follows from the seed."""
        keep_freed_memory()
        theirs = _generators(device)
        torch.manual_seed(config.seed)
        network = CharNetwork(model).to(device).train()  # made on the CPU: equal on every device
        state = cls(network, _optimizer(network, config), network.zero_state(lanes))
        state.random = _generators(device)
        _set_generators(theirs, device)
        return state

    def tensors(self) -> dict[str, Tensor]:
        """Everything but the weights and the plain numbers, by name."""
        names = {id(p): name for name, p in self.network.named_parameters()}
        tensors = {
            f"optimizer.{names[id(parameter)]}.{key}": value
            for parameter, values in self.optimizer.state.items()
            for key, value in values.items()
        }
        tensors |= {f"random.{kind}": value for kind, value in self.random.items()}
        return tensors | {"recurrent": self.recurrent}

    def progress(self) -> dict[str, Any]:
        """The plain numbers: which step, and where in the text."""
        return {"step": self.step, "epoch": self.position.epoch, "window": self.position.window}

    def restore(self, progress: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        """Take back what `progress` and `tensors` gave; the weights are loaded already."""
        self.step = progress["step"]
        self.position = Position(progress["epoch"], progress["window"])
        device = self.recurrent.device
        self.recurrent = tensors["recurrent"].to(device)
        for name, parameter in self.network.named_parameters():
            prefix = f"optimizer.{name}."
            self.optimizer.state[parameter] = {
                key.removeprefix(prefix): value.to(device)
                for key, value in tensors.items()
                if key.startswith(prefix)
            }
        # a run that goes on on another kind of device begins that device's generator anew
        self.random = {k: tensors.get(f"random.{k}", fresh) for k, fresh in self.random.items()}


def _generators(device: torch.device) -> dict[str, Tensor]:
    """The states of torch's generators that training on `device` draws from."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


@contextlib.contextmanager
def _own_random(state: TrainState) -> Iterator[None]:
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


def _optimizer(network: CharNetwork, config: TrainConfig) -> torch.optim.Optimizer:
    # fused: one pass over the parameters instead of several
    return torch.optim.AdamW(
        network.parameters(),
        lr=config.learning_rate,
        betas=(0.9, config.beta2),
        weight_decay=config.weight_decay,
        fused=True,
    )


def train_steps(state: TrainState, batches: Batches, config: TrainConfig) -> Iterator[StepReport]:
    """Update `state` until `config.steps`, one report per step.

    Raises `TrainingError` on a loss or gradient that is not finite, before it reaches the weights.
    """
    while state.step < config.steps:
        inputs, targets, after = batches.at(state.position)
        rate = learning_rate(state.step, config)
        with _own_random(state):
            loss, norm, recurrent = _update(state, inputs, targets, rate, config)
        fresh_epoch = after.epoch != state.position.epoch  # its text starts elsewhere
        state.recurrent = torch.zeros_like(recurrent) if fresh_epoch else recurrent
        state.position = after
        state.step += 1
        yield StepReport(state.step, loss, rate, norm)


def _update(
    state: TrainState, inputs: Tensor, targets: Tensor, rate: float, config: TrainConfig
) -> tuple[float, float, Tensor]:
    """One forward, backward and update; the loss, the gradient norm and the lanes' new state."""
    device = state.recurrent.device
    logits, recurrent = state.network(inputs.to(device), state.recurrent)
    loss = F.cross_entropy(logits.flatten(0, 1), targets.to(device).flatten())
    state.optimizer.zero_grad(set_to_none=True)
    loss.backward()
    norm = nn.utils.clip_grad_norm_(state.network.parameters(), config.clip, foreach=True).item()
    if not (math.isfinite(loss.item()) and math.isfinite(norm)):
        raise TrainingError(
            f"step {state.step + 1}: the loss is {loss.item():.4g}, the gradient norm {norm:.4g}; "
            "the last good checkpoint is kept; try "
            f"--learning-rate {config.learning_rate / 2:.1g} or a smaller --clip"
        )
    for group in state.optimizer.param_groups:
        group["lr"] = rate
    state.optimizer.step()
    return loss.item(), norm, recurrent.detach()
