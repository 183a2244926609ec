"""What moves the weights: AdamW, or Muon for the layers' matrices and AdamW for the rest."""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from charnn.config import TrainConfig
from charnn.model.network import CharNetwork
from charnn.training.muon import Muon

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
        self._named = named
        self._matrices = matrices.keys()

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for part in self._parts:
            part.zero_grad(set_to_none=True)

    def step(self, rate: float) -> None:
        """Update every weight by its gradient, at this learning rate."""
        for part in self._parts:
            for group in part.param_groups:
                group["lr"] = rate
            part.step()

    def tensors(self) -> dict[str, Tensor]:
        """What it remembers, itself; nothing before the first update."""
        return {
            f"{name}.{key}": value
            for name, memory in self._memories()
            for key, value in memory.items()
        }

    def expected(self) -> dict[str, tuple[torch.Size, torch.dtype]]:
        """Shapes and types of what it remembers after an update."""
        kinds: dict[str, tuple[torch.Size, torch.dtype]] = {}
        for name, parameter in self._named.items():
            keys = MUON if name in self._matrices else ADAMW
            kinds |= {f"{name}.{key}": (parameter.shape, parameter.dtype) for key in keys}
            if name not in self._matrices:
                kinds[f"{name}.step"] = (torch.Size(), torch.float32)
        return kinds

    def remember(self, tensors: Mapping[str, Tensor]) -> None:
        """Take back what `tensors` gave; they are copied, because updates are made in place."""
        for name, memory in self._memories():
            memory.clear()
            for key in ("step", *ADAMW, *MUON):
                if f"{name}.{key}" in tensors:
                    memory[key] = tensors[f"{name}.{key}"].to(self._named[name].device, copy=True)

    def _memories(self) -> Iterator[tuple[str, dict[str, Tensor]]]:
        for name, parameter in self._named.items():
            yield name, self._parts[name in self._matrices].state[parameter]
