"""Many texts of an LSTM, a step at a time: the same function as `Stepper`, with fewer passes.

With many texts a step is bound by the products and by how often the gates [4H, B] are read and
written. So the two products of a layer are one, of the layer's h and that of the layer below, which
lie together; the first layer's adds to what its symbols gave; and sigmoid and tanh are torch's own.
A text is a column, because products with the texts in rows took an eighth longer (MKL).
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from charnn.model.network import CharNetwork, layer_weights
from charnn.sampling.clamp import Clamp, Held
from charnn.sampling.stepper import Array

# Shapes: B batch, H hidden, L layers, V vocabulary, R rows of a memory.

Update = Callable[[Tensor, Tensor, Tensor], None]


class ManyLSTM:
    """As `Stepper`, for an LSTM."""

    def __init__(self, network: CharNetwork) -> None:
        assert network.config.cell == "lstm"
        with torch.no_grad():
            layers = [_parts(module) for module in network.layers]
            (w_ih, w_hh, bias), *upper = layers
            self._table = w_ih @ network.embedding.weight.t() + bias  # [4H, V]
            self._weight = w_hh.clone()
            self._upper = [(torch.cat((w_ih, w_hh), 1), bias) for w_ih, w_hh, bias in upper]
            self._head = network.head.weight.clone(), network.head.bias[:, None].clone()
        self._gates = self._table[:, :0]
        self.clamps: Sequence[Clamp] = ()
        self._updates: list[Update] = [_update] * len(layers)

    def hold(self, clamps: Sequence[Clamp]) -> None:
        """As `Stepper.hold`."""
        self.clamps = clamps
        self._updates = [
            partial(_update_held, Held(clamps, number)) if clamps else _update
            for number in range(len(self._updates))
        ]

    def begin(self, state: Tensor) -> Tensor:
        """As `Stepper.begin`; the memory is all layers' h, all layers' c and the logits."""
        h, c = state.permute(0, 2, 3, 1).flatten(1, 2)  # [LH, B]
        weight, bias = self._head
        return torch.cat((h, c, torch.addmm(bias, weight, h[-weight.shape[1] :])))

    def step(self, indices: Tensor | Array, memory: Tensor) -> Tensor:
        """As `Stepper.step`."""
        (V, H), B = self._head[0].shape, memory.shape[1]
        h, c = memory[:-V].chunk(2)
        if self._gates.shape[1] != B:
            self._gates = memory.new_empty(4 * H, B)
        gates = self._gates
        symbols = torch.as_tensor(indices, device=memory.device)
        torch.index_select(self._table, 1, symbols, out=gates).addmm_(self._weight, h[:H])
        lowest, *updates = self._updates
        lowest(gates, h[:H], c[:H])
        for start, (weight, bias) in enumerate(self._upper):
            both = h[start * H :][: 2 * H]
            torch.addmm(bias, weight, both, out=gates)
            updates[start](gates, both[H:], c[(start + 1) * H :][:H])
        weight, bias = self._head
        torch.addmm(bias, weight, h[-H:], out=memory[-V:])
        return self.logits(memory)

    def logits(self, memory: Tensor) -> Tensor:
        """As `Stepper.logits`."""
        return memory[-len(self._head[0]) :].t()

    def state(self, memory: Tensor) -> Tensor:
        """As `Stepper.state`."""
        V, H = self._head[0].shape
        return memory[:-V].view(2, -1, H, memory.shape[1]).permute(0, 3, 1, 2).contiguous()


def _parts(module: torch.nn.Module) -> tuple[Tensor, Tensor, Tensor]:
    """A layer's w_ih [4H, E], w_hh [4H, H] and its one bias [4H, 1], the candidate g last."""
    w_ih, w_hh, b_ih, b_hh = layer_weights(module)
    parts = (part.chunk(4) for part in (w_ih, w_hh, (b_ih + b_hh)[:, None]))
    w_ih, w_hh, bias = (torch.cat((i, f, o, g)) for i, f, g, o in parts)
    return w_ih, w_hh, bias


def _update(gates: Tensor, h: Tensor, c: Tensor) -> None:
    gates[: 3 * len(h)].sigmoid_()
    i, f, o, g = gates.chunk(4)
    c.mul_(f).addcmul_(i, g.tanh_())
    torch.mul(o, torch.tanh(c, out=g), out=h)


def _update_held(held: Held, gates: Tensor, h: Tensor, c: Tensor) -> None:
    _update(gates, h, c)
    if held.into(c):  # h is made anew: the output gate is still there
        *_, o, g = gates.chunk(4)
        torch.mul(o, torch.tanh(c, out=g), out=h)
