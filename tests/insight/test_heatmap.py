"""The heat maps: a panel for each gate and state, whose rows are units in one order."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from charnn.config import ModelConfig
from charnn.insight.heatmap import draw
from charnn.insight.trace import Trace, trace
from charnn.model.cells import CELLS
from charnn.model.network import CharNetwork


def traced(cell: str, T: int) -> Trace:
    torch.manual_seed(7)
    config = ModelConfig(7, hidden_size=6, num_layers=2, embedding_size=5, cell=cell)
    return trace(CharNetwork(config), torch.randint(7, (T,)).tolist(), [0])


def drawn(path: Path, one: Trace, labels: list[str], patch: pytest.MonkeyPatch) -> Any:
    """The figure that was saved."""
    from matplotlib.figure import Figure

    figures: list[Figure] = []
    save = Figure.savefig

    def keep(figure: Figure, *arguments: Any, **options: Any) -> None:
        figures.append(figure)
        save(figure, *arguments, **options)

    patch.setattr(Figure, "savefig", keep)
    draw(path, one, 1, labels)
    return figures[0]


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("T", [5, 40])
def test_panels_hold_the_values_units_in_the_order_of_what_keeps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cell: str, T: int
) -> None:
    one = traced(cell, T)
    labels = list("steep␣hil$") * (T // 5)
    figure = drawn(tmp_path / "a.png", one, labels[:T], monkeypatch)
    panels = [panel for panel in figure.axes if panel.images]
    assert len(panels) == len(one.values)
    _, order = one.order(1)
    for panel, (name, values) in zip(panels, one.values.items(), strict=True):
        shown = values[:, 1, order].t().numpy()
        np.testing.assert_allclose(
            panel.images[0].get_array(), np.tanh(shown) if name == "cell" else shown, rtol=1e-6
        )
        assert name in panel.get_title() + panel.get_title(loc="left")
        low = 0 if name in ("input", "forget", "output", "reset", "update") else -1
        assert panel.images[0].get_clim() == (low, 1)
    assert [text.get_text() for text in panels[-1].get_xticklabels()] == labels[:T]


@pytest.mark.parametrize("cell", CELLS)
def test_only_where_there_is_a_cell_state_the_hidden_one_does_not_remember(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cell: str
) -> None:
    figure = drawn(tmp_path / "a.png", traced(cell, 5), list("steep"), monkeypatch)
    titles = [panel.get_title() for panel in figure.axes]
    (title,) = (title for title in titles if title.startswith("hidden"))
    assert ("remembered" in title) == (cell != "lstm")


def test_a_character_that_the_font_lacks_is_drawn_without_a_word(tmp_path: Path) -> None:
    for kind in ("png", "svg"):
        draw(tmp_path / f"a.{kind}", traced("gru", 3), 0, ["語", "\\x80", "␛"])
        assert (tmp_path / f"a.{kind}").stat().st_size > 1000
