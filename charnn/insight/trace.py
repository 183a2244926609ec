"""What happens inside a model at each character of a text, by name."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from charnn.model.cells import CELLS, network_cells, read
from charnn.model.network import CharNetwork, predicting

# Shapes: T symbols of the text, L layers, H hidden, V vocabulary, S tensors in a cell's state.


@dataclass(frozen=True)
class Trace:
    """The gates and states after each symbol of a text, and what the model expects next."""

    gates: tuple[str, ...]  # none where the cell only squashes its input: the plain RNN
    values: Mapping[str, Tensor]  # [T, L, H] of each gate, then of the cell state and of the hidden
    before: Tensor  # [L, H]: what the model remembers before the first symbol
    logits: Tensor  # [T, V]

    @property
    def memory(self) -> str:
        """The state by which the model remembers: the cell's, or the hidden one if it is all."""
        return "cell" if "cell" in self.values else "hidden"

    @property
    def moves(self) -> Tensor:
        """By how much each symbol changed what is remembered [T, L, H]."""
        after = self.values[self.memory]
        return after - torch.cat((self.before[None], after[:-1]))

    @property
    def probabilities(self) -> Tensor:
        """Of the next symbol [T, V]."""
        return self.logits.softmax(-1)

    def order(self, layer: int) -> tuple[str, Tensor]:
        """A layer's units [H] from the highest mean to the lowest, and of what that is the mean: of
        the gate that keeps, otherwise of the hidden state."""
        name = next((gate for gate in ("forget", "update") if gate in self.gates), "hidden")
        return name, self.values[name][:, layer].mean(0).argsort(descending=True, stable=True)


def trace(network: CharNetwork, symbols: Sequence[int], start: Sequence[int]) -> Trace:
    """Read `symbols` after `start` from zero state, by the readable cells, on the CPU.

    `start` is not part of the trace; a trace needs a symbol or more.
    """
    kind = CELLS[network.config.cell]
    gates = () if kind.gates == ("candidate",) else kind.gates
    names = (*gates, *reversed(kind.state))
    with predicting(network):
        indices = torch.tensor([*start, *symbols], device=network.head.weight.device)
        cells = network_cells(network)
        inputs = network.embedding(indices)[:, None]
        _, state = read(cells, inputs[: len(start)], network.zero_state(1))
        steps, _ = read(cells, inputs[len(start) :], state)
        values = {
            name: torch.stack([torch.cat([layer[name] for layer in step]) for step in steps])
            for name in names
        }
        logits = network.head(values["hidden"][:, -1])
    return Trace(
        gates, {name: value.cpu() for name, value in values.items()}, state[-1, 0].cpu(),
        logits.cpu(),
    )  # fmt: skip
