"""Pictures: written atomically, equal bytes for equal data, and showing the numbers they are of."""

import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from charnn.config import ModelConfig
from charnn.errors import CharnnError, SettingError
from charnn.insight.compare import Trial
from charnn.insight.curves import Curves
from charnn.insight.gradients import Reach
from charnn.insight.plot import (
    MAX_RUNS,
    check_picture,
    draw_curves,
    draw_reach,
    draw_trace,
    draw_trials,
    figure,
)
from charnn.insight.trace import Trace, trace
from charnn.model.cells import CELLS
from charnn.model.network import CharNetwork
from charnn.runs.metrics import Metrics
from charnn.training.reports import StepReport


def draw(path: Path, title: str = "steep") -> bytes:
    with figure(path, 2, 1) as fig:
        fig.subplots().plot([0, 1], [1, 0])
        fig.suptitle(title)
    return path.read_bytes()


@pytest.mark.parametrize("kind", ["png", "svg"])
def test_equal_pictures_have_equal_bytes(tmp_path: Path, kind: str) -> None:
    first, second = (draw(tmp_path / f"{n}.{kind}") for n in "ab")
    assert first == second
    assert first != draw(tmp_path / f"c.{kind}", "deep")


def test_a_png_is_gray_with_a_byte_per_pixel(tmp_path: Path) -> None:
    depth, color_type = draw(tmp_path / "a.png")[24:26]  # of its first chunk, IHDR
    assert (depth, color_type) == (8, 0)


def test_an_error_while_drawing_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), figure(tmp_path / "a.png", 2, 1):
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())


def test_a_picture_that_cannot_be_written_is_refused_in_advance(tmp_path: Path) -> None:
    existing = tmp_path / "existing.png"
    existing.touch()
    for path, message in (
        (tmp_path / "a.jpg", ".png or .svg"),
        (existing, "already exists.*`force=True`"),
        (tmp_path / "no" / "a.png", "no such folder"),
    ):
        with pytest.raises(CharnnError, match=message):
            check_picture(path)
    check_picture(existing, force=True)


def test_without_matplotlib_the_message_names_the_extra_and_the_alternative(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(CharnnError, match=r"charnn\[plot\].*; or on paper"):
        check_picture(tmp_path / "a.png", alternative="or on paper")


def traced(cell: str, T: int) -> Trace:
    torch.manual_seed(7)
    config = ModelConfig(7, hidden_size=6, num_layers=2, embedding_size=5, cell=cell)
    return trace(CharNetwork(config), torch.randint(7, (T,)).tolist(), [0])


def heat_maps(path: Path, one: Trace, labels: list[str], patch: pytest.MonkeyPatch) -> Any:
    """Draw layer 1 of a trace; return the figure that was saved."""
    from matplotlib.figure import Figure

    figures: list[Figure] = []
    save = Figure.savefig

    def save_and_keep(figure: Figure, *arguments: Any, **options: Any) -> None:
        figures.append(figure)
        save(figure, *arguments, **options)

    patch.setattr(Figure, "savefig", save_and_keep)
    draw_trace(path, one, 1, labels)
    return figures[0]


@pytest.mark.medium
@pytest.mark.parametrize(("cell", "T"), [("rnn", 40), ("gru", 5), ("lstm", 5), ("lstm", 40)])
def test_heat_maps_show_the_values_of_each_gate_and_state_with_units_in_one_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cell: str, T: int
) -> None:
    one = traced(cell, T)
    labels = list("steep␣hil$") * (T // 5)
    figure = heat_maps(tmp_path / "a.png", one, labels[:T], monkeypatch)
    panels = [panel for panel in figure.axes if panel.images]
    assert len(panels) == len(one.values)
    _, order = one.unit_order(1)
    for panel, (name, values) in zip(panels, one.values.items(), strict=True):
        shown = values[:, 1, order].t().numpy()
        np.testing.assert_allclose(
            panel.images[0].get_array(), np.tanh(shown) if name == "cell" else shown, rtol=1e-6
        )
        assert name in panel.get_title() + panel.get_title(loc="left")
        low = 0 if name in ("input", "forget", "output", "reset", "update") else -1
        assert panel.images[0].get_clim() == (low, 1)
    assert [text.get_text() for text in panels[-1].get_xticklabels()] == labels[:T]


@pytest.mark.medium
@pytest.mark.parametrize("cell", ["rnn", "lstm"])
def test_the_hidden_state_is_titled_memory_only_without_a_cell_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cell: str
) -> None:
    figure = heat_maps(tmp_path / "a.png", traced(cell, 5), list("steep"), monkeypatch)
    titles = [panel.get_title() for panel in figure.axes]
    (title,) = (title for title in titles if title.startswith("hidden"))
    assert ("memory" in title) == (cell != "lstm")


@pytest.mark.medium
def test_characters_that_the_font_lacks_are_drawn_without_a_warning(tmp_path: Path) -> None:
    for kind in ("png", "svg"):
        draw_trace(tmp_path / f"a.{kind}", traced("gru", 3), 0, ["語", "\\x80", "␛"])
        assert (tmp_path / f"a.{kind}").stat().st_size > 1000


def curve(name: str, *losses: float) -> Curves:
    steps = [StepReport(n, loss, 0.1, loss) for n, loss in enumerate(losses, 1)]
    return Curves(name, Metrics(steps, [(len(losses), losses[-1])], 0))


@pytest.mark.medium
@pytest.mark.parametrize("kind", ["png", "svg"])
def test_curves_have_both_units_and_names_are_not_interpreted(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"a.{kind}"
    odd = curve("_$x^$", 4.0, math.nan, math.inf, 2.0)
    draw_curves(path, [odd, curve("名", 3.0)])
    if kind == "svg":
        drawn = path.read_text()
        for word in ("nats/char", "bits/char", "learning rate", "gradient norm", "step", "_$x^$"):
            assert word in drawn


@pytest.mark.medium
def test_more_runs_than_can_look_different_are_refused(tmp_path: Path) -> None:
    draw_curves(tmp_path / "a.png", [curve(str(n), 2.0, 1.0) for n in range(MAX_RUNS)])
    with pytest.raises(SettingError, match=f"{MAX_RUNS} at most"):
        draw_curves(tmp_path / "b.png", [curve("a", 2.0)] * (MAX_RUNS + 1))


@pytest.mark.medium
def test_a_reach_is_drawn_with_median_quartiles_and_the_1_percent_line(tmp_path: Path) -> None:
    path = tmp_path / "a.svg"
    for medians in ([1.0, 0.1, 1e-300], [0.0, 0.0], [1.0]):
        draw_reach(path, Reach(np.array([medians] * 3), 3, 0, 1.0))
        for word in ("median", "quartiles", "1 %", "distance in characters"):
            assert word in path.read_text()


@pytest.mark.medium
def test_trials_are_drawn_with_a_line_for_each_cell_trained_and_untrained(tmp_path: Path) -> None:
    norms = np.array([0.9**k for k in range(30)])
    reach = Reach(np.stack([norms] * 3), 3, 0, 1.0)
    path = tmp_path / "a.svg"
    draw_trials(path, [Trial(cell, reach, reach, 3, 1.0) for cell in CELLS])
    for cell in CELLS:
        for name in ("trained", "untrained"):
            assert f"{cell.upper()}, {name}" in path.read_text()
