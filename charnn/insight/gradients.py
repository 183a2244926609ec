"""The reach of learning: the norm of the loss gradient by distance.

The loss at a character is differentiated with respect to the recurrent state k characters before
it. Where the gradient vanishes with growing k, training cannot learn what that state should have
stored; where it grows, it must be clipped (Bengio et al. 1994, Pascanu et al. 2013).
"""

import math
import statistics
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from charnn.arguments import whole_number
from charnn.errors import CharnnError, TextError
from charnn.insight.chart import Chart
from charnn.model.cells import network_cells, read
from charnn.model.evaluate import WARM_UP
from charnn.model.network import CharNetwork, predicting
from charnn.runs.metrics import Metrics
from charnn.text.records import Records, Text
from charnn.text.tokenizer import Indices
from charnn.words import plural

# Shapes: B positions, T characters that are read, K distances from 0, H hidden, L layers,
# S tensors in a cell's state (LSTM 2: h, c; others 1: h).

FADED, VANISHED = 0.01, 0.0001  # gradient norms relative to distance 0 that are reported
SMALLEST_DRAWN = 1e-8  # relative norm; a log axis leaves out what is smaller
GRAPH_NUMBERS = 1 << 27  # numbers that autograd keeps at once: 512 MB in float32
NUMBERS_PER_STEP = 16  # that autograd keeps for each unit and step, roughly


@dataclass(frozen=True)
class Reach:
    """Gradient norms by distance, over many positions of a text."""

    quartiles: NDArray[np.float64]  # [3, K]: lower, median, upper, in nats per unit of state
    positions: int  # that were counted
    not_finite: int  # positions left out because their loss or gradient was not finite
    nats_per_char: float  # mean loss at the counted positions

    @property
    def relative(self) -> NDArray[np.float64]:
        """The quartiles [3, K] divided by the median at distance 0, or by the first median that
        is not 0; all 0 if every gradient is 0."""
        median = self.quartiles[1]
        nonzero = np.flatnonzero(median)
        return self.quartiles / median[nonzero[0]] if len(nonzero) else self.quartiles

    def falls_below(self, share: float = FADED) -> int | None:
        """Return the first distance at which the relative median is below `share`, or None."""
        median = self.relative[1]
        nonzero = np.flatnonzero(median)
        first = int(nonzero[0]) if len(nonzero) else 0
        below = np.flatnonzero(median[first:] < share)
        return first + int(below[0]) if len(below) else None

    def to_json(self) -> dict[str, Any]:
        """Return the norms and the distances at which they fall below 1 % and 0.01 %."""
        lower, median, upper = self.quartiles.tolist()
        return {
            "distance": len(median) - 1,
            "falls_below": {f"{share:g}": self.falls_below(share) for share in (FADED, VANISHED)},
            "positions": self.positions,
            "not_finite": self.not_finite,
            "nats_per_char": self.nats_per_char,
            "lower_quartile": lower,
            "median": median,
            "upper_quartile": upper,
        }


def measure_reach(
    network: CharNetwork, text: Text, distance: int = 200, positions: int = 256
) -> Reach:
    """Measure gradient norms up to `distance` at `positions` spread evenly over a text.

    A text with fewer positions is measured at all of them. Each position is preceded by 256
    characters of warm-up, fewer in a short text. Raise `TextError` if the text is shorter than
    `distance` + 2 characters or consists of records.

        measure_reach(network, tokenizer.encode(text)).falls_below(0.01)
    """
    distance, positions = (
        whole_number(name, value, 1)
        for name, value in (("distance", distance), ("positions", positions))
    )
    indices = refuse_records(text)
    starts, warm_up = _rows(len(indices), distance, positions)
    c = network.config
    batch = max(1, GRAPH_NUMBERS // (distance * c.num_layers * c.hidden_size * NUMBERS_PER_STEP))
    parts = []
    for some in np.array_split(starts, -(-len(starts) // batch)):
        rows = np.stack([indices[s : s + warm_up + distance + 1] for s in some])
        parts.append(gradient_norms(network, rows, distance))
    nats, norms = (torch.cat(part, -1).numpy() for part in zip(*parts, strict=True))
    finite = np.isfinite(norms).all(0) & np.isfinite(nats)
    if not finite.any():
        raise CharnnError("no gradient of this model is finite; use an earlier checkpoint")
    quartiles = np.quantile(norms[:, finite], (0.25, 0.5, 0.75), axis=1)
    return Reach(quartiles, int(finite.sum()), int((~finite).sum()), float(nats[finite].mean()))


def refuse_records(text: Text) -> Indices:
    """Return the indices of running text. Raise `TextError` for records."""
    if isinstance(text, Records):
        raise TextError(
            "each record is read from zero state, so no gradient reaches beyond it; use a model "
            "of running text"
        )
    return text


def _rows(symbols: int, distance: int, positions: int) -> tuple[NDArray[np.int64], int]:
    """Return where each row of the text begins [B], and the warm-up that they all have."""
    needed = distance + 2  # 1 character to warm up, and 1 to predict
    if symbols < needed:
        shorter = f" or `distance={symbols - 2}`" if symbols > 2 else ""
        raise TextError(
            f"the text has {plural(symbols, 'character')}, but a distance of {distance:,} needs "
            f"{needed:,}; give a longer text{shorter}"
        )
    warm_up = max(1, min(WARM_UP, (symbols - distance - 1) // 2))
    last = symbols - warm_up - distance - 1
    return np.unique(np.linspace(0, last, min(positions, last + 1)).astype(np.int64)), warm_up


def gradient_norms(network: CharNetwork, rows: Indices, distance: int) -> tuple[Tensor, Tensor]:
    """Return the loss [B] at the last character of each row, and its gradient norms [K, B].

    `rows` are [B, T + 1]. The norm at distance k is that of the gradient with respect to the whole
    state (h and c, all layers) k steps before. The first T - `distance` characters warm the state
    up. The rows are independent, so one backward pass through the sum of their losses serves all.
    Both results are float64 on the CPU: the square of a small gradient underflows in float32.
    """
    weight, bias = network.head.weight.detach(), network.head.bias.detach()
    both = torch.from_numpy(rows.T.astype(np.int64)).to(weight.device)
    warm_up = len(both) - 1 - distance
    with predicting(network):
        _, warm = network(both[:warm_up], network.zero_state(len(rows)))
    cells = [cell.requires_grad_(False) for cell in network_cells(network)]
    inputs = network.embedding(both[warm_up:-1]).detach()
    with torch.enable_grad():
        states = [warm.clone().requires_grad_()]
        for x in inputs:
            states.append(read(cells, x[None], states[-1])[1])
        h = states[-1][0, :, -1]
        nats = F.cross_entropy(F.linear(h, weight, bias), both[-1], reduction="none")
        gradients = torch.autograd.grad(nats.sum(), states)
    norms = [  # each from a gradient [S, B, L, H], the nearest state first
        g.cpu().double().square().sum((0, 2, 3)).sqrt() for g in reversed(gradients)
    ]
    return nats.detach().cpu().double(), torch.stack(norms)


@dataclass(frozen=True)
class Clipping:
    """The frequency and the strength of gradient clipping in training."""

    clip: float
    steps: int  # recorded steps with a finite gradient norm
    clipped_steps: int  # of these, steps with a norm above `clip`
    median_ratio: float | None  # norm / clip over the clipped steps; None if there are none
    max_ratio: float | None

    @classmethod
    def from_metrics(cls, metrics: Metrics, clip: float) -> "Clipping":
        """Return the clipping of a run from its metrics and its setting `clip`."""
        norms = [r.gradient_norm for r in metrics.steps if math.isfinite(r.gradient_norm)]
        ratios = [norm / clip for norm in norms if norm > clip]
        median = statistics.median(ratios) if ratios else None
        return cls(clip, len(norms), len(ratios), median, max(ratios, default=None))

    def to_json(self) -> dict[str, Any]:
        """Return all fields as plain JSON."""
        return vars(self).copy()


def as_text(reach: Reach) -> list[str]:
    """Return a text chart of the relative median on a log axis, with a broken line at 1 %."""
    median = [float(share) for share in reach.relative[1]]
    drawn = [share for share in median if share >= SMALLEST_DRAWN] or [1.0]
    chart = Chart((0, len(median) - 1), (min(*drawn, FADED), max(*drawn, 1.0)), log=True)
    chart.line([(float(k), share) for k, share in enumerate(median)])
    chart.rule(FADED)
    return chart.lines()
