"""The step engine for one text on a CPU: NumPy alone, whose operations start faster than torch's.

A step takes one matrix-vector product per layer and a few element-wise operations on buffers that
are reused. Few operations matter: the weights stream through the caches, so each one starts cold.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from charnn.model.weights import STATES, Weights
from charnn.sampling.blas_threads import ROW_MULTIPLE, SETTING, SMALL_PRODUCT, ThreadChoice
from charnn.sampling.cell_steps import CELL_STEPS, LayerBuffers, Multiply
from charnn.sampling.clamp import Clamp, layer_clamps
from charnn.sampling.engine import Symbols, Workspace
from charnn.sampling.folding import Floats, fold

# Shapes: H hidden, L layers, V vocabulary, G gates of a cell, S tensors in a cell's state, R rows
# of a workspace: for each layer its state [SH] and the output of its product [GH + N], where N is
# GH, or V for the last layer.

# N of a product may be more than the rows that are used.


class VectorProduct(Protocol):
    """W h + b for a weight W [N, H], a bias b [N] and a single h [H] within -1 to 1.

    Read-only after its construction.
    """

    rows: int  # of `out`
    has_threads: bool  # NumPy's, if they are more than one

    def bind(self, h: Floats, out: Floats) -> Multiply:
        """Return a callable that computes the product into `out`, reading `h` at call time."""
        ...


MakeProduct = Callable[[Floats, Floats], VectorProduct]


class FullVectorProduct:
    """A product in the weights' own precision, by NumPy."""

    def __init__(self, weight: Floats, bias: Floats) -> None:
        more = -len(bias) % ROW_MULTIPLE
        self._weight, self._bias = np.pad(weight, ((0, more), (0, 0))), np.pad(bias, (0, more))
        self.rows = len(self._bias)
        self.has_threads = self._weight.size >= SMALL_PRODUCT
        (biased,) = bias.nonzero()
        self._from = biased[0] if len(biased) else self.rows

    def bind(self, h: Floats, out: Floats) -> Multiply:
        """See `VectorProduct.bind`."""
        multiply = partial(np.dot, self._weight, h, out=out)
        if self._from == self.rows:
            return multiply
        add = partial(np.add, out[self._from :], self._bias[self._from :], out=out[self._from :])

        def multiply_and_add() -> None:
            multiply()
            add()

        return multiply_and_add


class NumpyWorkspace(Workspace):
    """The workspace of a `NumpyEngine`; `columns` is [R, 1]."""

    def __init__(self, columns: Floats, engine: "NumpyEngine") -> None:
        GH, S, H = engine.gate_rows, engine.state_count, engine.hidden_size
        gates = np.empty(GH, columns.dtype)
        self.layers: list[LayerBuffers] = []
        self.states: list[Floats] = []  # [S, H] of each layer
        rest = columns[:, 0]
        for product, used, clamps in zip(
            engine.products, engine.used_rows, engine.layer_clamps, strict=True
        ):
            state, out, rest = np.split(rest, (S * H, S * H + product.rows))
            multiply, out = product.bind(state[:H], out), out[:used]
            self.layers.append(LayerBuffers(H, state, gates, out, multiply, clamps))
            self.states.append(state.reshape(S, H))
        self.columns, self.logits = columns, out[None, GH:]
        self.threads = ThreadChoice(engine.threads) if engine.has_threads else None


class NumpyEngine:
    """A `StepEngine` for every cell and one text."""

    def __init__(
        self,
        weights: Weights,
        clamps: Sequence[Clamp] = (),
        product: MakeProduct = FullVectorProduct,
        threads: int = 0,
    ) -> None:
        """`threads` are those of each product, at most 2; 0 chooses the faster of 1 and 2."""
        config = weights.config
        self.clamps = clamps
        self.layer_clamps = layer_clamps(clamps, config.num_layers)
        self.state_count, self.hidden_size = STATES[config.cell], config.hidden_size
        self._cell_step = CELL_STEPS[config.cell]
        folded = fold(weights)
        self._table = folded.table  # [V, GH]
        self.gate_rows = self._table.shape[1]
        self.used_rows = [len(bias) for _, bias in folded.products]
        self.products = [product(weight, bias) for weight, bias in folded.products]
        self.threads = threads
        self.has_threads = any(product.has_threads for product in self.products)

    def start(self, state: Floats) -> NumpyWorkspace:
        """See `StepEngine.start`; the state is [S, 1, L, H]."""
        parts: list[NDArray[Any]] = []
        SETTING.begin(1)
        for layer, product in zip(state[:, 0].swapaxes(0, 1), self.products, strict=True):
            out = np.empty(product.rows, state.dtype)
            product.bind(np.ascontiguousarray(layer[0]), out)()
            parts += [layer.ravel(), out]
        SETTING.end()
        return NumpyWorkspace(np.concatenate(parts)[:, None], self)

    def step(self, symbols: Symbols, workspace: NumpyWorkspace) -> Floats:
        """See `StepEngine.step`."""
        threads = workspace.threads
        if threads is None:
            return self._step(symbols, workspace)
        threads.begin()
        try:
            return self._step(symbols, workspace)
        finally:
            threads.end()

    def _step(self, symbols: Symbols, workspace: NumpyWorkspace) -> Floats:
        layer_input, cell_step = self._table[int(symbols[0])], self._cell_step
        for layer in workspace.layers:
            cell_step(np, layer, layer_input)
            layer.multiply()
            layer_input = layer.next_input
        logits: Floats = workspace.logits
        return logits

    def state(self, workspace: NumpyWorkspace) -> Floats:
        """See `StepEngine.state`."""
        return np.stack(workspace.states, 1)[:, None]

    def workspace(self, columns: Floats) -> NumpyWorkspace:
        """See `StepEngine.workspace`; there is one column."""
        assert columns.shape[1] == 1, "an engine for one text"
        return NumpyWorkspace(columns, self)
