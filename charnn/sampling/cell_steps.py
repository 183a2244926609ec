"""One step of each cell on folded weights, written once for NumPy and for torch.

`xp` is the module that computes: NumPy for a single text, because its operations start faster,
otherwise torch. Arrays are [n] for NumPy and [n, B] for torch. Each operation writes into a buffer
that exists already.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from charnn.sampling.arrays import Array
from charnn.sampling.clamp import LayerClamps

# Shapes: B batch, H hidden, G gates of a cell, S tensors in a cell's state, N inputs of the next
# layer: GH, or V for the head.

Multiply = Callable[[], object]


class LayerBuffers:
    """The state and buffers of one layer in a workspace, with the views that a step needs.

    `multiply` computes from h both halves of `out` [GH + N]: `recurrent_out`, which this layer adds
    in its next step, and `next_input`, which the next layer reads in this one.
    """

    def __init__(
        self,
        H: int,
        state: Array,
        gates: Array,
        out: Array,
        multiply: Multiply,
        clamps: LayerClamps | None,
    ) -> None:
        self.multiply, self.clamps = multiply, clamps
        self.recurrent_out, self.next_input = out[: len(gates)], out[len(gates) :]
        self.h, self.c = state[:H], state[-H:]  # the same where the cell has no c
        self.gates, self.sigmoids = gates, gates[:-H]  # the candidate is last, and is a tanh
        self.gate = [gates[start : start + H] for start in range(0, len(gates), H)]
        self._one, self._half = (_constant(value, gates) for value in (1.0, 0.5))

    def to_sigmoids(self) -> None:
        """Turn tanh(x / 2) into sigmoid(x) in place."""
        self.sigmoids += self._one
        self.sigmoids *= self._half


def _constant(value: float, like: Array) -> Array:
    """Return a number for operations on `like`: right after a matrix product NumPy takes 3 us to
    turn a Python number into an array."""
    return np.array(value, like.dtype) if isinstance(like, np.ndarray) else value


def lstm_step(xp: Any, layer: LayerBuffers, layer_input: Array) -> None:
    """Update c and h of an LSTM layer from its input [4H]."""
    xp.add(layer_input, layer.recurrent_out, out=layer.gates)
    xp.tanh(layer.gates, out=layer.gates)
    layer.to_sigmoids()
    i, f, o, g = layer.gate
    c = layer.c
    c *= f
    g *= i
    c += g
    if layer.clamps is not None:
        layer.clamps.apply(c)
    xp.tanh(c, out=g)
    xp.multiply(o, g, out=layer.h)


def gru_step(xp: Any, layer: LayerBuffers, layer_input: Array) -> None:
    """Update h of a GRU layer from its input [3H]."""
    H = len(layer.h)
    xp.add(layer_input[:-H], layer.recurrent_out[:-H], out=layer.sigmoids)
    xp.tanh(layer.sigmoids, out=layer.sigmoids)
    layer.to_sigmoids()
    r, z, n = layer.gate
    xp.multiply(r, layer.recurrent_out[-H:], out=n)
    n += layer_input[-H:]
    xp.tanh(n, out=n)
    h = layer.h  # (1 - z) n + z h
    h -= n
    h *= z
    h += n
    if layer.clamps is not None:
        layer.clamps.apply(h)


def rnn_step(xp: Any, layer: LayerBuffers, layer_input: Array) -> None:
    """Update h of an RNN layer from its input [H]."""
    xp.add(layer_input, layer.recurrent_out, out=layer.h)
    xp.tanh(layer.h, out=layer.h)
    if layer.clamps is not None:
        layer.clamps.apply(layer.h)


CellStep = Callable[[Any, LayerBuffers, Array], None]
CELL_STEPS: dict[str, CellStep] = {"lstm": lstm_step, "gru": gru_step, "rnn": rnn_step}
