"""The step engine for a single text, and for many texts of any cell and product.

`nn.LSTM` called for one character at a time re-orders its weights in every call (oneDNN). Here a
step takes one matrix product per layer and a few element-wise operations on buffers that are
reused. Few operations matter: the weights stream through the caches, so each one starts cold.

- The embedding, input weights and bias of the first layer are folded into a table with a column
  per symbol.
- All weights that multiply a layer's h are one matrix: its hidden weights, whose product its own
  next step takes, and the input weights of the next layer or the head.
- sigmoid(x) = (1 + tanh(x / 2)) / 2, with the inner half folded into the weights, so that the four
  gates of an LSTM take one tanh.
- A text is a column, so that each gate of many texts is one contiguous piece of memory.
- A single text on a CPU is computed by NumPy, whose operations start faster than torch's.

One engine serves both, because the number of rows changes on the way: a beam search grows from one
row to many, and many samples shrink to one.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from charnn.model.network import CharNetwork, layer_weights
from charnn.model.weights import STATES
from charnn.sampling.cell_steps import CELL_STEPS, Array, LayerBuffers
from charnn.sampling.clamp import Clamp, layer_clamps
from charnn.sampling.engine import Symbols, Workspace, selected_columns
from charnn.sampling.products import FullProduct, Product

# Shapes: B batch, H hidden, L layers, V vocabulary, G gates of a cell, S tensors in a cell's state,
# R rows of a workspace: for each layer its state [SH] and the output of its product [GH + N], where
# N is GH, or V for the last layer.


class FoldedWorkspace(Workspace):
    """The workspace of a `FoldedEngine`."""

    def __init__(self, columns: Tensor, engine: "FoldedEngine") -> None:
        GH, S, B = engine.gate_rows, engine.state_count, columns.shape[1]
        # a single text on a CPU is computed by NumPy
        self.xp: Any = np if B == 1 and columns.device.type == "cpu" else torch
        self.first_input, gates = columns.new_empty(2, GH, B)
        self.layers: list[LayerBuffers] = []
        self.states: list[Tensor] = []  # [S, H, B] of each layer
        rest = columns
        for product, clamps in zip(engine.products, engine.layer_clamps, strict=True):
            N, H = product.shape
            state, out, rest = rest.split((S * H, N, len(rest) - S * H - N))
            multiply = product.bind(state[:H], out)
            state_array, gates_array, out_array = map(self._array, (state, gates, out))
            self.layers.append(
                LayerBuffers(H, state_array, gates_array, out_array, multiply, clamps)
            )
            self.states.append(state.view(S, H, B))
        super().__init__(columns, out[GH:].t())

    def _array(self, part: Tensor) -> Array:
        return part[:, 0].numpy() if self.xp is np else part


class FoldedEngine:
    """A `StepEngine` for every cell and every number of texts.

    With a `product` of lower precision (charnn/sampling/products.py) it computes nearly the same
    function.
    """

    def __init__(
        self,
        network: CharNetwork,
        product: type[Product] = FullProduct,
        clamps: Sequence[Clamp] = (),
    ) -> None:
        cell = network.config.cell
        self.clamps = clamps
        self.layer_clamps = layer_clamps(clamps, network.config.num_layers)
        self.state_count = STATES[cell]
        self._cell_step = CELL_STEPS[cell]
        with torch.no_grad():
            layers = [_folded_weights(layer, cell, n) for n, layer in enumerate(network.layers)]
            w_ih, _, b_ih, _ = layers[0]
            self._table = (network.embedding.weight @ w_ih.t() + b_ih).t().contiguous()  # [GH, V]
            following = [(w_ih, b_ih) for w_ih, _, b_ih, _ in layers[1:]]
            following.append((network.head.weight, network.head.bias))
            self.products: list[Product] = [
                product(torch.cat((w_hh, weight)), torch.cat((b_hh, bias)))
                for (_, w_hh, _, b_hh), (weight, bias) in zip(layers, following, strict=True)
            ]
        self.gate_rows = len(self._table)
        if self._table.device.type == "cpu":  # for a single text, with each symbol's row contiguous
            self._rows: Array = self._table.t().contiguous().numpy()  # [V, GH]

    def start(self, state: Tensor) -> FoldedWorkspace:
        """See `StepEngine.start`."""
        parts: list[Tensor] = []
        for layer, product in zip(state.permute(2, 0, 3, 1), self.products, strict=True):
            out = state.new_empty(product.shape[0], state.shape[1])
            product.bind(layer[0].contiguous(), out)()
            parts += [*layer, out]
        return FoldedWorkspace(torch.cat(parts), self)

    def step(self, symbols: Symbols, workspace: FoldedWorkspace) -> Tensor:
        """See `StepEngine.step`."""
        xp, cell_step = workspace.xp, self._cell_step
        if xp is np:
            layer_input: Array = self._rows[int(symbols[0])]
        else:
            indices = torch.as_tensor(symbols, device=workspace.columns.device)
            layer_input = torch.index_select(self._table, 1, indices, out=workspace.first_input)
        for layer in workspace.layers:
            cell_step(xp, layer, layer_input)
            layer.multiply()
            layer_input = layer.next_input
        return workspace.logits

    def state(self, workspace: FoldedWorkspace) -> Tensor:
        """See `StepEngine.state`."""
        return torch.stack(workspace.states).permute(1, 3, 0, 2).contiguous()

    def select(self, workspace: FoldedWorkspace, rows: Sequence[int]) -> FoldedWorkspace:
        """See `StepEngine.select`."""
        return FoldedWorkspace(selected_columns(workspace, rows), self)


class SteppedNetwork(CharNetwork):
    """A network that reads through a `FoldedEngine`, so that `evaluate` can measure a product or
    the effect of clamps."""

    def __init__(
        self,
        network: CharNetwork,
        product: type[Product] = FullProduct,
        clamps: Sequence[Clamp] = (),
    ) -> None:
        super().__init__(network.config)
        self.load_state_dict(network.state_dict())
        self.to(network.head.weight)
        self._engine = FoldedEngine(self, product, clamps)

    def forward(self, indices: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """See `CharNetwork.forward`."""
        workspace = self._engine.start(state)
        logits = [self._engine.step(symbols, workspace).clone() for symbols in indices]
        return torch.stack(logits), self._engine.state(workspace)


def _folded_weights(
    module: nn.Module, cell: str, number: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return w_ih [GH, E], w_hh [GH, H], b_ih [GH] and b_hh [GH] of a layer, rearranged, with both
    biases in one where the cell only adds them."""
    H = layer_weights(module)[1].shape[1]
    w_ih, w_hh, b_ih, b_hh = (_arranged(part, cell, H) for part in layer_weights(module))
    if cell != "gru":  # whose candidate adds its two biases in different places
        both, none = b_ih + b_hh, torch.zeros_like(b_ih)
        # The first layer's bias goes into the table, so that its product adds none.
        b_ih, b_hh = (none, both) if number else (both, none)
    return w_ih, w_hh, b_ih, b_hh


def _arranged(part: Tensor, cell: str, H: int) -> Tensor:
    """Return the gates' rows with the candidate last and the inputs of sigmoids halved."""
    if cell == "lstm":
        i, f, g, o = part.split(H)
        part = torch.cat((i, f, o, g))
    return torch.cat((part[:-H] / 2, part[-H:]))
