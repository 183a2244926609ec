"""The step engine for many texts of an LSTM: fewer passes over the gates than `FoldedEngine`.

With many texts the time of a step goes into the products and into reading and writing the gates
[4H, B]. So each layer has one product, of the layer below's h and its own, which lie next to each
other; the first layer's product adds to what the table gave for its symbols; and sigmoid and tanh
are torch's own. A text is a column: products with the texts in rows took an eighth longer (MKL).
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from charnn.model.weights import Weights, layer_arrays
from charnn.sampling.clamp import Clamp, layer_clamps
from charnn.sampling.engine import Symbols, Workspace

# Shapes: B batch, E embedding, H hidden, L layers, V vocabulary.


class LSTMWorkspace(Workspace):
    """The workspace of an `LSTMEngine`: its columns are every layer's h, every layer's c, and the
    logits [2LH + V, B]."""

    def __init__(self, columns: Tensor, H: int, V: int) -> None:
        self.logits_out = columns[-V:]
        self.columns, self.logits = columns, self.logits_out.t()
        h, c = columns[:-V].chunk(2)
        self.h, self.c = h.split(H), c.split(H)
        # [2H, B] for each layer from the second on: h of the layer below, then its own
        self.pairs = [h[start : start + 2 * H] for start in range(0, len(h) - H, H)]
        self.gates = columns.new_empty(4 * H, columns.shape[1])
        self.sigmoids = self.gates[: 3 * H]
        self.gate = self.gates.split(H)  # i, f, o, g


class LSTMEngine:
    """A `StepEngine` for many texts of an LSTM."""

    def __init__(
        self,
        weights: Weights,
        device: torch.device | str = "cpu",
        clamps: Sequence[Clamp] = (),
    ) -> None:
        config = weights.config
        assert config.cell == "lstm"
        self.clamps = clamps
        self._layer_clamps = layer_clamps(clamps, config.num_layers)
        (w_ih, w_hh, bias), *upper = (
            [part.to(device) for part in _merged_weights(layer_arrays(weights.arrays, number))]
            for number in range(config.num_layers)
        )
        embedding, head, head_bias = (
            torch.from_numpy(weights.arrays[name]).to(device, copy=True)
            for name in ("embedding.weight", "head.weight", "head.bias")
        )
        self._table = w_ih @ embedding.t() + bias  # [4H, V]
        self._first = w_hh
        self._upper = [(torch.cat((w_ih, w_hh), 1), bias) for w_ih, w_hh, bias in upper]
        self._head = head, head_bias[:, None]

    def start(self, state: Tensor) -> LSTMWorkspace:
        """See `StepEngine.start`."""
        h, c = state.permute(0, 2, 3, 1).flatten(1, 2)  # [LH, B]
        weight, bias = self._head
        logits = torch.addmm(bias, weight, h[-weight.shape[1] :])
        return self.workspace(torch.cat((h, c, logits)))

    def step(self, symbols: Symbols, workspace: LSTMWorkspace) -> Tensor:
        """See `StepEngine.step`."""
        w, gates = workspace, workspace.gates
        indices = torch.as_tensor(symbols, device=gates.device)
        torch.index_select(self._table, 1, indices, out=gates).addmm_(self._first, w.h[0])
        self._update(w, 0)
        for number, ((weight, bias), pair) in enumerate(zip(self._upper, w.pairs, strict=True), 1):
            torch.addmm(bias, weight, pair, out=gates)
            self._update(w, number)
        weight, bias = self._head
        torch.addmm(bias, weight, w.h[-1], out=w.logits_out)
        logits: Tensor = w.logits
        return logits

    def state(self, workspace: LSTMWorkspace) -> Tensor:
        """See `StepEngine.state`."""
        V, H = self._head[0].shape
        columns = workspace.columns
        return columns[:-V].view(2, -1, H, columns.shape[1]).permute(0, 3, 1, 2).contiguous()

    def workspace(self, columns: Tensor) -> LSTMWorkspace:
        """See `StepEngine.workspace`."""
        V, H = self._head[0].shape
        return LSTMWorkspace(columns, H, V)

    def _update(self, workspace: LSTMWorkspace, layer: int) -> None:
        """Update c and h of a layer from the sums in the gates."""
        i, f, o, g = workspace.gate
        c, clamps = workspace.c[layer], self._layer_clamps[layer]
        workspace.sigmoids.sigmoid_()
        c.mul_(f).addcmul_(i, g.tanh_())
        if clamps is not None:
            clamps.apply(c)
        torch.mul(o, torch.tanh(c, out=g), out=workspace.h[layer])


def _merged_weights(layer: tuple[NDArray[Any], ...]) -> Iterator[Tensor]:
    """Yield w_ih [4H, E], w_hh [4H, H] and the sum of both biases [4H, 1] of a layer, with the
    candidate g last."""
    w_ih, w_hh, b_ih, b_hh = map(torch.from_numpy, layer)
    for part in (w_ih, w_hh, (b_ih + b_hh)[:, None]):
        i, f, g, o = part.chunk(4)
        yield torch.cat((i, f, o, g))
