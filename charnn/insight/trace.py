"""The gates and states of a model at every step while it reads a text."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from charnn import arguments
from charnn.errors import TextError
from charnn.insight.characters import split_characters
from charnn.model.cells import CELLS, network_cells, read
from charnn.model.network import CharNetwork, predicting
from charnn.sampling.prime import start_of_line
from charnn.text.tokenizer import Tokenizer

# Shapes: T symbols of the text, L layers, H hidden, V vocabulary, S tensors in a cell's state.

TOP_NEXT = 5  # likeliest next symbols in the JSON of a trace
DIGITS = 6  # to which its numbers are rounded


@dataclass(frozen=True)
class Trace:
    """The gates and states after each symbol of a text, and the logits of the next symbol."""

    cell: str
    symbols: tuple[int, ...]  # T
    gates: tuple[str, ...]  # names of the gates and the candidate; none in a plain RNN
    values: Mapping[str, Tensor]  # [T, L, H] for each gate, the cell state and the hidden state
    initial_state: Tensor  # [L, H] of `state` before the first symbol
    logits: Tensor  # [T, V]

    @property
    def state(self) -> str:
        """The name of the state that carries the memory: "cell", or "hidden" without a cell
        state."""
        return "cell" if "cell" in self.values else "hidden"

    @property
    def changes(self) -> Tensor:
        """The change of that state at each symbol [T, L, H]."""
        after = self.values[self.state]
        return after - torch.cat((self.initial_state[None], after[:-1]))

    @property
    def probabilities(self) -> Tensor:
        """The probabilities of the next symbol [T, V]."""
        return self.logits.softmax(-1)

    def top_next(self, step: int, count: int) -> list[tuple[float, int]]:
        """Return the likeliest symbols after a step, each with its probability, likeliest first."""
        best = self.probabilities[step].topk(min(count, self.logits.shape[1]))
        return list(zip(best.values.tolist(), best.indices.tolist(), strict=True))

    def unit_order(self, layer: int) -> tuple[str, Tensor]:
        """Return the name of a gate or state, and the units [H] sorted by its mean, highest first.

        It is the gate that keeps the state (forget or update), or the hidden state in a plain RNN.
        """
        name = next((gate for gate in ("forget", "update") if gate in self.gates), "hidden")
        return name, self.values[name][:, layer].mean(0).argsort(descending=True, stable=True)

    def unit(self, tokenizer: Tokenizer, layer: int, unit: int) -> "UnitTrace":
        """Return the state of one unit after each character; of several bytes, after the last."""
        text, sizes = split_characters(tokenizer, np.array(self.symbols))
        values = self.values[self.state][:, layer, unit]
        return UnitTrace(layer, unit, self.state, text, values[np.cumsum(sizes) - 1])

    def to_json(self, tokenizer: Tokenizer, layers: Sequence[int]) -> dict[str, Any]:
        """Return the trace of some layers as plain JSON, with numbers rounded to 6 digits.

        Symbols of a byte model are numbers, because a byte need not be a character.
        """
        is_bytes = tokenizer.kind == "byte"

        def name(symbol: int) -> int | str:
            return symbol if is_bytes else tokenizer.decode([symbol])

        def values_of(step: int, layer: int) -> dict[str, Any]:
            return {
                name: [round(value, DIGITS) for value in values[step, layer].tolist()]
                for name, values in self.values.items()
            }

        return {
            "cell": self.cell,
            "gates": list(self.gates),
            "characters": [
                {
                    "byte" if is_bytes else "character": name(symbol),
                    "next": [[name(s), round(p, DIGITS)] for p, s in self.top_next(step, TOP_NEXT)],
                    "layers": [{"layer": layer} | values_of(step, layer) for layer in layers],
                }
                for step, symbol in enumerate(self.symbols)
            ],
        }


@dataclass(frozen=True)
class UnitTrace:
    """The state of one unit after each character of a text."""

    layer: int
    unit: int
    state: str  # "cell" or "hidden"
    text: str
    values: Tensor  # one for each character

    def to_json(self) -> dict[str, Any]:
        """Return all fields as plain JSON."""
        return vars(self) | {"values": self.values.tolist()}


def trace(network: CharNetwork, symbols: Sequence[int], prime: Sequence[int] = ()) -> Trace:
    """Read `symbols`, one or more, after `prime` from zero state; return what happens at each.

    Computed by the readable cells of `charnn.model.cells`. The results are on the CPU.
    """
    kind = CELLS[network.config.cell]
    gates = () if kind.gates == ("candidate",) else kind.gates
    names = (*gates, *reversed(kind.state))
    with predicting(network):
        indices = torch.tensor([*prime, *symbols], device=network.head.weight.device)
        cells = network_cells(network)
        inputs = network.embedding(indices)[:, None]
        _, state = read(cells, inputs[: len(prime)], network.zero_state(1))
        steps, _ = read(cells, inputs[len(prime) :], state)
        values = {
            name: torch.stack([torch.cat([layer[name] for layer in step]) for step in steps])
            for name in names
        }
        logits = network.head(values["hidden"][:, -1])
    return Trace(
        network.config.cell,
        tuple(symbols),
        gates,
        {name: value.cpu() for name, value in values.items()},
        state[-1, 0].cpu(),
        logits.cpu(),
    )


def trace_text(
    network: CharNetwork, tokenizer: Tokenizer, text: str, records: bool = False
) -> Trace:
    """Read `text` as the beginning of a line, which is how a text sampled without a prime begins.

    `records` says that the model was trained on records. Raise `TextError` for an empty text, or
    for more than one record.

        trace_text(network, tokenizer, "steep").values["forget"]  # [5, L, H]
    """
    text = arguments.text("text", text)
    if not text:
        raise TextError('the text is empty; give one, such as "steep"')
    if records and "\n" in text:
        raise TextError("this model reads each record by itself; give a text of one line")
    return trace(network, tokenizer.fold(text).tolist(), start_of_line(tokenizer))
