"""How far back learning reaches: the gradient of a loss, by the distance to what it is asked of.

The loss at a character is asked how it would change with the recurrent state k characters before.
Where the answer fades to nothing, training cannot learn what that state should have held; where it
grows, it must be clipped (Bengio et al. 1994, Pascanu et al. 2013).
"""

import math
import statistics
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from charnn.errors import CharnnError, TextError
from charnn.insight.chart import Chart
from charnn.insight.plot import figure
from charnn.model.cells import network_cells, read
from charnn.model.evaluate import WARM_UP
from charnn.model.network import CharNetwork, predicting
from charnn.runs.metrics import Metrics
from charnn.text.tokenizer import Indices

# Shapes: B positions, T characters that are read, K distances from 0, H hidden, L layers,
# S tensors in a cell's state (LSTM 2: h, c; others 1: h).

FADED, GONE = 0.01, 0.0001  # shares of the gradient at distance 0: hardly anything is learned
LOWEST = 1e-8  # share that is still drawn; below lie only more zeros
PIECE_NUMBERS = 1 << 27  # that are held for the way back at once: 512 MB in float32
KEPT = 16  # numbers that a unit keeps of a step, about


@dataclass(frozen=True)
class Reach:
    """Norms of gradients over many positions of a text, by distance."""

    quartiles: NDArray[np.float64]  # [3, K]: lower, median and upper, in nats per unit of state
    positions: int  # that were counted
    left_out: int  # whose numbers were not finite
    nats_per_char: float  # mean loss at the counted positions

    @property
    def relative(self) -> NDArray[np.float64]:
        """The quartiles [3, K] as shares of the median at distance 0, or the first that is not 0.

        All 0 where there is no gradient at all.
        """
        median = self.quartiles[1]
        some = np.flatnonzero(median)
        return self.quartiles / median[some[0]] if len(some) else self.quartiles

    def falls_at(self, share: float = FADED) -> int | None:
        """The first distance at which the median is below `shard`; None if that is out of reach."""
        median = self.relative[1]
        some = np.flatnonzero(median)
        first = int(some[0]) if len(some) else 0
        below = np.flatnonzero(median[first:] < share)
        return first + int(below[0]) if len(below) else None


def measure_reach(
    network: CharNetwork, indices: Indices, distance: int = 200, positions: int = 256
) -> Reach:
    """Measure at `positions` spread evenly over a text, or as many as it has, each after 256
    characters of warm-up, fewer in a short text.

    `TextError` when the text is shorter than `distance` + 2 characters.
    """
    starts, warm_up = _layout(len(indices), distance, positions)
    c = network.config
    piece = max(1, PIECE_NUMBERS // (distance * c.num_layers * c.hidden_size * KEPT))
    parts = []
    for some in np.array_split(starts, -(-len(starts) // piece)):
        rows = np.stack([indices[s : s + warm_up + distance + 1] for s in some])
        parts.append(gradient_norms(network, rows, distance))
    nats, norms = (torch.cat(part, -1).numpy() for part in zip(*parts, strict=True))
    whole = np.isfinite(norms).all(0) & np.isfinite(nats)
    if not whole.any():
        raise CharnnError("no gradient of this model is finite; take an earlier checkpoint")
    quartiles = np.quantile(norms[:, whole], (0.25, 0.5, 0.75), axis=1)
    return Reach(quartiles, int(whole.sum()), int((~whole).sum()), float(nats[whole].mean()))


def _layout(symbols: int, distance: int, positions: int) -> tuple[NDArray[np.int64], int]:
    """Where the rows begin, and how many of their characters warm up."""
    needed = distance + 2  # one to warm up, and one to be predicted
    if symbols < needed:
        how = f" or a --distance of {symbols - 2}" if symbols > 2 else ""
        raise TextError(
            f"the text has {symbols:,} characters, a distance of {distance:,} needs {needed:,}; "
            f"give a longer text{how}"
        )
    warm_up = max(1, min(WARM_UP, (symbols - distance - 1) // 2))
    last = symbols - warm_up - distance - 1
    return np.unique(np.linspace(0, last, min(positions, last + 1)).astype(np.int64)), warm_up


def gradient_norms(network: CharNetwork, rows: Indices, distance: int) -> tuple[Tensor, Tensor]:
    """The loss [B] of the last character of each of `rows` [B, T + 1], and the norms [K, B] of its
    gradient with respect to the whole state (h and c, all layers) 0 to `distance` steps before.

    The first T - `distance` characters bring the state away from zero. Lanes know nothing of each
    other, so one way back through the sum of their losses serves all. Both in float64 on the CPU:
    the square of a small gradient is none in float32.
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
    norms = [  # of gradients [S, B, L, H], the nearest first
        g.cpu().double().square().sum((0, 2, 3)).sqrt() for g in reversed(gradients)
    ]
    return nats.detach().cpu().double(), torch.stack(norms)


@dataclass(frozen=True)
class Clipping:
    """How often and how hard gradients were clipped in training."""

    clip: float
    steps: int  # recorded, with a norm that is finite
    clipped: int  # of those, with a norm above `clip`
    median: float | None  # norm / clip of the clipped ones; None without any
    largest: float | None

    @classmethod
    def of(cls, metrics: Metrics, clip: float) -> "Clipping":
        """As the metrics of a run with this `clip` tell."""
        norms = [r.gradient_norm for r in metrics.steps if math.isfinite(r.gradient_norm)]
        ratios = [norm / clip for norm in norms if norm > clip]
        median = statistics.median(ratios) if ratios else None
        return cls(clip, len(norms), len(ratios), median, max(ratios, default=None))


def as_text(reach: Reach) -> list[str]:
    """The median as a chart with a log axis, and a broken line at `FADED`."""
    median = [float(share) for share in reach.relative[1]]
    drawn = [share for share in median if share >= LOWEST] or [1.0]
    chart = Chart((0, len(median) - 1), (min(*drawn, FADED), max(*drawn, 1.0)), log=True)
    chart.line([(float(k), share) for k, share in enumerate(median)])
    chart.rule(FADED)
    return chart.lines()


def draw_reach(path: Path, reach: Reach) -> None:
    """A picture: the median as a line, the quartiles as a band, and a line at `FADED`."""
    lower, median, upper = reach.relative
    k = np.arange(len(median))
    with figure(path, 5.0, 3.2) as drawn:
        axes = drawn.subplots()
        axes.fill_between(k, lower, upper, color="#d0d0d0", linewidth=0, label="quartiles")
        axes.plot(k, median, color="black", linewidth=1.4, label="median")
        axes.axhline(FADED, color="black", linewidth=0.8, linestyle=":", label="1 %")
        axes.set(xlabel=LABELS[0], ylabel=LABELS[1], yscale="log", xlim=(0, max(1, k[-1])))
        axes.set_ylim(*drawn_range(upper, median))
        axes.legend(edgecolor="none", framealpha=1)  # white, or the rule strikes a name out


LABELS = ("characters back", "gradient, as a share of that at 0")


def drawn_range(*curves: NDArray[np.float64]) -> tuple[float, float]:
    """The shares that a log axis has room for."""
    shares = [1.0, FADED, *(float(s) for curve in curves for s in curve if s >= LOWEST)]
    return 0.7 * min(shares), 1.5 * max(shares)
