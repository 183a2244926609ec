"""Loss scaling, which keeps float16's gradients from vanishing: three numbers and one rule.

The numbers are a tensor [3], because the device that finds an overflow follows the rule itself.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from charnn.errors import CheckpointError

GROW_AFTER = 2000  # updates without an overflow; as torch.amp.GradScaler
LARGEST = 2.0**24
MOST_SKIPPED = 20


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


def after(numbers: Tensor, overflow: Tensor) -> Tensor:
    """The numbers [3] for the next step: half the scale after an overflow, twice after many good
    ones."""
    scale, good, skipped = numbers
    none = torch.zeros_like(scale)
    grows = good + 1 >= GROW_AFTER
    higher = torch.where(grows, (2 * scale).clamp_max(LARGEST), scale)
    fine = torch.stack((higher, torch.where(grows, none, good + 1), none))
    return torch.where(overflow, torch.stack((scale / 2, none, skipped + 1)), fine)
