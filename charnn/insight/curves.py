"""Learning curves of runs: losses, learning rate and gradient norm by step."""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from charnn.errors import TextError
from charnn.insight.chart import Chart, Points
from charnn.runs.folder import METRICS
from charnn.runs.metrics import Metrics, read_metrics

SMOOTHING = 50  # a running mean spans 2/50 of the recorded steps
MOST_POINTS = 4000  # of a curve; a picture is 1,050 dots wide
# The first losses fall from the logarithm of the vocabulary size. Axes that covered them would
# leave little room for the rest.
FIRST_STEPS = 0.02  # share of the steps that the axes need not cover


@dataclass(frozen=True)
class Curves:
    """The metrics of a run, and the name to show for it."""

    name: str
    metrics: Metrics

    @functools.cached_property
    def training(self) -> Points:
        """Steps and training losses in nats per character, smoothed by a running mean.

        Of the points that a picture cannot tell apart only some are returned.
        """
        steps = self.metrics.steps
        reach = len(steps) // SMOOTHING
        means = []
        for n in range(0, len(steps), 1 + len(steps) // MOST_POINTS):
            near = [r.loss for r in steps[max(0, n - reach) : n + reach + 1]]
            means.append((float(steps[n].step), math.fsum(near) / len(near)))
        return means

    @property
    def losses_in_range(self) -> list[float]:
        """The finite losses that the y axis must cover: all but those of the first steps."""
        from_step = FIRST_STEPS * max((report.step for report in self.metrics.steps), default=0)
        late = [nats for step, nats in self.training if step >= from_step]
        return [y for y in (*late, *(n for _, n in self.metrics.validations)) if math.isfinite(y)]


def read_curves(folder: Path, name: str) -> Curves:
    """Read the curves of the run in `folder`. Raise `TextError` if nothing was recorded yet."""
    metrics = read_metrics(folder / METRICS)
    if not metrics.steps and not metrics.validations:
        raise TextError(
            f"{folder}: {METRICS} holds no step yet; wait for the run or choose another"
        )
    return Curves(name, metrics)


def as_text(runs: Sequence[Curves], width: int = 64) -> list[str]:
    """Return a text chart of the losses of each run, as lines; all charts have the same axes.

    `width` is that of a chart in characters, without labels.

    The training loss is a line, validations are marked `o`.
    """
    x, y = axis_ranges(runs)
    lines: list[str] = []
    for run in runs:
        chart = Chart(x, y, width=width)
        chart.line(run.training)
        chart.marks(run.metrics.validations)
        lines += [*([""] if lines else []), run.name, *chart.lines()]
    return lines


def axis_ranges(runs: Sequence[Curves]) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return the range of steps, from 0, and the range of losses, with a margin."""
    losses = [loss for run in runs for loss in run.losses_in_range] or [0.0]
    steps = [report.step for run in runs for report in run.metrics.steps]
    steps += [step for run in runs for step, _ in run.metrics.validations]
    margin = 0.03 * ((max(losses) - min(losses)) or 1.0)
    return (0.0, float(max(steps) or 1)), (min(losses) - margin, max(losses) + margin)
