"""cuDNN's persistent kernel: it keeps the recurrent weights on the card's processors for a whole
window, and PyTorch takes it under narrow conditions only.

They are those of PyTorch's aten/src/ATen/native/cudnn/RNN.cpp (`get_algo` and the two heuristics it
asks), for cards since Ampere; one-layer modules are the network's own.
"""

from dataclasses import dataclass

import torch

from charnn.config import ModelConfig, TrainConfig

UNITS, MOST_UNITS = 128, 1024
LANES, MOST_LANES = 8, 128
GENERATION, PROCESSORS = 8, 98
WITHOUT = (8, 6)  # the generation's cards for games, which PyTorch leaves out


@dataclass(frozen=True)
class Card:
    """What decides of a CUDA device."""

    name: str
    capability: tuple[int, int]
    processors: int
    memory: int  # bytes

    @classmethod
    def of(cls, device: torch.device) -> "Card":
        """Ask the driver."""
        found = torch.cuda.get_device_properties(device)
        return cls(
            found.name, (found.major, found.minor), found.multi_processor_count, found.total_memory
        )

    @property
    def suits(self) -> bool:
        """Whether any network can have the kernel here."""
        enough = self.capability[0] >= GENERATION and self.processors >= PROCESSORS
        return enough and self.capability != WITHOUT


def unmet_conditions(
    model: ModelConfig, train: TrainConfig, card: Card, processes: int = 1
) -> list[str]:
    """What keeps this run from the kernel, each with what would not; empty when nothing does."""
    if not card.suits:
        return [f"{card.name}, which is not one of the cards that have it"]
    found = []
    if model.cell == "gru":
        found.append("--cell gru (lstm has it)")
    if train.precision != "fp16":
        found.append(f"--precision {train.precision} (fp16 has it)")
    for flag, size in (("hidden", model.hidden_size), ("embedding", model.embedding_size)):
        most = MOST_UNITS if flag == "hidden" else size + UNITS
        if (good := _nearest(size, UNITS, most)) != size:
            found.append(f"--{flag}-size {size} ({good} has it)")
    lanes = train.batch_size // processes
    if (good := _nearest(lanes, LANES, MOST_LANES)) != lanes:
        found.append(f"--batch-size {train.batch_size} ({good * processes} has it)")
    if model.cell == "rnn" and lanes >= 96 and model.hidden_size >= 896:
        found.append("--cell rnn with so many units and lanes (fewer than 96 lanes have it)")
    return found


def _nearest(size: int, multiple: int, most: int) -> int:
    """The multiple that is nearest, larger rather than smaller, and not beyond the most."""
    return min(most // multiple * multiple, max(1, int(size / multiple + 0.5)) * multiple)
