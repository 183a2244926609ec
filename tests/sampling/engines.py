"""The step engines by kind, for tests that hold for all of them."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from charnn.config import ModelConfig
from charnn.model.network import CharNetwork
from charnn.sampling.clamp import Clamp
from charnn.sampling.engine import StepEngine
from charnn.sampling.folded_engine import FoldedEngine
from charnn.sampling.lstm_engine import LSTMEngine

KINDS = ("lstm", "gru", "rnn", "batched lstm")


def tiny_network(kind: str, layers: int = 2, vocabulary_size: int = 7) -> CharNetwork:
    """Return a network of the kind's cell, with float64 weights that depend on the layers."""
    torch.manual_seed(layers)
    config = ModelConfig(vocabulary_size, 6, layers, 5, cell=kind.split()[-1])
    return CharNetwork(config).double()


def make_engine(kind: str, network: CharNetwork, clamps: Sequence[Clamp] = ()) -> StepEngine[Any]:
    """Return the engine of this kind."""
    if kind == "batched lstm":
        return LSTMEngine(network, clamps)
    return FoldedEngine(network, clamps=clamps)


def read(engine: StepEngine[Any], indices: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """Read `indices` [T, B]; return the logits [T, B, V] and the new state, as a network does."""
    workspace = engine.start(state)
    logits = torch.stack([engine.step(symbols, workspace).clone() for symbols in indices])
    return logits, engine.state(workspace)
