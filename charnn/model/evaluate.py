"""Nats per symbol (character or byte) of a text under a model, by one of three protocols."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from charnn.arguments import choice, whole_number
from charnn.errors import TextError
from charnn.model.network import CharNetwork, predicting
from charnn.text.records import Records, Text, first_part
from charnn.text.tokenizer import Indices
from charnn.words import plural

MAX_ACTIVATIONS = 1 << 24  # activations and logits in memory at once: 64 MB in float32
MAX_LANES = 64
WARM_UP = 256  # characters that a lane reads before its targets count
MAX_RECORDS = 256  # records that are read side by side

# Shapes: B texts that are read side by side, T characters.


@dataclass(frozen=True)
class Score:
    """Summed nats of the targets of a text, and their number.

    The symbols of a byte model are bytes, so its figures are those per byte.
    """

    nats: float
    characters: int

    def __repr__(self) -> str:
        return (
            f"<Score nats_per_char={self.nats_per_char:.4f} bits_per_char={self.bits_per_char:.4f} "
            f"characters={self.characters:,}>"
        )

    @property
    def nats_per_char(self) -> float:
        """Mean cross-entropy with the natural logarithm."""
        return self.nats / self.characters

    @property
    def bits_per_char(self) -> float:
        """Mean cross-entropy with the logarithm to base 2."""
        return self.nats_per_char / math.log(2)


def evaluate(
    network: CharNetwork,
    text: Text,
    protocol: str,
    window: int = 256,
    between: Callable[[], None] = lambda: None,
    symbols: int | None = None,
) -> Score:
    """Return the score of the N - 1 targets of a text of N symbols.

    `protocol` is one of

    - `stream`: one pass from the zero state, with the state carried to the last character;
    - `window`: consecutive windows of `window` targets, each from the zero state, the last shorter;
    - `lanes`: at most 64 parallel lanes over the whole text, or over about `symbols` of it that are
      spread evenly. Each lane first reads 256 characters that do not count. Close to `stream` and
      much faster.

    Records have N targets. Each is read from the zero state, after a line end; `protocol` is
    ignored, and `symbols` stands for the first records, which are in random order. `between` is
    called after each piece of work; it may raise to stop the evaluation.

    >>> evaluate(network, corpus.validation, "stream").bits_per_char
    2.0
    """
    if isinstance(text, Records):
        return _score_of_records(network, first_part(text, symbols or len(text)), between)
    indices, layout = text, lanes_layout(min(len(text), symbols or len(text)))
    if len(indices) < 2:
        raise TextError(
            f"a text of {plural(len(indices), 'symbol')} has nothing to predict; give at least 2 "
            "characters, or bytes to a byte model"
        )
    protocols = {
        "stream": lambda: _stream(network, indices),
        "window": lambda: _window(network, indices, window),
        "lanes": lambda: _lanes(network, indices, layout),
    }
    protocol = choice("protocol", protocol, tuple(protocols))
    window = whole_number("window", window, 1)
    with predicting(network):
        nats = 0.0
        for part in protocols[protocol]():
            nats += part
            between()
    counted = layout.counted if protocol == "lanes" else len(indices) - 1
    return Score(nats, counted)


def _score_of_records(network: CharNetwork, records: Records, between: Callable[[], None]) -> Score:
    if len(records.ends) == 0:
        raise TextError("there is no complete record to predict; give at least 1 line")
    nats = 0.0
    order = np.argsort(records.lengths, kind="stable")
    with predicting(network):
        for rows in np.array_split(order, -(-len(order) // MAX_RECORDS)):
            state, start = network.zero_state(len(rows)), 0
            longest, length = int(records.lengths[rows].max()), _piece_length(network, len(rows))
            while start < longest:
                parts = records.window(rows, start, length)
                inputs, targets = (torch.from_numpy(p).to(state.device) for p in parts)
                logits, state = network(inputs, state)
                nats += (
                    F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")
                    .double()
                    .sum()
                    .item()
                )
                start += length
            between()
    return Score(nats, int(records.ends[-1]))


def _stream(network: CharNetwork, indices: Indices) -> Iterator[float]:
    yield from _read(network, indices[None], network.zero_state(1))


def _window(network: CharNetwork, indices: Indices, window: int) -> Iterator[float]:
    full = (len(indices) - 1) // window
    starts = np.arange(full) * window
    for group in np.array_split(starts, -(-full // MAX_LANES)) if full else []:
        rows = np.stack([indices[start : start + window + 1] for start in group])
        yield from _read(network, rows, network.zero_state(len(group)))
    rest = indices[full * window :]
    if len(rest) > 1:
        yield from _read(network, rest[None], network.zero_state(1))


@dataclass(frozen=True)
class LanesLayout:
    """Layout of the protocol `lanes`: each lane reads `warm_up` targets, then counts `length`."""

    lanes: int
    length: int
    warm_up: int

    @property
    def counted(self) -> int:
        """Number of targets that count."""
        return self.lanes * self.length

    @property
    def characters_read(self) -> int:
        """Number of characters that the network reads, which is the cost of a validation."""
        return self.lanes * (self.length + self.warm_up)


def lanes_layout(symbols: int) -> LanesLayout:
    """Return the layout of the protocol `lanes` for reading this many symbols."""
    targets = max(1, symbols - 1)
    warm_up = min(WARM_UP, targets // 2)
    lanes = max(1, min(MAX_LANES, (targets - warm_up) // WARM_UP))
    return LanesLayout(lanes, (targets - warm_up) // lanes, warm_up)


def _lanes(network: CharNetwork, indices: Indices, layout: LanesLayout) -> Iterator[float]:
    length = layout.warm_up + layout.length + 1
    apart = (len(indices) - length) // max(1, layout.lanes - 1)  # from start to start
    rows = np.stack([indices[lane * apart :][:length] for lane in range(layout.lanes)])
    yield from _read(network, rows, network.zero_state(layout.lanes), layout.warm_up)


def _read(network: CharNetwork, rows: Indices, state: Tensor, warm_up: int = 0) -> Iterator[float]:
    """Yield the summed nats of rows [B, T + 1], in which each symbol predicts the next.

    The first `warm_up` targets of each row do not count. The rows are read in pieces to bound the
    memory for any length and vocabulary; the pieces do not change the result.
    """
    length = _piece_length(network, len(rows))
    start, end = 0, rows.shape[1] - 1
    while start < end:
        stop = min(start + length, warm_up if start < warm_up else end)
        symbols = torch.from_numpy(rows[:, start : stop + 1].T.astype(np.int64)).to(state.device)
        logits, state = network(symbols[:-1], state)
        if start >= warm_up:
            nats = F.cross_entropy(logits.flatten(0, 1), symbols[1:].flatten(), reduction="none")
            yield nats.double().sum().item()
        start = stop


def _piece_length(network: CharNetwork, rows: int) -> int:
    """Return the number of symbols to read at once of this many rows."""
    c = network.config
    return max(1, MAX_ACTIVATIONS // (rows * (c.vocabulary_size + 8 * c.hidden_size)))
