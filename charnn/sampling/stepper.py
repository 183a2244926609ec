"""The fast single-step engine: the same function as the network, one symbol at a time.

`nn.LSTM` called for one character at a time re-orders its weights in every call (oneDNN). Here a
step is one matrix product a layer and a few element-wise operations on buffers that are reused:

- embedding, input weights and biases of the first layer are one table, a row per symbol;
- an upper layer's two products are one, over its input and its own state side by side;
- an LSTM's gates are put in the order i, f, o, g, so that one sigmoid covers three of them.
"""

import torch
from torch import Tensor, nn

from charnn.model.network import CharNetwork, layer_weights

# Shapes: B batch, H hidden, L layers, V vocabulary, G gates of a cell, S tensors in a cell's state.


class Stepper:
    """Steps `network` forward. The weights are copied: later training does not change them."""

    def __init__(self, network: CharNetwork) -> None:
        cell = network.config.cell
        self._step_layer = {"lstm": _lstm, "gru": _gru, "rnn": _rnn}[cell]
        with torch.no_grad():
            self._layers = [
                _fold(layer, network.embedding.weight if number == 0 else None, cell)
                for number, layer in enumerate(network.layers)
            ]
            self._head = network.head.weight.clone().t()
            self._head_bias = network.head.bias.clone()

    @torch.inference_mode()
    def step(self, indices: Tensor, state: Tensor) -> Tensor:
        """Read one symbol each [B]; return the next symbols' logits [B, V].

        `state` [L, S, B, H] is the caller's; it is overwritten with the state after the step.
        """
        inputs = indices
        for layer, layer_state in zip(self._layers, state.unbind(), strict=True):
            self._step_layer(layer, inputs, layer_state)
            inputs = layer_state[0]
        return torch.addmm(self._head_bias, inputs, self._head)


class _Layer:
    """One layer's weights as the step wants them; exactly one of `table` and `inputs` is used."""

    def __init__(self, table: Tensor | None, weight: Tensor, bias: Tensor) -> None:
        self.table = table  # [V, GH]: what each symbol adds to the gates, biases included
        self.weight = weight  # [H, GH], or [2H, GH] for an upper layer, transposed views
        self.bias = bias  # [GH]
        self.gates = torch.empty(0)  # scratch, remade when the batch size changes

    def product(self, inputs: Tensor, h: Tensor) -> Tensor:
        """The gates [B, GH] before their non-linearities."""
        if len(self.gates) != len(h):
            self.gates = self.weight.new_empty(len(h), self.weight.shape[1])
        if self.table is None:
            return torch.addmm(self.bias, torch.cat((inputs, h), 1), self.weight, out=self.gates)
        torch.index_select(self.table, 0, inputs, out=self.gates)
        return self.gates.addmm_(h, self.weight)


def _fold(layer: nn.Module, embedding: Tensor | None, cell: str) -> _Layer:
    w_ih, w_hh, b_ih, b_hh = layer_weights(layer)
    if cell == "lstm":
        w_ih, w_hh, b_ih, b_hh = (_sigmoids_first(part) for part in (w_ih, w_hh, b_ih, b_hh))
    if cell == "gru":
        # The new gate's two halves stay apart because r multiplies only the hidden one: the
        # product has four blocks, r, z, n of the input and n of the hidden state.
        w_ih, b_ih = _pad(w_ih, after=True), _pad(b_ih, after=True)
        w_hh, b_hh = _pad(w_hh, after=False), _pad(b_hh, after=False)
    bias = b_ih + b_hh
    if embedding is None:
        return _Layer(None, torch.cat((w_ih, w_hh), 1).contiguous().t(), bias)
    return _Layer(embedding @ w_ih.t() + bias, w_hh.clone().t(), bias)


def _sigmoids_first(part: Tensor) -> Tensor:
    """torch's gate order i, f, g, o as i, f, o, g."""
    i, f, g, o = part.chunk(4)
    return torch.cat((i, f, o, g))


def _pad(part: Tensor, after: bool) -> Tensor:
    """Make r, z, n of a GRU into r, z, n, 0 (the input's half) or r, z, 0, n (the hidden half)."""
    r, z, n = part.chunk(3)
    return torch.cat((r, z, n, torch.zeros_like(n)) if after else (r, z, torch.zeros_like(n), n))


def _lstm(layer: _Layer, inputs: Tensor, state: Tensor) -> None:
    h, c = state.unbind()
    gates = layer.product(inputs, h)
    H = h.shape[1]
    gates[:, : 3 * H].sigmoid_()
    i, f, o, g = gates.split(H, 1)
    g.tanh_()
    c.mul_(f).addcmul_(i, g)
    torch.mul(o, torch.tanh(c, out=g), out=h)


def _gru(layer: _Layer, inputs: Tensor, state: Tensor) -> None:
    h = state[0]
    gates = layer.product(inputs, h)
    H = h.shape[1]
    gates[:, : 2 * H].sigmoid_()
    r, z, input_n, hidden_n = gates.split(H, 1)
    n = input_n.addcmul_(r, hidden_n).tanh_()
    torch.lerp(n, h, z, out=h)


def _rnn(layer: _Layer, inputs: Tensor, state: Tensor) -> None:
    h = state[0]
    torch.tanh(layer.product(inputs, h), out=h)
