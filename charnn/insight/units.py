"""Units whose state tracks a property of the text, such as whether it is inside quotes.

The best of many units looks better than it is: so units are ranked by one half of the text, and
their correlation is told for the other half too.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from charnn.errors import TextError
from charnn.insight.properties import Values
from charnn.model.cells import CELLS
from charnn.model.network import CharNetwork
from charnn.sampling.batch import stepper_of
from charnn.text.records import Records, Text, indices_of
from charnn.text.tokenizer import REPLACEMENT, ByteTokenizer, Indices, Tokenizer

# Shapes: N symbols, T steps, B lanes, P properties, L layers, H hidden, S states of a unit that are
# candidates, C candidates of all units: S x L x H.

LANES = 32  # places of the text that are read in parallel
WARM_UP = 200  # symbols that a lane reads before they count
LEAST = 100  # symbols that a lane counts at least
SHORTEST = 4 * LEAST
BLOCK_NUMBERS = 1 << 22  # states held at once: 32 MB in float64


@dataclass(frozen=True)
class Found:
    """A unit's state, with its correlation in the half that ranked it and in the other."""

    state: str
    layer: int
    unit: int
    ranked: float
    checked: float


@dataclass(frozen=True)
class Layout:
    """How a text of N symbols is read: lanes, one after the other, each `warm_up` symbols early.
    The first half of the lanes ranks, the second checks; what is before the first does not count.
    """

    lanes: int
    length: int
    warm_up: int

    @classmethod
    def of(cls, symbols: int) -> "Layout":
        """`TextError` for a text that is too short to tell anything."""
        if symbols < SHORTEST:
            raise TextError(
                f"a text of {symbols:,} characters is too short to find units by; give "
                f"{SHORTEST:,} or more"
            )
        warm_up = min(WARM_UP, symbols // 4)
        pairs = min(LANES // 2, (symbols - warm_up) // (2 * LEAST))
        return cls(2 * pairs, (symbols - warm_up) // (2 * pairs), warm_up)

    @property
    def counted(self) -> int:
        """Symbols that count."""
        return self.lanes * self.length

    @property
    def starts(self) -> NDArray[np.int64]:
        """Where each lane begins to be read [B]."""
        return np.arange(self.lanes) * self.length

    def halves(self, values: Values) -> Values:
        """What counts of values [N], as two halves [2, N/2]."""
        return values[self.warm_up : self.warm_up + self.counted].reshape(2, -1)


def characters(tokenizer: Tokenizer, indices: Indices) -> tuple[str, NDArray[np.int64]]:
    """The text of `indices`, and how many symbols each of its characters is: 1, or its bytes."""
    if not isinstance(tokenizer, ByteTokenizer):
        text = tokenizer.decode(indices)
        return text, np.ones(len(text), np.int64)
    text = indices.astype(np.uint8).tobytes().decode("utf-8", "surrogateescape")
    sizes = [len(character.encode("utf-8", "surrogateescape")) for character in text]
    text = re.sub("[\udc80-\udcff]", REPLACEMENT, text)  # bytes that are no UTF-8
    return text, np.array(sizes, np.int64)


def trouble(values: Values, layout: Layout) -> str:
    """Why nothing can track a property [N] in this text; nothing if something can."""
    low, high = layout.halves(values).min(1), layout.halves(values).max(1)
    if (low < high).all():
        return ""
    if low.min() < high.max():
        return "is the same throughout one half of this text"
    return "never holds in this text" if high.max() == 0 else "always holds in this text"


def find(
    network: CharNetwork,
    text: Text,
    properties: Sequence[Values],
    best: int,
) -> list[list[Found]]:
    """For each property [N], the units that track it best by Pearson's correlation, best first.

    Candidates are the hidden state of every unit, its cell state, which can count, and tanh of
    that, which is what a cell shows and answers yes or no; a unit is told once, by its best. Each
    record is read from zero state. Memory does not grow with the text.
    """
    layout = Layout.of(len(text))
    wanted = np.stack(properties)
    moments = Moments(), Moments()
    half = layout.lanes // 2
    for first, states in _read(network, text, layout):
        places = layout.starts[:, None] + first + np.arange(states.shape[1])  # [B, T]
        for part, some in zip(moments, (slice(0, half), slice(half, None)), strict=True):
            x = states[some].reshape(-1, states.shape[2])
            part.add(x, wanted[:, places[some].flatten()].T)
    kinds, units = _candidates(network), network.config.num_layers * network.config.hidden_size
    ranked, checked = (
        part.correlation().T.reshape(-1, len(kinds), units)
        for part in moments  # [P, S, L x H]
    )
    return [
        _best(ours, others, kinds, network.config.hidden_size)[:best]
        for ours, others in zip(ranked, checked, strict=True)
    ]


def _best(
    ranked: NDArray[np.float64], checked: NDArray[np.float64], kinds: Sequence[str], H: int
) -> list[Found]:
    """All units, each by its best state, best first; of correlations [S, L x H]."""
    best = np.abs(ranked).argmax(0)
    r, other = (np.take_along_axis(values, best[None], 0)[0] for values in (ranked, checked))
    order = np.argsort(-np.abs(r), kind="stable").tolist()
    return [Found(kinds[best[n]], n // H, n % H, float(r[n]), float(other[n])) for n in order]


def _candidates(network: CharNetwork) -> tuple[str, ...]:
    """Names of what `_read` gives of each unit."""
    state = CELLS[network.config.cell].state
    return (*state, "tanh cell") if "cell" in state else state


class Moments:
    """Running means and products of deviations from them, block by block (Chan et al. 1983): sums
    of squares would lose what is small beside a large mean."""

    def __init__(self) -> None:
        self._count = 0
        self._x = self._y = self._xx = self._yy = self._xy = np.zeros(1)

    def add(self, x: NDArray[np.float64], y: NDArray[np.float64]) -> None:
        """A block of `x` [n, C] and `y` [n, P]."""
        n, before = len(x), self._count
        self._count += n
        x_mean, y_mean = x.mean(0), y.mean(0)
        x, y = x - x_mean, y - y_mean
        dx, dy = x_mean - self._x, y_mean - self._y
        weight = before * n / self._count
        self._xx = self._xx + (x * x).sum(0) + weight * dx * dx
        self._yy = self._yy + (y * y).sum(0) + weight * dy * dy
        self._xy = self._xy + x.T @ y + weight * np.outer(dx, dy)
        self._x, self._y = self._x + dx * n / self._count, self._y + dy * n / self._count

    def correlation(self) -> NDArray[np.float64]:
        """Pearson's [C, P]; 0 where one of the two does not vary."""
        scale = np.sqrt(np.outer(self._xx, self._yy))
        return np.divide(self._xy, scale, out=np.zeros_like(scale), where=scale > 0)


def _read(
    network: CharNetwork, text: Text, layout: Layout
) -> Iterator[tuple[int, NDArray[np.float64]]]:
    """The candidates [B, T, C] after the symbols that count, in blocks, each with the place of its
    first symbol in the lanes."""
    stepper = stepper_of(network, layout.lanes)
    memory = stepper.begin(network.zero_state(layout.lanes))
    fresh = memory.clone()
    numbers = len(_candidates(network)) * network.config.num_layers * network.config.hidden_size
    block = max(1, BLOCK_NUMBERS // (layout.lanes * numbers))
    steps: list[Tensor] = []
    indices = indices_of(text)
    end = layout.warm_up + layout.length
    for place in range(end):
        symbols = indices[layout.starts + place].astype(np.int64)
        if isinstance(text, Records):  # which ended a record, and now begins another
            again = torch.from_numpy(symbols == text.newline).to(memory.device)
            memory[:, again] = fresh[:, again]
        stepper.step(symbols, memory)
        if place >= layout.warm_up:
            state = stepper.state(memory)  # h [1, B, L, H], or h and c
            steps.append(torch.cat((state, state[1:].tanh())))
        if len(steps) == block or (steps and place == end - 1):
            states = torch.stack(steps).permute(2, 0, 1, 3, 4).flatten(2)
            yield place + 1 - len(steps), states.cpu().double().numpy()
            steps = []
