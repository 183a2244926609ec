"""The step engine for many texts of any cell and product, and for every device.

The weights are folded (charnn/sampling/folding.py), and a text is a column, so that each gate of
many texts is one contiguous piece of memory.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from charnn.model.network import CharNetwork
from charnn.model.weights import STATES, Weights
from charnn.sampling.cell_steps import CELL_STEPS, LayerBuffers
from charnn.sampling.clamp import Clamp, layer_clamps
from charnn.sampling.engine import Symbols, Workspace
from charnn.sampling.folding import fold
from charnn.sampling.products import FullProduct, Product

# Shapes: B batch, H hidden, L layers, V vocabulary, G gates of a cell, S tensors in a cell's state,
# R rows of a workspace: for each layer its state [SH] and the output of its product [GH + N], where
# N is GH, or V for the last layer.


class FoldedWorkspace(Workspace):
    """The workspace of a `FoldedEngine`."""

    def __init__(self, columns: Tensor, engine: "FoldedEngine") -> None:
        GH, S, B = engine.gate_rows, engine.state_count, columns.shape[1]
        self.first_input, gates = columns.new_empty(2, GH, B)
        self.layers: list[LayerBuffers] = []
        self.states: list[Tensor] = []  # [S, H, B] of each layer
        rest = columns
        for product, clamps in zip(engine.products, engine.layer_clamps, strict=True):
            N, H = product.shape
            state, out, rest = rest.split((S * H, N, len(rest) - S * H - N))
            multiply = product.bind(state[:H], out)
            self.layers.append(LayerBuffers(H, state, gates, out, multiply, clamps))
            self.states.append(state.view(S, H, B))
        self.columns, self.logits = columns, out[GH:].t()


class FoldedEngine:
    """A `StepEngine` for every cell and every number of texts.

    With a `product` of lower precision (charnn/sampling/products.py) it computes nearly the same
    function.
    """

    def __init__(
        self,
        weights: Weights,
        device: torch.device | str = "cpu",
        product: type[Product] = FullProduct,
        clamps: Sequence[Clamp] = (),
    ) -> None:
        config, folded = weights.config, fold(weights)
        self.clamps = clamps
        self.layer_clamps = layer_clamps(clamps, config.num_layers)
        self.state_count = STATES[config.cell]
        self._cell_step = CELL_STEPS[config.cell]
        self._table = torch.from_numpy(folded.table).to(device).t().contiguous()  # [GH, V]
        self.gate_rows = len(self._table)
        self.products: list[Product] = [
            product(torch.from_numpy(weight).to(device), torch.from_numpy(bias).to(device))
            for weight, bias in folded.products
        ]

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
        indices = torch.as_tensor(symbols, device=workspace.columns.device)
        layer_input = torch.index_select(self._table, 1, indices, out=workspace.first_input)
        for layer in workspace.layers:
            self._cell_step(torch, layer, layer_input)
            layer.multiply()
            layer_input = layer.next_input
        logits: Tensor = workspace.logits
        return logits

    def state(self, workspace: FoldedWorkspace) -> Tensor:
        """See `StepEngine.state`."""
        return torch.stack(workspace.states).permute(1, 3, 0, 2).contiguous()

    def workspace(self, columns: Tensor) -> FoldedWorkspace:
        """See `StepEngine.workspace`."""
        return FoldedWorkspace(columns, self)


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
        self._engine = FoldedEngine(network.weights(), network.head.weight.device, product, clamps)

    def forward(self, indices: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """See `CharNetwork.forward`."""
        workspace = self._engine.start(state)
        logits = [self._engine.step(symbols, workspace).clone() for symbols in indices]
        return torch.stack(logits), self._engine.state(workspace)
