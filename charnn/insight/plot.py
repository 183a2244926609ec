"""Pictures as PNG or SVG files: heat maps, learning curves, gradient curves.

The only module that imports matplotlib. All pictures are gray, so that they can be read in print,
and equal data give equal bytes.
"""

import contextlib
import io
import math
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from charnn.errors import CharnnError, SettingError
from charnn.files import explained, is_dangling, replacing
from charnn.insight.curves import Curves, axis_ranges

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from charnn.insight.chart import Points
    from charnn.insight.compare import Trial
    from charnn.insight.gradients import Reach
    from charnn.insight.trace import Trace

# Shapes: T characters, L layers, H hidden.

SUFFIXES = (".png", ".svg")
RC_PARAMS: Any = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.hashsalt": "charnn",  # without it the ids inside an SVG differ from run to run
    "svg.fonttype": "none",
}
LINE_STYLES = ("-", "--", ":", "-.")  # tell curves apart without colour
GRAYS = ("#000000", "#4d4d4d", "#808080", "#a6a6a6")
MARKERS = "osv^DPX*"
MAX_RUNS = len(LINE_STYLES) * len(GRAYS)  # combinations that look different


def check_picture(path: Path, force: bool = False, alternative: str = "") -> None:
    """Raise a `CharnnError` if no picture can be written to `path`.

    Call it before a long computation. `alternative` is added to the message when matplotlib is
    missing.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise SettingError(f"{path}: a picture's name must end in {' or '.join(SUFFIXES)}")
    if is_dangling(path):
        raise CharnnError(f"{path}: a link to a missing file, which is not replaced; remove it")
    if path.exists() and not force:
        raise CharnnError(f"{path} already exists; choose another name or give `force=True`")
    if not path.parent.is_dir():
        raise CharnnError(f"{path.parent}: no such folder; create it first")
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise CharnnError(
            "pictures need matplotlib: pip install 'charnn[plot]' (from a checkout: pip install "
            "-c constraints.txt -e '.[plot]')" + (alternative and f"; {alternative}")
        ) from error


@contextlib.contextmanager
def figure(path: Path, width: float, height: float) -> Iterator["Figure"]:
    """Yield an empty figure of this size in inches, and write it to `path` when the block ends.

    The file is replaced atomically. If the block raises, nothing is written.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(RC_PARAMS):
        fig = Figure((width, height), layout="constrained")
        yield fig
        kind, data = path.suffix.lower()[1:], io.BytesIO()
        metadata = {"Date": None} if kind == "svg" else None
        with warnings.catch_warnings():  # the font draws a box for a character that it lacks
            warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
            fig.savefig(data, format=kind, dpi=150, metadata=metadata)
        if kind == "png":
            data = _grayscale(data)
    with (
        explained(f"writing {path}", "check its folder and the free space"),
        replacing(path) as file,
    ):
        file.write(data.getvalue())


def _grayscale(png: io.BytesIO) -> io.BytesIO:
    """Return the same picture with 1 byte per pixel instead of 4."""
    from PIL import Image  # a dependency of matplotlib

    smaller = io.BytesIO()
    with Image.open(png) as image:
        image.convert("L").save(smaller, format="png", optimize=True, dpi=(150, 150))
    return smaller


# Heat maps of gates and states

SHORT_TEXT = 16  # up to so many characters, panels stand side by side; above, they are stacked
INCHES_PER_CHARACTER = 0.12  # at least, in stacked panels, so that labels stay readable
GATES = ("input", "forget", "output", "reset", "update")  # between 0 and 1; the rest is signed
TITLES = {
    "input": "input gate\n1 = write the candidate",
    "forget": "forget gate\n1 = keep the cell state",
    "candidate": "candidate\nvalue to be written",
    "output": "output gate\n1 = output the cell state",
    "reset": "reset gate\n1 = use the hidden state",
    "update": "update gate\n1 = keep the hidden state",
    "cell": "cell state (tanh)\nmemory of the layer",
    "hidden": "hidden state\noutput of the layer",
}
TITLE_WITHOUT_CELL_STATE = "hidden state\nmemory and output"  # RNN and GRU


def draw_trace(path: Path, trace: "Trace", layer: int, labels: Sequence[str]) -> None:
    """Draw the gates and states of one layer as heat maps: characters across, units down.

    All panels have their units in the order of `Trace.unit_order`. Black is 1; white is 0 for
    gates and -1 for all else. `labels` name the T characters.
    """
    sorted_by, order = trace.unit_order(layer)
    names, T = list(trace.values), len(labels)
    side_by_side = T <= SHORT_TEXT
    if side_by_side:
        width, height, grid = 1.1 + len(names) * max(1.55, 0.2 * T), 5.0, (1, len(names))
    else:
        width, height = max(8.0, 1.8 + INCHES_PER_CHARACTER * T), 1.5 * len(names)
        grid = (len(names), 1)
    with figure(path, width, height) as fig:
        panels = fig.subplots(*grid, sharex=True, sharey=True, squeeze=False).flatten()
        for panel, name in zip(panels, names, strict=True):
            values = trace.values[name][:, layer, order].t()  # [H, T]
            low = 0.0 if name in GATES else -1.0
            image = panel.imshow(
                (values.tanh() if name == "cell" else values).numpy(),
                cmap="gray_r", vmin=low, vmax=1.0, aspect="auto", interpolation="nearest",
            )  # fmt: skip
            title = TITLE_WITHOUT_CELL_STATE if name == trace.state == "hidden" else TITLES[name]
            if side_by_side:
                panel.set_title(title, fontsize=8)
            else:
                panel.set_title(title.replace("\n", ": "), fontsize=8, loc="left")
            _label_characters(panel, labels)
            bar = fig.colorbar(
                image, ax=panel, ticks=[low, (low + 1) / 2, 1],
                location="bottom" if side_by_side else "right", pad=0.02, format="%g",
            )  # fmt: skip
            bar.outline.set_linewidth(0.5)
        key = "hidden state" if sorted_by == "hidden" else f"{sorted_by} gate"
        fig.supylabel(f"units of layer {layer}, sorted by mean {key}", fontsize=9)


def _label_characters(panel: "Axes", labels: Sequence[str]) -> None:
    """Label the x axis with the characters. Units are sorted, so the y axis needs no numbers."""
    panel.set_xticks(range(len(labels)), labels, family="monospace")
    panel.tick_params(length=0)
    panel.set_yticks([])
    for spine in panel.spines.values():
        spine.set_visible(True)
        spine.set_linewidth(0.5)


# Learning curves


def draw_curves(path: Path, runs: Sequence[Curves]) -> None:
    """Draw the loss, the learning rate and the gradient norm of runs by step, one panel each.

    The losses of the first steps may lie above the panel, so that the later ones can be read.
    Raise `SettingError` for more than `MAX_RUNS` runs.
    """
    from matplotlib.ticker import LogLocator

    if len(runs) > MAX_RUNS:
        raise SettingError(f"{len(runs)} runs cannot be told apart; give {MAX_RUNS} at most")
    with figure(path, 7.0, 7.0) as fig:
        losses, rates, norms = fig.subplots(3, sharex=True, height_ratios=(3, 1, 1))
        lines: list[Any] = []
        names = []
        for number, run in enumerate(runs):
            lines += _plot_run(run, number, losses, rates, norms)
            names += [f"{run.name}, training (running mean)", f"{run.name}, validation"]
        x_range, y_range = axis_ranges(runs)
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
        _add_legend(losses, lines, names)


def _plot_run(
    run: Curves, number: int, losses: "Axes", rates: "Axes", norms: "Axes"
) -> Sequence[Any]:
    """Plot one run into the three panels; return the lines of its training and validation loss."""
    look: dict[str, Any] = {
        "color": GRAYS[(number + number // len(LINE_STYLES)) % len(GRAYS)],
        "linestyle": LINE_STYLES[number % len(LINE_STYLES)],
        "linewidth": 1.2,
    }
    steps = run.metrics.steps
    x = [report.step for report in steps]
    marker = {"marker": MARKERS[number % len(MARKERS)], "markersize": 4.5}
    training = losses.plot(*_columns(run.training), **look)
    validation = losses.plot(
        *_columns(run.metrics.validations), **look | marker | {"linewidth": 0.6},
        markerfacecolor="white",
    )  # fmt: skip
    rates.plot(x, [report.learning_rate for report in steps], **look)
    norms.plot(x, [_finite(report.gradient_norm) for report in steps], **look | {"linewidth": 0.7})
    return [*training, *validation]


def _add_legend(axes: "Axes", lines: Sequence[Any], names: Sequence[str]) -> None:
    """Add a legend with exactly these names: matplotlib would interpret `$` and a leading `_`."""
    legend = axes.legend(lines, [str(n) for n in range(len(names))], frameon=False)
    for text, name in zip(legend.get_texts(), names, strict=True):
        text.set_parse_math(False)
        text.set_text(name)


def _columns(points: "Points") -> tuple[list[float], list[float]]:
    return [x for x, _ in points], [_finite(y) for _, y in points]


def _finite(value: float) -> float:
    """Return a finite value, or NaN, which matplotlib draws as a gap."""
    return value if math.isfinite(value) else math.nan


# Gradient curves

CELL_STYLES = {"rnn": ("#808080", "o"), "gru": ("#4d4d4d", "s"), "lstm": ("#000000", "^")}


def draw_reach(path: Path, reach: "Reach") -> None:
    """Draw the relative gradient norm by distance: its median, and the quartiles as a band."""
    lower, median, upper = reach.relative
    k = range(len(median))
    with figure(path, 5.0, 3.2) as fig:
        axes = fig.subplots()
        axes.fill_between(k, lower, upper, color="#d0d0d0", linewidth=0, label="quartiles")
        axes.plot(k, median, color="black", linewidth=1.4, label="median")
        _finish_reach(axes, upper, median)


def draw_trials(path: Path, trials: Sequence["Trial"]) -> None:
    """Draw the median gradient norm of each cell: solid when trained, dashed when untrained."""
    with figure(path, 6.5, 4.2) as fig:
        axes = fig.subplots()
        medians = []
        for number, trial in enumerate(trials):
            color, marker = CELL_STYLES[trial.cell]
            for name, reach, line in (
                ("trained", trial.trained, "-"), ("untrained", trial.untrained, "--")
            ):  # fmt: skip
                median = reach.relative[1]
                medians.append(median)
                every = max(1, len(median) // 20)
                axes.plot(
                    range(len(median)), median, line, color=color, linewidth=1.3,
                    marker=marker, markersize=5, markerfacecolor="white" if line == "--" else color,
                    markevery=(number * every // len(trials), every),
                    label=f"{trial.cell.upper()}, {name}",
                )  # fmt: skip
        _finish_reach(axes, *medians)


def _finish_reach(axes: "Axes", *curves: Any) -> None:
    """Add the 1 % line, labels, limits and a legend to a panel of relative gradient norms."""
    from charnn.insight.gradients import FADED, SMALLEST_DRAWN

    axes.axhline(FADED, color="black", linewidth=0.8, linestyle=":", label="1 %")
    axes.set(
        xlabel="distance in characters", ylabel="gradient norm relative to distance 0", yscale="log"
    )
    axes.set_xlim(0, max(1, len(curves[0]) - 1))
    shares = [1.0, FADED, *(float(s) for curve in curves for s in curve if s >= SMALLEST_DRAWN)]
    axes.set_ylim(0.7 * min(shares), 1.5 * max(shares))
    axes.legend(edgecolor="none", framealpha=1)  # opaque, or the 1 % line would cross out a name
