"""One update of truncated BPTT, launched kernel by kernel or replayed as a CUDA graph.

An update consists of tensor operations alone: nothing in it waits for the device, and everything
that it changes stays at its address (weights, optimizer state, recurrent states, loss scale). CUDA
can therefore capture an update once and replay it in one launch. That is faster, because launching
a recurrent network's many small kernels from Python takes longer than running them.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from charnn.config import TrainConfig
from charnn.cuda_graph import capture
from charnn.device import has_bfloat16_lstm
from charnn.text.records import NO_TARGET
from charnn.training.optimizer import next_loss_scale
from charnn.training.state import TrainState

_DTYPES = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
_WARM_UP_UPDATES = 3  # as PyTorch's notes on CUDA graphs recommend

# Shapes: T characters of a window, B lanes.


class StepStats(NamedTuple):
    """The numbers of one update, as tensors on its device: reading one waits for the device."""

    loss: Tensor  # scalar, nats per character of the window before the update
    gradient_norm: Tensor  # scalar, before clipping
    loss_scale: Tensor | None  # float16 only: the `LossScale` [3] after the update


UpdateFunction = Callable[[Tensor, Tensor, float], StepStats]  # inputs, targets, learning rate


class Update:
    """A forward pass, a backward pass and an optimizer step, which change a training state.

    In float16 the optimizer step is skipped if the gradient overflows.
    """

    def __init__(self, state: TrainState, config: TrainConfig) -> None:
        self._state = state
        self._config = config
        self._parameters = list(state.network.parameters())
        self._dtype = _DTYPES[config.precision]
        if self._dtype is torch.bfloat16 and state.network.config.cell == "lstm":
            # A new run refuses this setting; one resumed on such a CPU continues in float32.
            self._dtype = self._dtype if has_bfloat16_lstm(state.recurrent.device) else None

    def __call__(self, inputs: Tensor, targets: Tensor, learning_rate: float) -> StepStats:
        """Train on a window [T, B] of the whole world's lanes."""
        world, device = self._state.world, self._state.recurrent.device
        weight = None
        if world.size > 1:
            # With records, a process's lanes may have fewer targets than others', or none: each
            # target must count the same in the gradient, which is averaged over the processes.
            weight = world.size / int((targets != NO_TARGET).sum())
        self._state.optimizer.set_learning_rate(learning_rate)
        return self.run(world.shard(inputs).to(device), world.shard(targets).to(device), weight)

    def run(self, inputs: Tensor, targets: Tensor, target_weight: float | None = None) -> StepStats:
        """Train on a window [T, B] of this process's lanes, at the optimizer's learning rate.

        The loss is the mean over the targets, or their sum times `target_weight`.
        """
        state = self._state
        with torch.autocast(inputs.device.type, self._dtype, enabled=self._dtype is not None):
            logits, recurrent = state.forward(inputs, state.recurrent)
        logits, targets = logits.flatten(0, 1).float(), targets.flatten()
        if target_weight is None:
            loss = F.cross_entropy(logits, targets)
        else:
            loss = F.cross_entropy(logits, targets, reduction="sum") * target_weight
        norm = self._backward(loss)
        state.recurrent.copy_(recurrent.detach())
        loss_scale = self._step(norm)
        return StepStats(loss.detach(), norm.detach().to(loss), loss_scale)

    def _backward(self, loss: Tensor) -> Tensor:
        """Compute and clip the gradient; return its norm before clipping."""
        state = self._state
        state.optimizer.zero_grad()
        if state.loss_scale is None:
            loss.backward()
        else:
            scale = state.loss_scale[0]
            (loss * scale).backward()
            gradients = [p.grad for p in self._parameters if p.grad is not None]
            torch._foreach_div_(gradients, scale)
        return nn.utils.clip_grad_norm_(self._parameters, self._config.clip, foreach=True)

    def _step(self, norm: Tensor) -> Tensor | None:
        """Step the optimizer and the loss scale; return a copy of the latter."""
        state = self._state
        if state.loss_scale is None:
            state.optimizer.step()
            return None
        overflow = ~torch.isfinite(norm)
        state.optimizer.step(skip=overflow.float())
        state.loss_scale.copy_(next_loss_scale(state.loss_scale, overflow))
        return state.loss_scale.clone()


def can_capture(state: TrainState) -> bool:
    """Return True if updates of `state` can be captured as a CUDA graph.

    With several processes they cannot, because the gradients are exchanged during the update.
    """
    return state.recurrent.is_cuda and state.world.size == 1


class GraphedUpdate:
    """An `Update` captured as a CUDA graph, for windows of one shape."""

    def __init__(
        self, state: TrainState, config: TrainConfig, window: tuple[Tensor, Tensor]
    ) -> None:
        """Capture an update on a window [T, B] of the run, and leave `state` as it was.

        Raises `RuntimeError` if the capture fails, or if replaying it gives other results than the
        update itself.
        """
        self._optimizer = state.optimizer
        device, before = state.recurrent.device, state.to_snapshot()
        self._inputs, self._targets = (part.to(device, copy=True) for part in window)
        update, rate = Update(state, config), config.learning_rate

        def warm_up() -> list[StepStats]:
            with state.random_state():
                stats = [update(*window, rate) for _ in range(_WARM_UP_UPDATES)]
            state.optimizer.zero_grad()
            return stats

        def run() -> None:
            self._stats = update.run(self._inputs, self._targets)

        try:
            self._graph, eager = capture(device, warm_up, run)
            state.load_snapshot(before)
            with state.random_state():
                replayed = [self(*window, rate) for _ in eager]
        finally:
            state.load_snapshot(before)
        ours, theirs = _losses_and_norms(replayed), _losses_and_norms(eager)
        if not torch.allclose(ours, theirs, rtol=0.01, equal_nan=True):
            raise RuntimeError(
                f"the graph gives losses and gradient norms {ours.tolist()}, not {theirs.tolist()}"
            )

    def __call__(self, inputs: Tensor, targets: Tensor, learning_rate: float) -> StepStats:
        """Train on a window [T, B] as `Update` does."""
        self._inputs.copy_(_pinned(inputs), non_blocking=True)
        self._targets.copy_(_pinned(targets), non_blocking=True)
        self._optimizer.set_learning_rate(learning_rate)
        self._graph.replay()
        loss, norm, loss_scale = self._stats  # which the next replay overwrites
        return StepStats(
            loss.clone(), norm.clone(), None if loss_scale is None else loss_scale.clone()
        )


def _losses_and_norms(stats: Sequence[StepStats]) -> Tensor:
    return torch.stack([torch.stack((s.loss, s.gradient_norm)) for s in stats])


def _pinned(part: Tensor) -> Tensor:
    """Return `part` in memory that a CUDA device can copy from without blocking the program."""
    return part if part.is_cuda else part.pin_memory()
