"""Units whose state is correlated with a property of the text, such as being inside quotes.

The best of many units looks better than it is. So the first half of the text ranks the units, and
the correlation in the second half, which had no part in the choice, is reported too.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from charnn import arguments
from charnn.arguments import function, whole_number
from charnn.checkpoint import Checkpoint
from charnn.errors import SettingError, TextError
from charnn.insight.characters import split_characters
from charnn.insight.properties import PROPERTIES, Property, Values
from charnn.model.cells import CELLS
from charnn.model.network import CharNetwork
from charnn.runs.evaluation_text import evaluation_text
from charnn.sampling.engines import many_engine
from charnn.text.records import Records, Text, indices_of
from charnn.text.tokenizer import Tokenizer
from charnn.words import plural, shown

# Shapes: N symbols, T steps, B lanes, P properties, L layers, H hidden, S states of a unit that are
# candidates, C candidates of all units: S x L x H.

MAX_CHARACTERS = 100_000  # of a text that are read
LANES = 32  # parts of the text that are read in parallel
WARM_UP = 200  # symbols that a lane reads before it counts any
MIN_LANE = 100  # symbols that each lane counts, at least
MIN_SYMBOLS = 4 * MIN_LANE
BLOCK_NUMBERS = 1 << 22  # states held at once: 32 MB in float64


@dataclass(frozen=True)
class UnitMatch:
    """One state of a unit, and Pearson's r with a property in each half of the text."""

    state: str  # "hidden", "cell" or "tanh cell"
    layer: int
    unit: int
    r_first_half: float  # by which units are ranked
    r_second_half: float


@dataclass(frozen=True)
class PropertyUnits:
    """The units that track a property best, best first."""

    property: str
    mean: float  # of the property
    units: tuple[UnitMatch, ...]


@dataclass(frozen=True)
class UnitSearch:
    """The result of `find_units`."""

    characters: int  # symbols over which correlations are computed
    properties: tuple[PropertyUnits, ...]
    not_ranked: Mapping[str, str]  # properties that do not vary in the text, each with the reason

    def to_json(self) -> dict[str, Any]:
        """Return all fields as plain JSON."""
        return asdict(self)


def find_units(
    network: CharNetwork,
    tokenizer: Tokenizer,
    text: Text,
    properties: Mapping[str, Property] = PROPERTIES,
    best: int = 3,
) -> UnitSearch:
    """Find the `best` units for each property. Raise `TextError` if no property varies in the text.

    find_units(network, tokenizer, tokenizer.encode(text), {"quotes": quotes}, best=10)
    """
    lanes = Lanes.for_text(len(text))
    characters, sizes = split_characters(tokenizer, indices_of(text))
    if not isinstance(properties, Mapping):
        raise SettingError(f"`properties` must be a mapping of functions, not {shown(properties)}")
    best = whole_number("best", best, 1)
    values = {
        str(name): np.repeat(_values(name, of, characters), sizes)
        for name, of in properties.items()
    }
    not_ranked = {name: why for name, v in values.items() if (why := not_ranked_reason(v, lanes))}
    ranked = [name for name in values if name not in not_ranked]
    if not ranked:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in not_ranked.items())
        raise TextError(f"no property to rank units by ({reasons}); give another text")
    matches = rank_units(network, text, [values[name] for name in ranked], best)
    means = [float(lanes.halves(values[name]).mean()) for name in ranked]
    found = map(PropertyUnits, ranked, means, map(tuple, matches))
    return UnitSearch(lanes.counted, tuple(found), not_ranked)


def _values(name: str, of: Property, characters: str) -> Values:
    """Return the values of a property, which may be a user's own function."""
    made = function("properties", of)(characters)
    try:
        values = np.asarray(made, np.float64)
    except (TypeError, ValueError) as error:
        raise SettingError(f"the property {shown(name)} returned {shown(made)}") from error
    if values.shape != (len(characters),) or not np.isfinite(values).all():
        raise SettingError(
            f"the property {shown(name)} must return a finite number for each of the "
            f"{plural(len(characters), 'character')}"
        )
    return values


def text_to_search(checkpoint: Checkpoint, folder: Path, text: str | None = None) -> Text:
    """Return the first 100,000 characters of `text`, encoded for the model of a checkpoint.

    Without `text`, take the validation part of the corpus of the run in `folder`.
    """
    if text is None:
        indices = indices_of(evaluation_text(checkpoint, folder).text)[:MAX_CHARACTERS]
    else:
        indices = checkpoint.tokenizer.fold(arguments.text("text", text)[:MAX_CHARACTERS])
    newline = checkpoint.tokenizer.newline_index
    return Records(indices, newline) if checkpoint.text.lines and newline is not None else indices


@dataclass(frozen=True)
class Lanes:
    """A division of a text of N symbols into lanes that are read in parallel.

    Each lane counts `length` symbols, after `warm_up` symbols that it shares with the lane before.
    The first half of the lanes is the first half of the text. The first `warm_up` symbols of the
    text, and fewer than `count` at its end, are not counted.
    """

    count: int
    length: int
    warm_up: int

    @classmethod
    def for_text(cls, symbols: int) -> "Lanes":
        """Divide a text of so many symbols. Raise `TextError` if it is too short."""
        if symbols < MIN_SYMBOLS:
            raise TextError(
                f"a text of {plural(symbols, 'character')} is too short to find units; give "
                f"{MIN_SYMBOLS:,} or more"
            )
        warm_up = min(WARM_UP, symbols // 4)
        pairs = min(LANES // 2, (symbols - warm_up) // (2 * MIN_LANE))
        return cls(2 * pairs, (symbols - warm_up) // (2 * pairs), warm_up)

    @property
    def counted(self) -> int:
        """The number of symbols that all lanes count."""
        return self.count * self.length

    @property
    def starts(self) -> NDArray[np.int64]:
        """The place in the text where each lane begins to read [B]."""
        return np.arange(self.count) * self.length

    def halves(self, values: Values) -> Values:
        """Return the counted ones of values [N], as two halves [2, N/2]."""
        return values[self.warm_up : self.warm_up + self.counted].reshape(2, -1)


def not_ranked_reason(values: Values, lanes: Lanes) -> str:
    """Return why no unit can be correlated with a property [N], or "" if it varies in both halves
    of the text."""
    low, high = lanes.halves(values).min(1), lanes.halves(values).max(1)
    if (low < high).all():
        return ""
    if low.min() < high.max():
        return "does not vary in one half of the text"
    return "never true in this text" if high.max() == 0 else "always true in this text"


def rank_units(
    network: CharNetwork, text: Text, properties: Sequence[Values], best: int
) -> list[list[UnitMatch]]:
    """Return the `best` units for each property [N] by the absolute value of Pearson's r.

    Candidates are the hidden state of every unit, its cell state, which can count, and the tanh of
    its cell state, which is better at yes or no. Of each unit only the best candidate is returned.
    Records are read from zero state. The memory needed does not grow with the text.
    """
    lanes = Lanes.for_text(len(text))
    all_values = np.stack(properties)
    moments = Moments(), Moments()
    half = lanes.count // 2
    for first, states in _read_states(network, text, lanes):
        places = lanes.starts[:, None] + first + np.arange(states.shape[1])  # [B, T]
        for part, some in zip(moments, (slice(0, half), slice(half, None)), strict=True):
            x = states[some].reshape(-1, states.shape[2])
            part.add(x, all_values[:, places[some].flatten()].T)
    names, units = _state_names(network), network.config.num_layers * network.config.hidden_size
    first_half, second_half = (
        part.correlation().T.reshape(-1, len(names), units)
        for part in moments  # [P, S, L x H]
    )
    return [
        _sort_units(r_first, r_second, names, network.config.hidden_size)[:best]
        for r_first, r_second in zip(first_half, second_half, strict=True)
    ]


def _sort_units(
    r_first: NDArray[np.float64], r_second: NDArray[np.float64], names: Sequence[str], H: int
) -> list[UnitMatch]:
    """Return all units, each with its best state, best first, from correlations [S, L x H]."""
    best = np.abs(r_first).argmax(0)
    first, second = (np.take_along_axis(r, best[None], 0)[0] for r in (r_first, r_second))
    order = np.argsort(-np.abs(first), kind="stable").tolist()
    return [
        UnitMatch(names[best[n]], n // H, n % H, float(first[n]), float(second[n])) for n in order
    ]


def _state_names(network: CharNetwork) -> tuple[str, ...]:
    """Return the names of the states [S] that `_read_states` yields for each unit."""
    state = CELLS[network.config.cell].state
    return (*state, "tanh cell") if "cell" in state else state


class Moments:
    """Running means, variances and covariances, updated block by block (Chan et al. 1983).

    Sums of squares would lose the digits of values that are small beside a large mean.
    """

    def __init__(self) -> None:
        self._count = 0
        self._x = self._y = self._xx = self._yy = self._xy = np.zeros(1)

    def add(self, x: NDArray[np.float64], y: NDArray[np.float64]) -> None:
        """Add a block of `x` [n, C] and `y` [n, P]."""
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
        """Return Pearson's r [C, P]; 0 where one of the two does not vary."""
        scale = np.sqrt(np.outer(self._xx, self._yy))
        return np.divide(self._xy, scale, out=np.zeros_like(scale), where=scale > 0)


def _read_states(
    network: CharNetwork, text: Text, lanes: Lanes
) -> Iterator[tuple[int, NDArray[np.float64]]]:
    """Yield the states [B, T, C] after the counted symbols, in blocks, each with the offset of its
    first symbol in the lanes."""
    engine = many_engine(network.weights(), network.head.weight.device)
    workspace = engine.start(network.zero_state(lanes.count))
    columns = workspace.columns
    fresh = columns.clone()
    numbers = len(_state_names(network)) * network.config.num_layers * network.config.hidden_size
    block = max(1, BLOCK_NUMBERS // (lanes.count * numbers))
    steps: list[Tensor] = []
    indices = indices_of(text)
    end = lanes.warm_up + lanes.length
    for place in range(end):
        symbols = indices[lanes.starts + place].astype(np.int64)
        if isinstance(text, Records):  # a newline ends one record and begins the next
            again = torch.from_numpy(symbols == text.newline).to(columns.device)
            columns[:, again] = fresh[:, again]
        engine.step(symbols, workspace)
        if place >= lanes.warm_up:
            state = engine.state(workspace)  # h [1, B, L, H], or h and c
            steps.append(torch.cat((state, state[1:].tanh())))
        if len(steps) == block or (steps and place == end - 1):
            states = torch.stack(steps).permute(2, 0, 1, 3, 4).flatten(2)
            yield place + 1 - len(steps), states.cpu().double().numpy()
            steps = []
