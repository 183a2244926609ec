"""The symbols that a model reads before it generates."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from charnn.errors import CharnnError
from charnn.model.network import CharNetwork, predicting
from charnn.sampling.engine import StepEngine, Workspace
from charnn.text.tokenizer import Tokenizer

# Shapes: L layers, H hidden, S tensors in a cell's state.

_CHUNK = 1024  # symbols that are read at once


def start_of_line(tokenizer: Tokenizer) -> list[int]:
    """Return the symbol to read where there is no prime: a newline, so that the text starts as a
    line does; a space or the first symbol if the vocabulary has none."""
    for character in "\n ":
        try:
            return [int(index) for index in tokenizer.encode(character)]
        except CharnnError:
            continue
    return [0]


def read_prime(network: CharNetwork, engine: StepEngine[Any], symbols: Sequence[int]) -> Workspace:
    """Return the workspace of one text that starts with these symbols."""
    if not engine.clamps:
        return engine.start(_read(network, symbols))
    workspace: Workspace = engine.start(network.zero_state(1))
    for symbol in symbols:  # one by one, because the clamps apply from the first symbol on
        engine.step(np.array([symbol]), workspace)
    return workspace


def _read(network: CharNetwork, symbols: Sequence[int]) -> Tensor:
    """Return the state [S, 1, L, H] after these symbols."""
    indices = torch.tensor(symbols, dtype=torch.int64, device=network.head.weight.device)
    state = network.zero_state(1)
    with predicting(network):
        for chunk in indices[:, None].split(_CHUNK):
            _, state = network(chunk, state)
    return state.clone()
