"""The fast single-step engine: the same function as the network, one symbol at a time.

`nn.LSTM` called for one character at a time re-orders its weights in every call (oneDNN). Here a
step is one matrix product a layer and few element-wise operations, on buffers that are reused. That
they are few matters: the weights stream through the caches, and each operation starts cold.

- Embedding, input weights and bias of the first layer are one table, a column per symbol.
- All that a layer's h is multiplied by is one matrix: the hidden weights, whose product its own
  next step takes, and the input weights of the layer above, or the head.
- sigmoid(x) = (1 + tanh(x / 2)) / 2, with the inner half in the weights, so that an LSTM's four
  gates are one tanh.
- A text is a column, so that each gate of many texts is one piece of memory. A single text is
  computed by numpy, whose operations start faster than torch's.
"""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from charnn.model.network import STATES, CharNetwork, layer_weights
from charnn.sampling.clamp import Clamp, Held
from charnn.sampling.products import FullProduct, Multiply, Product

# Shapes: B batch, H hidden, L layers, V vocabulary, G gates of a cell, S tensors in a cell's state,
# R rows of a memory.

Array = Any  # numpy's [n] for a single text on a CPU, otherwise torch's [n, B]


class Stepper:
    """Steps `network` forward. The weights are copied: later training does not change them.

    What is kept of texts between steps is a memory [R, B]. Its columns do not depend on each other:
    they may be copied, left out and put in another order.

    With another kind of `product` (charnn/sampling/products.py) it is nearly the same function.
    """

    def __init__(self, network: CharNetwork, product: type[Product] = FullProduct) -> None:
        self.clamps: Sequence[Clamp] = ()
        self._cell = cell = network.config.cell
        self._states, self._update = STATES[cell], _UPDATES[cell]
        with torch.no_grad():
            layers = [_parts(layer, cell, n) for n, layer in enumerate(network.layers)]
            w_ih, _, b_ih, _ = layers[0]
            self._table = (network.embedding.weight @ w_ih.t() + b_ih).t().contiguous()  # [GH, V]
            above = [(w_ih, b_ih) for w_ih, _, b_ih, _ in layers[1:]]
            above.append((network.head.weight, network.head.bias))
            self._products: list[Product] = [
                product(torch.cat((w_hh, weight)), torch.cat((b_hh, bias)))
                for (_, w_hh, _, b_hh), (weight, bias) in zip(layers, above, strict=True)
            ]
        self._memory: Tensor | None = None

    def hold(self, clamps: Sequence[Clamp]) -> None:
        """From the next step on, these units are held. `begin` takes a state as it is."""
        self.clamps = clamps
        self._update = (_HELD if clamps else _UPDATES)[self._cell]
        self._memory = None  # its layers do not know

    def begin(self, state: Tensor) -> Tensor:
        """The memory of texts that were read up to `state` [S, B, L, H]."""
        parts: list[Tensor] = []
        for layer, product in zip(state.permute(2, 0, 3, 1), self._products, strict=True):
            above = state.new_empty(product.shape[0], state.shape[1])
            product.of(layer[0].contiguous(), above)()
            parts += [*layer, above]
        return torch.cat(parts)

    def step(self, indices: Tensor | Array, memory: Tensor) -> Tensor:
        """Read one symbol each [B]; return the next symbols' logits [B, V], part of the memory."""
        views = self._views(memory)
        if views.backend is np:
            below: Array = self._rows[int(indices[0])]
        else:
            symbols = torch.as_tensor(indices, device=memory.device)
            below = torch.index_select(self._table, 1, symbols, out=views.below)
        for layer in views.layers:
            self._update(views.backend, layer, below)
            layer.multiply()
            below = layer.above
        return views.logits

    def logits(self, memory: Tensor) -> Tensor:
        """The next symbols' logits [B, V], part of the memory."""
        return self._views(memory).logits

    def state(self, memory: Tensor) -> Tensor:
        """A copy of the state [S, B, L, H]."""
        return torch.stack(self._views(memory).states).permute(1, 3, 0, 2).contiguous()

    @cached_property
    def _rows(self) -> Array:
        """The table [V, GH] for a single text, whose row lies together."""
        return self._table.t().contiguous().numpy()

    def _views(self, memory: Tensor) -> "_Views":
        if memory is not self._memory:  # kept, because making them takes time
            self._memory = memory
            self._kept = _Views(memory, self._products, self._states, len(self._table))
            for number, layer in enumerate(self._kept.layers if self.clamps else ()):
                layer.held = Held(self.clamps, number)
        return self._kept


class SteppedNetwork(CharNetwork):
    """A network that reads step by step, so that what a stepper computes can be judged."""

    def __init__(self, network: CharNetwork, product: type[Product] = FullProduct) -> None:
        super().__init__(network.config)
        self.load_state_dict(network.state_dict())
        self.to(network.head.weight)
        self._stepper = Stepper(self, product)

    def forward(self, indices: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """As `CharNetwork.forward`."""
        memory = self._stepper.begin(state)
        logits = [self._stepper.step(some, memory).clone() for some in indices]
        return torch.stack(logits), self._stepper.state(memory)


class _Views:
    """Where the layers find what is theirs in a memory."""

    def __init__(self, memory: Tensor, products: Sequence[Product], S: int, GH: int) -> None:
        B = memory.shape[1]
        self.backend: Any = np if B == 1 and memory.device.type == "cpu" else torch
        self.below, gates = memory.new_empty(2, GH, B)
        self.layers, self.states = [], []
        for product in products:
            N, H = product.shape
            state, out, memory = memory.split((S * H, N, len(memory) - S * H - N))
            arrays = [self._array(part) for part in (state, gates, out[:GH], out[GH:])]
            self.layers.append(_Layer(H, product.of(state[:H], out), *arrays))
            self.states.append(state.view(S, H, B))
        self.logits = out[GH:].t()

    def _array(self, part: Tensor) -> Array:
        if self.backend is np:
            return part[:, 0].numpy()
        return part


class _Layer:
    """What a layer computes with and on."""

    held: Held

    def __init__(
        self, H: int, multiply: Multiply, state: Array, gates: Array, own: Array, above: Array
    ) -> None:
        self.multiply = multiply  # h becomes `own`, for the next step, and `above`
        self.own, self.above = own, above
        self.h, self.c = state[:H], state[-H:]  # the same where there is no c
        self.gates, self.sigmoids = gates, gates[:-H]  # the last gate is none
        self.gate = [gates[start : start + H] for start in range(0, len(gates), H)]
        self._one, self._half = (_number(value, gates) for value in (1.0, 0.5))

    def to_sigmoids(self) -> None:
        """From the tanh of half the values to their sigmoids."""
        self.sigmoids += self._one
        self.sigmoids *= self._half


def _number(value: float, like: Array) -> Array:
    """A number for operations on `like`: right after a product, numpy takes 3 us to make an array
    of a Python number."""
    return np.array(value, like.dtype) if isinstance(like, np.ndarray) else value


def _parts(module: nn.Module, cell: str, number: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A layer's w_ih [GH, E], w_hh [GH, H], b_ih [GH] and b_hh [GH], as the steps take them."""
    H = layer_weights(module)[1].shape[1]
    w_ih, w_hh, b_ih, b_hh = (_arranged(part, cell, H) for part in layer_weights(module))
    if cell != "gru":  # whose candidate has its biases in different places
        both, none = b_ih + b_hh, torch.zeros_like(b_ih)
        # with the first layer's in its table, its product needs none
        b_ih, b_hh = (none, both) if number else (both, none)
    return w_ih, w_hh, b_ih, b_hh


def _arranged(part: Tensor, cell: str, H: int) -> Tensor:
    """The gates with the candidate last, and what goes into a sigmoid halved."""
    if cell == "lstm":
        i, f, g, o = part.split(H)
        part = torch.cat((i, f, o, g))
    return torch.cat((part[:-H] / 2, part[-H:]))


def _lstm(backend: Any, layer: _Layer, below: Array) -> None:
    backend.add(below, layer.own, out=layer.gates)
    backend.tanh(layer.gates, out=layer.gates)
    layer.to_sigmoids()
    i, f, o, g = layer.gate
    c = layer.c
    c *= f
    g *= i
    c += g
    backend.tanh(c, out=g)
    backend.multiply(o, g, out=layer.h)


def _gru(backend: Any, layer: _Layer, below: Array) -> None:
    H = len(layer.h)
    backend.add(below[:-H], layer.own[:-H], out=layer.sigmoids)
    backend.tanh(layer.sigmoids, out=layer.sigmoids)
    layer.to_sigmoids()
    r, z, n = layer.gate
    backend.multiply(r, layer.own[-H:], out=n)
    n += below[-H:]
    backend.tanh(n, out=n)
    h = layer.h  # (1 - z) n + z h
    h -= n
    h *= z
    h += n


def _rnn(backend: Any, layer: _Layer, below: Array) -> None:
    backend.add(below, layer.own, out=layer.h)
    backend.tanh(layer.h, out=layer.h)


Update = Callable[[Any, _Layer, Array], None]
_UPDATES: dict[str, Update] = {
    "lstm": _lstm,
    "gru": _gru,
    "rnn": _rnn,
}


def _lstm_held(backend: Any, layer: _Layer, below: Array) -> None:
    _lstm(backend, layer, below)
    if layer.held.into(layer.c):  # h is made anew: the output gate is still there
        *_, o, g = layer.gate
        backend.tanh(layer.c, out=g)
        backend.multiply(o, g, out=layer.h)


def _gru_held(backend: Any, layer: _Layer, below: Array) -> None:
    _gru(backend, layer, below)
    layer.held.into(layer.h)


def _rnn_held(backend: Any, layer: _Layer, below: Array) -> None:
    _rnn(backend, layer, below)
    layer.held.into(layer.h)


# Updates of their own, so that a step of a model in which nothing is held costs what it did.
_HELD: dict[str, Update] = {"lstm": _lstm_held, "gru": _gru_held, "rnn": _rnn_held}
