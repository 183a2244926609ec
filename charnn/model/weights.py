"""The weights of a network by name, as NumPy arrays: what needs no torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from charnn.config import ModelConfig

# Shapes: E embedding, H hidden, V vocabulary, G gates of a cell (LSTM 4, GRU 3, RNN 1),
# S tensors in a cell's state (LSTM 2: h, c; others 1: h).

Arrays = Mapping[str, NDArray[Any]]

GATES = {"lstm": 4, "gru": 3, "rnn": 1}
STATES = {"lstm": 2, "gru": 1, "rnn": 1}
# With weights up to this, no sum in a network of any size overflows in float32: h lies between -1
# and 1, and only the embedding and the first layer's input weights are multiplied by each other.
MAX_WEIGHT = 1e15


@dataclass(frozen=True)
class Weights:
    """The weights of a network and its settings: all that an engine is made of."""

    config: ModelConfig
    arrays: Arrays


def weight_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Return the name and shape of each weight of a network without building it."""
    E, H, V = config.embedding_size, config.hidden_size, config.vocabulary_size
    G = GATES[config.cell]
    shapes: dict[str, tuple[int, ...]] = {"embedding.weight": (V, E)}
    for number in range(config.num_layers):
        layer = f"layers.{number}"
        shapes |= {
            f"{layer}.weight_ih_l0": (G * H, H if number else E),
            f"{layer}.weight_hh_l0": (G * H, H),
            f"{layer}.bias_ih_l0": (G * H,),
            f"{layer}.bias_hh_l0": (G * H,),
        }
    return shapes | {"head.weight": (V, H), "head.bias": (V,)}


def layer_arrays(arrays: Arrays, number: int) -> tuple[NDArray[Any], ...]:
    """Return w_ih [GH, E], w_hh [GH, H], b_ih [GH] and b_hh [GH] of a layer."""
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    return tuple(arrays[f"layers.{number}.{name}_l0"] for name in names)


def in_range(weight: Any) -> bool:
    """Return True if all numbers of an array or tensor are finite and at most `MAX_WEIGHT`."""
    return bool(abs(weight).max() <= MAX_WEIGHT)
