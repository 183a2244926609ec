"""The step engines by kind, for tests that hold for all of them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from charnn.config import ModelConfig
from charnn.model.network import CharNetwork
from charnn.sampling.clamp import Clamp
from charnn.sampling.engine import StepEngine
from charnn.sampling.folded_engine import FoldedEngine
from charnn.sampling.lstm_engine import LSTMEngine
from charnn.sampling.numpy_engine import NumpyEngine

KINDS = ("lstm", "gru", "rnn", "batched lstm")
ALONE = ("one lstm", "one gru", "one rnn")  # engines for one text


def tiny_network(kind: str, layers: int = 2, vocabulary_size: int = 7) -> CharNetwork:
    """Return a network of the kind's cell, with float64 weights that depend on the layers."""
    torch.manual_seed(layers)
    config = ModelConfig(vocabulary_size, 6, layers, 5, cell=kind.split()[-1])
    return CharNetwork(config).double()


def make_engine(kind: str, network: CharNetwork, clamps: Sequence[Clamp] = ()) -> StepEngine[Any]:
    """Return the engine of this kind."""
    weights = network.weights()
    if kind == "batched lstm":
        return LSTMEngine(weights, clamps=clamps)
    if kind.startswith("one"):
        return NumpyEngine(weights, clamps)
    return FoldedEngine(weights, clamps=clamps)


def read(engine: StepEngine[Any], indices: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """Read `indices` [T, B]; return the logits [T, B, V] and the new state, as a network does."""
    if isinstance(engine, NumpyEngine):
        alone = engine.start(state.numpy())
        rows = [engine.step(symbols.numpy(), alone).copy() for symbols in indices]
        return torch.from_numpy(np.stack(rows)), torch.from_numpy(engine.state(alone))
    workspace = engine.start(state)
    logits = torch.stack([engine.step(symbols, workspace).clone() for symbols in indices])
    return logits, engine.state(workspace)
