"""The fast single-step engine: the same function as the network, one symbol at a time.

`nn.LSTM` called for one character at a time re-orders its weights in every call (oneDNN). Here a
step is one matrix product a layer and few element-wise operations, on buffers that are reused. That
they are few matters: the weights stream through the caches, and each operation starts cold.

- Embedding, input weights and biases of the first layer are one table, a row per symbol.
- An upper layer's two products are one: the state [S, B, L, H] keeps a layer's h beside that of the
  layer below, which is its input, so that both are one view.
- An LSTM's candidate is tanh(x) = 2 sigmoid(2x) - 1, its weights doubled once and for all, so that
  one sigmoid covers all four gates.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from charnn.model.network import CharNetwork, layer_weights
from charnn.sampling.int8 import Int8Product

# Shapes: B batch, H hidden, L layers, V vocabulary, G gates of a cell, S tensors in a cell's state.


class Stepper:
    """Steps `network` forward. The weights are copied: later training does not change them.

    With `int8` the layers' products are those of `charnn.sampling.int8`, nearly the same.
    """

    def __init__(self, network: CharNetwork, int8: bool = False) -> None:
        cell = network.config.cell
        self._update = {"lstm": _lstm, "gru": _gru, "rnn": _rnn}[cell]
        with torch.no_grad():
            folded = [_fold(layer, cell) for layer in network.layers]
            w_ih, w_hh, bias = folded[0]
            self._table = network.embedding.weight @ w_ih.t() + bias  # [V, GH]
            self._rows = self._table.unbind()  # a single text takes its row from here, unmoved
            weights = [w_hh.clone(), *(torch.cat((w, u), 1) for w, u, _ in folded[1:])]
            self._weights: list[Tensor | Int8Product] = list(weights)
            if int8:
                self._weights = [Int8Product(weight) for weight in weights]
            self._biases = [*(b for _, _, b in folded[1:]), network.head.bias.clone()]
            self._head = network.head.weight.clone()
        self._state: Tensor | None = None
        self._layers: list[_Layer] = []

    def step(self, indices: Tensor, state: Tensor) -> Tensor:
        """Read one symbol each [B]; return the next symbols' logits [B, V].

        `state` [S, B, L, H] is the caller's; it is overwritten with the state after the step.
        """
        if state is not self._state:  # views of it are kept, because making them takes time
            self._state, self._layers = state, self._views(state)
        single = len(indices) == 1
        bias = self._rows[int(indices)] if single else self._table.index_select(0, indices)
        for layer, next_bias in zip(self._layers, self._biases, strict=True):
            layer.product(bias, *layer.factors, out=layer.gates)
            self._update(layer)
            bias = next_bias
        product, factors = _product(self._head, layer.h)
        logits = product(bias, *factors)
        return logits[None] if single else logits

    def _views(self, state: Tensor) -> list["_Layer"]:
        _, B, L, H = state.shape
        beside = state.view(-1, B, L * H)
        layers = []
        for number, weight in enumerate(self._weights):
            lower, start, end = max(0, number - 1) * H, number * H, (number + 1) * H
            gates = self._table.new_empty(B, self._table.shape[1])
            h, c, inputs = (
                beside[0, :, start:end],
                beside[-1, :, start:end],
                beside[0, :, lower:end],
            )
            if B == 1:
                h, c, inputs, gates = (view[0] for view in (h, c, inputs, gates))
            layers.append(_Layer(h, c, gates, gates.split(H, -1), *_product(weight, inputs)))
        return layers


class Stepped(CharNetwork):
    """A network that reads step by step, so that what a stepper computes can be judged."""

    def __init__(self, network: CharNetwork, int8: bool = False) -> None:
        super().__init__(network.config)
        self.load_state_dict(network.state_dict())
        self.to(network.head.weight)
        self._stepper = Stepper(self, int8)

    def forward(self, indices: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """As `CharNetwork.forward`."""
        state = state.clone()
        return torch.stack([self._stepper.step(some, state) for some in indices]), state


@dataclass(frozen=True)
class _Layer:
    """Views of one layer's state, and room for its gates; without the B of a single text."""

    h: Tensor  # [B, H]
    c: Tensor  # [B, H], of an LSTM; otherwise h again
    gates: Tensor  # [B, GH]
    gate: tuple[Tensor, ...]  # G views [B, H] of `gates`
    product: Callable[..., Tensor]  # gates are product(bias, *factors)
    factors: tuple[Tensor, ...]


def _product(
    weight: Tensor | Int8Product, inputs: Tensor
) -> tuple[Callable[..., Tensor], tuple[Tensor, ...]]:
    """How to add weight [N, K] times inputs [B, K] to a bias; for a single text, inputs [K], BLAS's
    matrix-vector product starts faster."""
    if isinstance(weight, Int8Product):
        return weight, (inputs,)
    if inputs.dim() == 1:
        return torch.addmv, (weight, inputs)
    return torch.addmm, (inputs, weight.t())


def _fold(module: nn.Module, cell: str) -> tuple[Tensor, Tensor, Tensor]:
    """Input weights [GH, E], hidden weights [GH, H] and the one bias [GH] of the step."""
    w_ih, w_hh, b_ih, b_hh = layer_weights(module)
    if cell == "lstm":
        w_ih, w_hh, b_ih, b_hh = (_candidate_doubled(part) for part in (w_ih, w_hh, b_ih, b_hh))
    if cell == "gru":
        # The candidate's two halves stay apart because r multiplies only the hidden one. A block of
        # zeros in each costs a third more weights, and keeps the product one.
        w_ih, b_ih = _padded(w_ih, 3), _padded(b_ih, 3)
        w_hh, b_hh = _padded(w_hh, 2), _padded(b_hh, 2)
    return w_ih, w_hh, b_ih + b_hh


def _candidate_doubled(part: Tensor) -> Tensor:
    i, f, g, o = part.chunk(4)
    return torch.cat((i, f, 2 * g, o))


def _padded(part: Tensor, place: int) -> Tensor:
    """A GRU's r, z, n as r, z, n, 0 (place 3, the input's half) or r, z, 0, n (place 2)."""
    blocks = list(part.chunk(3))
    blocks.insert(place, torch.zeros_like(blocks[0]))
    return torch.cat(blocks)


def _lstm(layer: _Layer) -> None:
    layer.gates.sigmoid_()
    i, f, g, o = layer.gate
    layer.c.mul_(f).addcmul_(i, g, value=2).sub_(i)  # f c + i (2 g - 1)
    torch.mul(o, torch.tanh(layer.c, out=g), out=layer.h)


def _gru(layer: _Layer) -> None:
    r, z, input_n, hidden_n = layer.gate
    r.sigmoid_()
    z.sigmoid_()
    n = input_n.addcmul_(r, hidden_n).tanh_()
    torch.lerp(n, layer.h, z, out=layer.h)


def _rnn(layer: _Layer) -> None:
    torch.tanh(layer.gates, out=layer.h)
