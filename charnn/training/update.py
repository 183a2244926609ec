"""One update of truncated BPTT, made of tensors alone: nothing in it waits for the device.

What it changes stays in its place: the weights, what the optimizer remembers, the lanes' state and
the loss scale. So CUDA can record an update once and replay it, one launch for hundreds; a
recurrent network's many small kernels take longer to launch from Python than to run.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from charnn.config import TrainConfig
from charnn.cuda_graph import capture
from charnn.device import has_bfloat16_lstm
from charnn.text.records import NO_TARGET
from charnn.training.optimizer import next_loss_scale
from charnn.training.state import TrainState, own_random

_DTYPES = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
_WARM_UPS = 3  # before a recording, which must find all that libraries make at their first call

# What an update tells [2 or 5]: the loss in nats per character of its window, before the update;
# the gradient norm, before clipping; and in float16 the three numbers of the loss scale, after it.
Step = Callable[[Tensor, Tensor, float], Tensor]


class Update:
    """One forward, backward and update of a state; in float16 without the update where the gradient
    overflows."""

    def __init__(self, state: TrainState, config: TrainConfig) -> None:
        self._state = state
        self._config = config
        self._parameters = list(state.network.parameters())
        lstm = state.network.config.cell == "lstm"
        self._bfloat16 = not lstm or has_bfloat16_lstm(state.recurrent.device)

    def __call__(self, inputs: Tensor, targets: Tensor, rate: float) -> Tensor:
        """Learn from a window [T, B] of all lanes, at this learning rate; what is to be told."""
        world, device = self._state.world, self._state.recurrent.device
        weight = None
        if world.size > 1:  # of records, a process's lanes may have fewer targets, or none
            weight = world.size / int((targets != NO_TARGET).sum())
        self._state.optimizer.set_rate(rate)
        return self.run(world.shard(inputs).to(device), world.shard(targets).to(device), weight)

    def run(self, inputs: Tensor, targets: Tensor, weight: float | None = None) -> Tensor:
        """The same of this process's lanes, at the rate that the optimizer has; of a world with what
        a target's nats count."""
        state, config = self._state, self._config
        dtype = _DTYPES[config.precision]
        if dtype is torch.bfloat16 and not self._bfloat16:
            dtype = None
        with torch.autocast(inputs.device.type, dtype, enabled=dtype is not None):
            logits, recurrent = state.forward(inputs, state.recurrent)
        logits, targets = logits.flatten(0, 1).float(), targets.flatten()
        if weight is None:
            loss = F.cross_entropy(logits, targets)
        else:
            loss = F.cross_entropy(logits, targets, reduction="sum") * weight
        state.optimizer.zero_grad()
        scale = state.loss_scale
        (loss if scale is None else loss * scale[0]).backward()
        if scale is not None:
            gradients = [p.grad for p in self._parameters if p.grad is not None]
            torch._foreach_div_(gradients, scale[0])
        norm = nn.utils.clip_grad_norm_(self._parameters, config.clip, foreach=True)
        state.recurrent.copy_(recurrent.detach())
        told = [loss.detach()[None], norm.detach().to(loss)[None]]
        if scale is None:
            state.optimizer.step()
        else:
            overflow = ~torch.isfinite(norm)
            state.optimizer.step(skip=overflow.float())
            scale.copy_(next_loss_scale(scale, overflow))
            told.append(scale)
        return torch.cat(told)


def can_capture(state: TrainState) -> bool:
    """Whether updates can be recorded: those of a world send gradients in between."""
    return state.recurrent.is_cuda and state.world.size == 1


class GraphedUpdate:
    """An update as CUDA replays it."""

    def __init__(
        self, state: TrainState, config: TrainConfig, window: tuple[Tensor, Tensor]
    ) -> None:
        """Record it on a window of the run; the state is as before afterwards. `RuntimeError` if
        that cannot be done, or if replaying it is not the same."""
        self._optimizer = state.optimizer
        device, before = state.recurrent.device, state.copy()
        self._inputs, self._targets = (part.to(device, copy=True) for part in window)
        update, rate = Update(state, config), config.learning_rate

        def warm_up() -> Tensor:
            with own_random(state):
                told = torch.stack([update(*window, rate) for _ in range(_WARM_UPS)])
            state.optimizer.zero_grad()
            return told

        def run() -> None:
            self._told = update.run(self._inputs, self._targets)

        try:
            self._graph, expected = capture(device, warm_up, run)
            state.put(before)
            with own_random(state):
                replayed = torch.stack([self(*window, rate) for _ in expected])
        finally:
            state.put(before)
        numbers = replayed[:, :2], expected[:, :2]
        if not torch.allclose(*numbers, rtol=0.01, equal_nan=True):
            raise RuntimeError("losses and norms {} where {} were right".format(*numbers))

    def __call__(self, inputs: Tensor, targets: Tensor, rate: float) -> Tensor:
        """As `Update.__call__`."""
        self._inputs.copy_(_sendable(inputs), non_blocking=True)
        self._targets.copy_(_sendable(targets), non_blocking=True)
        self._optimizer.set_rate(rate)
        self._graph.replay()
        return self._told.clone()


def _sendable(part: Tensor) -> Tensor:
    """Memory that a device can fetch from while the program goes on."""
    return part if part.is_cuda else part.pin_memory()
