"""Learning curves: the losses, the learning rate and the gradient norm of runs, by step."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from charnn.errors import SettingError, TextError
from charnn.insight.chart import Chart, Points
from charnn.insight.plot import GRAYS, LINES, figure
from charnn.runs.folder import METRICS
from charnn.runs.metrics import Metrics, read_metrics

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SMOOTHING = 50  # of so many recorded steps, one on each side is averaged with
MARKERS = "osv^DPX*"  # of validations
NAMES = ("training (running mean)", "validation")
MOST_RUNS = len(LINES) * len(GRAYS)  # that look different
# The first steps fall from the logarithm of the vocabulary's size, and would take all the room.
FIRST_SHARE = 0.02


@dataclass(frozen=True)
class Curves:
    """What is drawn of a run."""

    name: str
    metrics: Metrics

    @property
    def training(self) -> Points:
        """Step and nats per character, each the mean of those around it: a window's loss jumps."""
        steps = self.metrics.steps
        around = len(steps) // SMOOTHING
        means = []
        for n, report in enumerate(steps):
            near = [r.loss for r in steps[max(0, n - around) : n + around + 1]]
            means.append((float(report.step), math.fsum(near) / len(near)))
        return means

    @property
    def shown(self) -> list[float]:
        """The losses that the axis must have room for; those of the first steps may leave it."""
        from_step = FIRST_SHARE * max((report.step for report in self.metrics.steps), default=0)
        late = [nats for step, nats in self.training if step >= from_step]
        return [y for y in (*late, *(n for _, n in self.metrics.validations)) if math.isfinite(y)]


def curves_of(folder: Path, name: str) -> Curves:
    """The curves of a run; `TextError` when nothing was recorded of it yet."""
    metrics = read_metrics(folder / METRICS)
    if not metrics.steps and not metrics.validations:
        raise TextError(
            f"{folder}: no step is recorded in {METRICS} yet; wait for the run, or name another"
        )
    return Curves(name, metrics)


def as_text(runs: Sequence[Curves]) -> list[str]:
    """A chart of each run's losses, all with the same axes: training as a line, validations as
    signs."""
    x, y = _ranges(runs)
    lines: list[str] = []
    for run in runs:
        chart = Chart(x, y)
        chart.line(run.training)
        chart.marks(run.metrics.validations)
        lines += [*([""] if lines else []), run.name, *chart.lines()]
    return lines


def _ranges(runs: Sequence[Curves]) -> tuple[tuple[float, float], tuple[float, float]]:
    """Steps from 0, and losses with a little room."""
    losses = [loss for run in runs for loss in run.shown] or [0.0]
    steps = [report.step for run in runs for report in run.metrics.steps]
    steps += [step for run in runs for step, _ in run.metrics.validations]
    room = 0.03 * ((max(losses) - min(losses)) or 1.0)
    return (0.0, float(max(steps) or 1)), (min(losses) - room, max(losses) + room)


def draw_curves(path: Path, runs: Sequence[Curves]) -> None:
    """A picture with a panel for the losses, one for the learning rate, one for the gradient
    norm. `SettingError` with more runs than can be told apart without colour.

    The losses of the first steps may leave the panel at its top, so that the later ones are seen.
    """
    from matplotlib.ticker import LogLocator

    if len(runs) > MOST_RUNS:
        raise SettingError(f"{len(runs)} runs cannot be told apart; {MOST_RUNS} at most")
    with figure(path, 7.0, 7.0) as drawn:
        losses, rates, norms = drawn.subplots(3, sharex=True, height_ratios=(3, 1, 1))
        handles = []
        for number, run in enumerate(runs):
            look: dict[str, Any] = {
                "color": GRAYS[(number + number // len(LINES)) % len(GRAYS)],
                "linestyle": LINES[number % len(LINES)],
                "linewidth": 1.2,
            }
            steps = run.metrics.steps
            x = [report.step for report in steps]
            handles += losses.plot(*_columns(run.training), **look)
            mark = {"marker": MARKERS[number % len(MARKERS)], "markersize": 4.5}
            handles += losses.plot(
                *_columns(run.metrics.validations), **look | mark | {"linewidth": 0.6},
                markerfacecolor="white",
            )  # fmt: skip
            rates.plot(x, [report.learning_rate for report in steps], **look)
            norms.plot(x, [_finite(report.gradient_norm) for report in steps],
                       **look | {"linewidth": 0.7})  # fmt: skip
        x_range, y_range = _ranges(runs)
        losses.set(ylabel="loss (nats/char)", ylim=y_range)
        losses.set_xlim(0, 1.01 * x_range[1])
        bits = losses.secondary_yaxis(
            "right", (lambda nats: nats / math.log(2), lambda bits: bits * math.log(2))
        )
        bits.set_ylabel("bits/char")
        rates.set(ylabel="learning rate", ylim=(0, None))
        norms.set(ylabel="gradient norm", xlabel="step", yscale="log")
        norms.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        norms.yaxis.set_major_formatter("{x:g}")
        norms.yaxis.set_minor_formatter("")
        _name(losses, handles, [f"{r.name}, {what}" for r in runs for what in NAMES])


def _name(axes: "Axes", handles: Sequence[Any], names: Sequence[str]) -> None:
    """A legend that takes names as they are: `$` and a leading `_` mean something to matplotlib."""
    legend = axes.legend(handles, [str(n) for n in range(len(names))], frameon=False)
    for text, name in zip(legend.get_texts(), names, strict=True):
        text.set_parse_math(False)
        text.set_text(name)


def _columns(points: Points) -> tuple[list[float], list[float]]:
    return [x for x, _ in points], [_finite(y) for _, y in points]


def _finite(value: float) -> float:
    """A number, or matplotlib's sign of a gap."""
    return value if math.isfinite(value) else math.nan
