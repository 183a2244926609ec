"""What moves the weights: AdamW, or Muon for the layers' matrices and AdamW for the rest."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from charnn.config import TrainConfig
from charnn.errors import CheckpointError
from charnn.model.network import CharNetwork
from charnn.training.muon import Muon

GROW_AFTER = 2000  # updates without an overflow; as torch.amp.GradScaler
LARGEST = 2.0**24
MOST_SKIPPED = 20
ADAMW, MUON = ("exp_avg", "exp_avg_sq"), ("momentum",)


class Optimizer:
    """One or two of torch's optimizers as one, with all they remember as tensors by name."""

    def __init__(self, network: CharNetwork, config: TrainConfig) -> None:
        rate, decay = config.learning_rate, config.weight_decay
        named = dict(network.named_parameters())
        matrices = {
            name: parameter
            for name, parameter in named.items()
            if config.optimizer == "muon" and name.startswith("layers.") and parameter.dim() == 2
        }
        others = [parameter for name, parameter in named.items() if name not in matrices]
        # fused: one pass over the parameters instead of several
        betas = (0.9, float(config.beta2))
        adamw = torch.optim.AdamW(others, rate, betas, weight_decay=decay, fused=True)
        self._parts: list[torch.optim.Optimizer] = [adamw]
        if matrices:
            self._parts.append(Muon(matrices.values(), rate, decay))
        # A tensor, so that a recorded update (charnn/training/update.py) follows the schedule.
        self._rate = torch.zeros((), device=next(network.parameters()).device)
        for part in self._parts:
            for group in part.param_groups:
                group["lr"] = self._rate
        self._named = named
        self._matrices = matrices.keys()
        for name, memory in self._memories():
            keys = MUON if name in self._matrices else ADAMW
            memory.update({key: torch.zeros_like(named[name]) for key in keys})
            if name not in self._matrices:
                memory["step"] = torch.zeros((), device=named[name].device)

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for part in self._parts:
            part.zero_grad(set_to_none=True)

    def set_rate(self, rate: float) -> None:
        """The learning rate from here on; one beyond float32 is infinite."""
        self._rate.fill_(rate if rate < torch.finfo(torch.float32).max else torch.inf)

    def step(self, skip: Tensor | None = None) -> None:
        """Update every weight by its gradient, at the learning rate that is set; nothing where
        `skip` is 1."""
        recorded = self._rate.is_cuda and torch.cuda.is_current_stream_capturing()
        for part in self._parts:
            for group in part.param_groups:
                group["capturable"] = recorded  # torch warns of it elsewhere, and of its lack there
            part.found_inf = skip  # type: ignore[attr-defined]  # as torch's gradient scaler says it
            part.step()

    def tensors(self) -> dict[str, Tensor]:
        """What it remembers, itself."""
        return {
            f"{name}.{key}": value
            for name, memory in self._memories()
            for key, value in memory.items()
        }

    def remember(self, tensors: Mapping[str, Tensor]) -> None:
        """Take back what `tensors` gave, into the same places; of nothing it begins anew."""
        for name, value in self.tensors().items():
            value.copy_(tensors[name]) if name in tensors else value.zero_()

    def _memories(self) -> Iterator[tuple[str, dict[str, Tensor]]]:
        for name, parameter in self._named.items():
            yield name, self._parts[name in self._matrices].state[parameter]


def learning_rate(step: int, config: TrainConfig) -> float:
    """The rate of update `step` (from 0): a linear rise, then half a cosine to the last step."""
    rise = max(1, round(config.warmup * config.steps))
    if step < rise:
        return config.learning_rate * (step + 1) / rise
    done = (step - rise) / max(1, config.steps - 1 - rise)
    wave = 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
    return config.learning_rate * (config.final_rate + (1 - config.final_rate) * wave)


@dataclass(frozen=True)
class LossScale:
    """What the loss is multiplied with before its gradient is taken."""

    scale: float = 2.0**16
    good: int = 0  # updates since it last changed
    skipped: int = 0  # steps in a row whose gradient overflowed

    @property
    def lost(self) -> bool:
        """Whether smaller scales do not help: it is not the scale that overflows."""
        return self.skipped >= MOST_SKIPPED or self.scale < 1

    def to_tensor(self) -> Tensor:
        """The three numbers, exactly."""
        return torch.tensor([self.scale, self.good, self.skipped])

    @classmethod
    def from_tensor(cls, tensor: Tensor) -> "LossScale":
        """Read back what `to_tensor` gave."""
        scale, good, skipped = tensor.tolist()
        if not (1 <= scale <= LARGEST and 0 <= good < GROW_AFTER and 0 <= skipped < MOST_SKIPPED):
            raise CheckpointError("the training state has an impossible loss scale")
        return cls(scale, int(good), int(skipped))


def next_loss_scale(numbers: Tensor, overflow: Tensor) -> Tensor:
    """The numbers [3] for the next step: half the scale after an overflow, twice after many good
    ones."""
    scale, good, skipped = numbers
    none = torch.zeros_like(scale)
    grows = good + 1 >= GROW_AFTER
    higher = torch.where(grows, (2 * scale).clamp_max(LARGEST), scale)
    fine = torch.stack((higher, torch.where(grows, none, good + 1), none))
    return torch.where(overflow, torch.stack((scale / 2, none, skipped + 1)), fine)
