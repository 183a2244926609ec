"""How well a model predicts a text: nats per character, by the protocol the number is named for."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from charnn.errors import SettingError, TextError
from charnn.model.network import CharNetwork, predicting
from charnn.text.records import Records, Text
from charnn.text.tokenizer import Indices

PIECE_NUMBERS = 1 << 24  # activations and logits held at once: 64 MB in float32
LANES = 64
LANES_CHARACTERS = 1_000_000
WARM_UP = 256  # characters that a lane reads before they count
RECORDS = 256  # that are read side by side


@dataclass(frozen=True)
class Score:
    """Summed nats of the targets, divided once."""

    nats: float
    characters: int

    @property
    def nats_per_char(self) -> float:
        """Cross-entropy with the natural logarithm."""
        return self.nats / self.characters

    @property
    def bits_per_char(self) -> float:
        """Cross-entropy with the logarithm to base 2."""
        return self.nats_per_char / math.log(2)


def evaluate(
    network: CharNetwork,
    text: Text,
    protocol: str,
    window: int = 256,
    between: Callable[[], None] = lambda: None,
) -> Score:
    """The score of the N - 1 targets of a text of N symbols.

    `stream`: one pass from zero state, state carried to the last character. `window`: consecutive
    windows of `window` targets, each from zero state, the last one shorter. `lanes`: at most 64
    parallel lanes over at most the first million characters, each warmed on 256 that do not
    count; close to `stream` and much cheaper. `between` is called every so often, and may raise.

    Of records each is read from zero state after a line end, whatever the protocol: N targets.
    """
    if isinstance(text, Records):
        return _score_of_records(network, text, between)
    indices = text
    if len(indices) < 2:
        raise TextError(
            f"a text of {len(indices)} characters has nothing to predict; give two or more"
        )
    protocols = {
        "stream": lambda: _stream(network, indices),
        "window": lambda: _window(network, indices, window),
        "lanes": lambda: _lanes(network, indices),
    }
    if protocol not in protocols:
        raise SettingError(f"protocol {protocol!r} is none of {', '.join(protocols)}")
    if window < 1:
        raise SettingError(f"a window of {window} characters has no target; 256 is usual")
    with predicting(network):
        nats = 0.0
        for part in protocols[protocol]():
            nats += part
            between()
    counted = lanes_layout(len(indices)).counted if protocol == "lanes" else len(indices) - 1
    return Score(nats, counted)


def _score_of_records(network: CharNetwork, records: Records, between: Callable[[], None]) -> Score:
    if len(records.ends) == 0:
        raise TextError("no whole record to predict; give one or more lines")
    nats = 0.0
    order = np.argsort(records.lengths, kind="stable")
    with predicting(network):
        for some in np.array_split(order, -(-len(order) // RECORDS)):
            state, first = network.zero_state(len(some)), 0
            longest, piece = int(records.lengths[some].max()), _piece(network, len(some))
            while first < longest:
                parts = records.window(some, first, piece)
                inputs, targets = (torch.from_numpy(p).to(state.device) for p in parts)
                logits, state = network(inputs, state)
                nats += (
                    F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")
                    .double()
                    .sum()
                    .item()
                )
                first += piece
            between()
    return Score(nats, int(records.ends[-1]))


def _stream(network: CharNetwork, indices: Indices) -> Iterator[float]:
    yield from _read(network, indices[None], network.zero_state(1))


def _window(network: CharNetwork, indices: Indices, window: int) -> Iterator[float]:
    whole = (len(indices) - 1) // window
    starts = np.arange(whole) * window
    for some in np.array_split(starts, -(-whole // LANES)) if whole else []:
        rows = np.stack([indices[start : start + window + 1] for start in some])
        yield from _read(network, rows, network.zero_state(len(some)))
    rest = indices[whole * window :]
    if len(rest) > 1:
        yield from _read(network, rest[None], network.zero_state(1))


@dataclass(frozen=True)
class LanesLayout:
    """How `lanes` cuts a text: lane i counts `length` targets and reads `warm_up` before them."""

    lanes: int
    length: int
    warm_up: int

    @property
    def counted(self) -> int:
        """Targets that count."""
        return self.lanes * self.length

    @property
    def read(self) -> int:
        """Characters that go through the network: what a validation costs."""
        return self.lanes * (self.length + self.warm_up)


def lanes_layout(symbols: int) -> LanesLayout:
    """The lanes of a text with that many symbols."""
    targets = min(symbols - 1, LANES_CHARACTERS)
    warm_up = min(WARM_UP, targets // 2)
    lanes = max(1, min(LANES, (targets - warm_up) // WARM_UP))
    return LanesLayout(lanes, (targets - warm_up) // lanes, warm_up)


def _lanes(network: CharNetwork, indices: Indices) -> Iterator[float]:
    layout = lanes_layout(len(indices))
    starts = np.arange(layout.lanes) * layout.length
    rows = np.stack([indices[s : s + layout.warm_up + layout.length + 1] for s in starts])
    yield from _read(network, rows, network.zero_state(layout.lanes), layout.warm_up)


def _read(network: CharNetwork, rows: Indices, state: Tensor, warm_up: int = 0) -> Iterator[float]:
    """Summed nats of rows [B, T + 1], each symbol predicting the next, piece by piece.

    The first `warm_up` targets of each row do not count. Pieces bound the memory whatever the
    length and the vocabulary; they do not change the result.
    """
    piece = _piece(network, len(rows))
    start, end = 0, rows.shape[1] - 1
    while start < end:
        stop = min(start + piece, warm_up if start < warm_up else end)
        both = torch.from_numpy(rows[:, start : stop + 1].T.astype(np.int64)).to(state.device)
        logits, state = network(both[:-1], state)
        if start >= warm_up:
            nats = F.cross_entropy(logits.flatten(0, 1), both[1:].flatten(), reduction="none")
            yield nats.double().sum().item()
        start = stop


def _piece(network: CharNetwork, rows: int) -> int:
    """How many symbols of so many rows are read at once."""
    c = network.config
    return max(1, PIECE_NUMBERS // (rows * (c.vocabulary_size + 8 * c.hidden_size)))
