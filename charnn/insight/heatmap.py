"""Ink: a layer's gates and states over the characters of a text, as heat maps."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from charnn.insight.plot import figure
from charnn.insight.trace import Trace

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Shapes: T characters, L layers, H hidden.

SHORT = 16  # characters of a text whose panels stand side by side; those of others are stacked
INCHES = 0.12  # of a stacked panel that a character has at least, so that it can be read
SHARES = ("input", "forget", "output", "reset", "update")  # from 0 to 1; all else has a sign
MEANINGS = {
    "input": "input gate\n1 writes the candidate",
    "forget": "forget gate\n1 keeps the cell state",
    "candidate": "candidate\nwhat could be written",
    "output": "output gate\n1 shows the cell state",
    "reset": "reset gate\n1 hears the past",
    "update": "update gate\n1 keeps the hidden state",
    "cell": "cell state\nwhat is remembered (tanh)",
    "hidden": "hidden state\nwhat is shown",
}
BOTH = "hidden state\nremembered and shown"  # of a cell that has no other state


def draw(path: Path, traced: Trace, layer: int, labels: Sequence[str]) -> None:
    """One panel for each gate and state of a layer: characters across, units down, all of them in
    one order. Black is 1, white 0, or -1 of what has a sign. Ask `check_picture` first."""
    by, order = traced.order(layer)
    names, T = list(traced.values), len(labels)
    short = T <= SHORT
    if short:
        width, height, grid = 1.1 + len(names) * max(1.55, 0.2 * T), 5.0, (1, len(names))
    else:
        width, height, grid = max(8.0, 1.8 + INCHES * T), 1.5 * len(names), (len(names), 1)
    with warnings.catch_warnings(), figure(path, width, height) as drawn:
        warnings.filterwarnings("ignore", "Glyph")  # of characters that the font draws as a box
        panels = drawn.subplots(*grid, sharex=True, sharey=True, squeeze=False).flatten()
        for panel, name in zip(panels, names, strict=True):
            values = traced.values[name][:, layer, order].t()
            low = 0.0 if name in SHARES else -1.0
            image = panel.imshow(
                (values.tanh() if name == "cell" else values).numpy(),
                cmap="gray_r", vmin=low, vmax=1.0, aspect="auto", interpolation="nearest",
            )  # fmt: skip
            title = BOTH if name == traced.memory == "hidden" else MEANINGS[name]
            if short:
                panel.set_title(title, fontsize=8)
            else:
                panel.set_title(title.replace("\n", ": "), fontsize=8, loc="left")
            _label(panel, labels)
            bar = drawn.colorbar(
                image, ax=panel, ticks=[low, (low + 1) / 2, 1],
                location="bottom" if short else "right", pad=0.02, format="%g",
            )  # fmt: skip
            bar.outline.set_linewidth(0.5)
        what = "hidden state" if by == "hidden" else f"{by} gate"
        drawn.supylabel(f"units of layer {layer}, the highest mean {what} first", fontsize=9)


def _label(panel: "Axes", labels: Sequence[str]) -> None:
    """The characters below, and no other ticks: a unit's number says nothing once sorted."""
    panel.set_xticks(range(len(labels)), labels, family="monospace")
    panel.tick_params(length=0)
    panel.set_yticks([])
    for spine in panel.spines.values():
        spine.set_visible(True)
        spine.set_linewidth(0.5)
