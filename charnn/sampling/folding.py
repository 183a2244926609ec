"""The weights of a network, rearranged so that a step takes few operations.

- The embedding, input weights and bias of the first layer are folded into a table with a row per
  symbol.
- All weights that multiply a layer's h are one matrix: its hidden weights, whose product its own
  next step takes, and the input weights of the next layer or the head.
- sigmoid(x) = (1 + tanh(x / 2)) / 2, with the inner half folded into the weights, so that the four
  gates of an LSTM take one tanh.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charnn.model.weights import Weights, layer_arrays

# Shapes: E embedding, H hidden, V vocabulary, G gates of a cell, N inputs of the next layer: GH, or
# V for the head.

Floats = NDArray[Any]


@dataclass(frozen=True)
class FoldedWeights:
    """The table of the first layer's inputs [V, GH], and each layer's product: its weights
    [GH + N, H] and bias [GH + N]."""

    table: Floats
    products: list[tuple[Floats, Floats]]


def fold(weights: Weights) -> FoldedWeights:
    """Return the folded weights, which share no memory with the given ones."""
    config, arrays = weights.config, weights.arrays
    layers = [_folded_layer(weights, number) for number in range(config.num_layers)]
    w_ih, _, b_ih, _ = layers[0]
    following = [(w_ih, b_ih) for w_ih, _, b_ih, _ in layers[1:]]
    following.append((arrays["head.weight"], arrays["head.bias"]))
    return FoldedWeights(
        arrays["embedding.weight"] @ w_ih.T + b_ih,
        [
            (np.concatenate((w_hh, weight)), np.concatenate((b_hh, bias)))
            for (_, w_hh, _, b_hh), (weight, bias) in zip(layers, following, strict=True)
        ],
    )


def _folded_layer(weights: Weights, number: int) -> tuple[Floats, Floats, Floats, Floats]:
    """Return w_ih [GH, E], w_hh [GH, H], b_ih [GH] and b_hh [GH] of a layer, rearranged, with both
    biases in one where the cell only adds them."""
    cell, H = weights.config.cell, weights.config.hidden_size
    parts = layer_arrays(weights.arrays, number)
    w_ih, w_hh, b_ih, b_hh = (_arranged(part, cell, H) for part in parts)
    if cell != "gru":  # whose candidate adds its two biases in different places
        both, none = b_ih + b_hh, np.zeros_like(b_ih)
        # The first layer's bias goes into the table, so that its product adds none.
        b_ih, b_hh = (none, both) if number else (both, none)
    return w_ih, w_hh, b_ih, b_hh


def _arranged(part: Floats, cell: str, H: int) -> Floats:
    """Return the gates' rows with the candidate last and the inputs of sigmoids halved."""
    if cell == "lstm":
        i, f, g, o = np.split(part, 4)
        part = np.concatenate((i, f, o, g))
    return np.concatenate((part[:-H] / 2, part[-H:]))
