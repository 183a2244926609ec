"""Readable twins of `nn.RNN`, `nn.GRU` and `nn.LSTM`: each cell gate by gate.

They compute the same function as torch's modules, with the same weights in the same order (tests
compare values and gradients), but every intermediate result has a name. They are slow.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from charnn.model.network import CharNetwork

# Shapes: B batch, T time, E size of the input, H hidden, L layers, G gates of a cell,
# S tensors in a cell's state (LSTM 2: h, c; others 1: h).


class Cell(nn.Module, ABC):
    """One recurrent layer, applied to one time step."""

    gates: ClassVar[tuple[str, ...]]  # in the order in which torch stacks their weights
    state: ClassVar[tuple[str, ...]] = ("hidden",)  # the results that the next step gets
    torch_layer: ClassVar[type[nn.RNNBase]]

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        rows = len(self.gates) * hidden_size
        self.weight_ih = nn.Parameter(torch.empty(rows, input_size))
        self.weight_hh = nn.Parameter(torch.empty(rows, hidden_size))
        self.bias_ih = nn.Parameter(torch.empty(rows))
        self.bias_hh = nn.Parameter(torch.empty(rows))
        for parameter in self.parameters():  # torch's own initialization
            nn.init.uniform_(parameter, -(hidden_size**-0.5), hidden_size**-0.5)

    @abstractmethod
    def step(self, x: Tensor, state: Tensor) -> dict[str, Tensor]:
        """Return everything computed in a step [B, H] by name: the gates, then the new state.

        `x` [B, E] is the input, `state` [S, B, H] the state after the previous step.
        """

    def forward(self, x: Tensor, state: Tensor) -> Tensor:
        """Return the new state [S, B, H]."""
        results = self.step(x, state)
        return torch.stack([results[name] for name in self.state])

    def from_input(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the input's contribution to each gate [B, H]."""
        return (x @ self.weight_ih.t() + self.bias_ih).chunk(len(self.gates), -1)

    def from_before(self, h: Tensor) -> tuple[Tensor, ...]:
        """Return the contribution of the previous hidden state to each gate [B, H]."""
        return (h @ self.weight_hh.t() + self.bias_hh).chunk(len(self.gates), -1)


class RNNCell(Cell):
    """A hidden layer that is fed back into itself (Elman 1990).

    Each step back in time multiplies a gradient by the same weights again, so that it vanishes or
    explodes (Bengio et al. 1994).
    """

    gates = ("candidate",)
    torch_layer = nn.RNN

    def step(self, x: Tensor, state: Tensor) -> dict[str, Tensor]:
        """See `Cell.step`."""
        (h,) = state
        (from_x,), (from_h,) = self.from_input(x), self.from_before(h)
        n = torch.tanh(from_x + from_h)  # the total input, squashed: all there is
        return {"candidate": n, "hidden": n}


class GRUCell(Cell):
    """Two gates and no cell state: the hidden state is also the memory (Cho et al. 2014)."""

    gates = ("reset", "update", "candidate")
    torch_layer = nn.GRU

    def step(self, x: Tensor, state: Tensor) -> dict[str, Tensor]:
        """See `Cell.step`."""
        (h,) = state
        (x_r, x_z, x_n), (h_r, h_z, h_n) = self.from_input(x), self.from_before(h)
        r = torch.sigmoid(x_r + h_r)  # reset: how much of the past the candidate hears
        z = torch.sigmoid(x_z + h_z)  # update: 1 keeps the old hidden state, 0 takes the candidate
        n = torch.tanh(x_n + r * h_n)  # candidate: what could be written
        h = (1 - z) * n + z * h
        return {"reset": r, "update": z, "candidate": n, "hidden": h}


class LSTMCell(Cell):
    """Three gates and a candidate around a cell state that changes only by a product and a sum.

    A gradient flows back through the cell state as far as the forget gates let it (Hochreiter and
    Schmidhuber 1997; forget gate by Gers et al. 2000).
    """

    gates = ("input", "forget", "candidate", "output")
    state = ("hidden", "cell")
    torch_layer = nn.LSTM

    def step(self, x: Tensor, state: Tensor) -> dict[str, Tensor]:
        """See `Cell.step`."""
        h, c = state
        (x_i, x_f, x_g, x_o), (h_i, h_f, h_g, h_o) = self.from_input(x), self.from_before(h)
        i = torch.sigmoid(x_i + h_i)  # input gate: how much of the candidate is written
        f = torch.sigmoid(x_f + h_f)  # forget gate: 0 forgets what misleads, 1 keeps it
        g = torch.tanh(x_g + h_g)  # candidate: what could be written
        o = torch.sigmoid(x_o + h_o)  # output gate: how much of the cell state is shown
        c = f * c + i * g  # the only line in which the past is carried on: a product and a sum
        h = o * torch.tanh(c)
        return {"input": i, "forget": f, "candidate": g, "output": o, "cell": c, "hidden": h}


CELLS: dict[str, type[Cell]] = {"rnn": RNNCell, "gru": GRUCell, "lstm": LSTMCell}
_NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


def cells_of(module: nn.Module) -> list[Cell]:
    """Return a cell for each layer of torch's module, with copies of its weights."""
    assert isinstance(module, nn.RNNBase)
    (kind,) = (cell for cell in CELLS.values() if isinstance(module, cell.torch_layer))
    cells = []
    for weights in module.all_weights:
        with torch.random.fork_rng(devices=()):  # the constructor draws weights
            cell = kind(weights[0].shape[1], module.hidden_size).to(weights[0])
        cell.load_state_dict(dict(zip(_NAMES, weights, strict=True)))
        cells.append(cell)
    return cells


def network_cells(network: CharNetwork) -> list[Cell]:
    """Return a cell for each layer of a network, with copies of its weights."""
    return [cell for layer in network.layers for cell in cells_of(layer)]


def module_of(cells: Sequence[Cell]) -> nn.RNNBase:
    """Return torch's module for these layers, with copies of their weights."""
    rows, input_size = cells[0].weight_ih.shape
    make: Callable[..., nn.RNNBase] = cells[0].torch_layer
    module = make(input_size, rows // len(cells[0].gates), len(cells)).to(cells[0].weight_ih)
    module.load_state_dict(
        {
            f"{name}_l{number}": weight
            for number, cell in enumerate(cells)
            for name, weight in cell.state_dict().items()
        }
    )
    return module


def read(
    cells: Sequence[Cell], inputs: Tensor, state: Tensor
) -> tuple[list[list[dict[str, Tensor]]], Tensor]:
    """Read `inputs` [T, B, E] from `state` [S, B, L, H], step by step and layer by layer.

    Return the results of `Cell.step` for each step and layer, and the new state. The input of a
    layer is the hidden state of the layer below.
    """
    states, steps = list(state.unbind(2)), []
    for x in inputs:
        layers = []
        for number, cell in enumerate(cells):
            layers.append(cell.step(x, states[number]))
            states[number] = torch.stack([layers[-1][name] for name in cell.state])
            x = layers[-1]["hidden"]
        steps.append(layers)
    return steps, torch.stack(states, 2)
