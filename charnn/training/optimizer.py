"""The optimizer, its learning-rate schedule and float16's loss scale.

The weights are trained by AdamW alone, or by Muon for the recurrent layers' matrices and AdamW for
the rest.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from charnn.config import TrainConfig
from charnn.errors import CheckpointError
from charnn.model.network import CharNetwork
from charnn.training.muon import Muon

GROWTH_INTERVAL = 2000  # updates without an overflow; as in torch.amp.GradScaler
MAX_SCALE = 2.0**24
MAX_SKIPPED = 20  # updates in a row
ADAMW_STATE, MUON_STATE = ("exp_avg", "exp_avg_sq"), ("momentum",)


class Optimizer:
    """AdamW, or Muon and AdamW, as one optimizer whose state is a flat mapping of named tensors."""

    def __init__(self, network: CharNetwork, config: TrainConfig) -> None:
        rate, decay = config.learning_rate, config.weight_decay
        named = dict(network.named_parameters())
        matrices = {
            name: parameter
            for name, parameter in named.items()
            if config.optimizer == "muon" and name.startswith("layers.") and parameter.dim() == 2
        }
        others = [parameter for name, parameter in named.items() if name not in matrices]
        betas = (0.9, float(config.beta2))
        # fused: one pass over the parameters instead of several
        adamw = torch.optim.AdamW(others, rate, betas, weight_decay=decay, fused=True)
        self._optimizers: list[torch.optim.Optimizer] = [adamw]
        if matrices:
            self._optimizers.append(Muon(matrices.values(), rate, decay))
        # A tensor, so that an update captured as a CUDA graph follows the schedule.
        self._learning_rate = torch.zeros((), device=next(network.parameters()).device)
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self._learning_rate
        self._parameters = named
        self._matrices = matrices.keys()
        for name, state in self._states():
            keys = MUON_STATE if name in self._matrices else ADAMW_STATE
            state.update({key: torch.zeros_like(named[name]) for key in keys})
            if name not in self._matrices:
                state["step"] = torch.zeros((), device=named[name].device)

    def zero_grad(self) -> None:
        """Set all gradients to None."""
        for optimizer in self._optimizers:
            optimizer.zero_grad(set_to_none=True)

    def set_learning_rate(self, rate: float) -> None:
        """Set the learning rate of the next steps; a rate beyond float32 becomes infinite."""
        self._learning_rate.fill_(rate if rate < torch.finfo(torch.float32).max else torch.inf)

    def step(self, skip: Tensor | None = None) -> None:
        """Update every weight from its gradient.

        If `skip`, a scalar on the weights' device, is 1, nothing changes. It is a tensor so that
        the decision needs no transfer from the device.
        """
        capturing = self._learning_rate.is_cuda and torch.cuda.is_current_stream_capturing()
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                # PyTorch demands this during a capture, and warns about it everywhere else.
                group["capturable"] = capturing
            # torch.amp.GradScaler passes an overflow to fused optimizers by this attribute.
            optimizer.found_inf = skip  # type: ignore[attr-defined]
            optimizer.step()

    def tensors(self) -> dict[str, Tensor]:
        """Return the optimizer's state, not copied, as `{parameter name}.{state name}: tensor`."""
        return {
            f"{name}.{key}": value for name, state in self._states() for key, value in state.items()
        }

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Copy `tensors`, as `tensors()` returned them, into the state in place.

        Missing tensors become zero, as they are at the beginning.
        """
        for name, value in self.tensors().items():
            value.copy_(tensors[name]) if name in tensors else value.zero_()

    def _states(self) -> Iterator[tuple[str, dict[str, Tensor]]]:
        for name, parameter in self._parameters.items():
            yield name, self._optimizers[name in self._matrices].state[parameter]


def learning_rate(step: int, config: TrainConfig) -> float:
    """Return the learning rate of update `step` (from 0): linear warm-up, then half a cosine."""
    warmup_steps = max(1, round(config.warmup * config.steps))
    place = _place(step, config)
    if place < warmup_steps:
        return config.learning_rate * min(place + 1, warmup_steps) / warmup_steps
    progress = (place - warmup_steps) / max(1, config.steps - 1 - warmup_steps)
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    return config.learning_rate * (config.final_rate + (1 - config.final_rate) * cosine)


def replan(config: TrainConfig, step: int, steps: int) -> TrainConfig:
    """Return the settings of a run that has made `step` updates and is to end after `steps`.

    The learning rate goes on from where it is, and the rest of the schedule is run through faster
    or slower.
    """
    share = _place(step, config) / max(1, config.steps - 1)
    return replace(config, steps=steps, replanned_step=step, replanned_share=min(1.0, share))


def _place(step: int, config: TrainConfig) -> float:
    """Return the place of an update in the schedule, which is `step` unless it was replanned."""
    if not config.replanned_step:
        return step
    last, first = config.steps - 1, config.replanned_step
    if last <= first:
        return last
    start = config.replanned_share * last
    place = start + (last - start) * (step - first) / (last - first)
    return min(max(place, 0.0), float(last))


@dataclass(frozen=True)
class LossScale:
    """The factor by which float16 training multiplies the loss before the backward pass."""

    scale: float = 2.0**16
    good: int = 0  # updates without an overflow since the scale last changed
    skipped: int = 0  # updates in a row that were skipped because their gradient overflowed

    @property
    def exhausted(self) -> bool:
        """True if lowering the scale does not stop the overflows, so it is not their cause."""
        return self.skipped >= MAX_SKIPPED or self.scale < 1

    def to_tensor(self) -> Tensor:
        """Return scale, good and skipped as a float32 tensor [3], which holds them exactly."""
        return torch.tensor([self.scale, self.good, self.skipped])

    @classmethod
    def from_tensor(cls, tensor: Tensor) -> "LossScale":
        """Rebuild a loss scale from what `to_tensor` returned; a `CheckpointError` if it cannot
        be one."""
        scale, good, skipped = tensor.tolist()
        if not (
            1 <= scale <= MAX_SCALE and 0 <= good < GROWTH_INTERVAL and 0 <= skipped < MAX_SKIPPED
        ):
            raise CheckpointError("the training state has an impossible loss scale")
        return cls(scale, int(good), int(skipped))


def next_loss_scale(loss_scale: Tensor, overflow: Tensor) -> Tensor:
    """Return the loss scale [3] after an update, computed on its device.

    The scale halves after an overflow and doubles after `GROWTH_INTERVAL` updates without one.
    """
    scale, good, skipped = loss_scale
    zero = torch.zeros_like(scale)
    grows = good + 1 >= GROWTH_INTERVAL
    grown = torch.where(grows, (2 * scale).clamp_max(MAX_SCALE), scale)
    after_success = torch.stack((grown, torch.where(grows, zero, good + 1), zero))
    after_overflow = torch.stack((scale / 2, zero, skipped + 1))
    return torch.where(overflow, after_overflow, after_success)
