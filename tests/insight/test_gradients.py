"""Gradient norms equal those of plain autograd, and behave as theory predicts."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from charnn.config import ModelConfig
from charnn.errors import CharnnError, TextError
from charnn.insight import gradients
from charnn.insight.gradients import Clipping, Reach, as_text, gradient_norms, measure_reach
from charnn.model.evaluate import evaluate
from charnn.model.network import CharNetwork, layer_weights
from charnn.model.weights import STATES
from charnn.runs.metrics import Metrics
from charnn.text.tokenizer import Indices
from charnn.training.reports import StepReport
from tests.conftest import TINY, charnn, words

EVERY = pytest.mark.parametrize("cell", STATES)
V = 7


def network(cell: str, H: int = 6, L: int = 2, dropout: float = 0.0) -> CharNetwork:
    torch.manual_seed(3)
    config = ModelConfig(V, hidden_size=H, num_layers=L, embedding_size=5, cell=cell)
    return CharNetwork(replace(config, dropout=dropout)).double()


def text(symbols: int) -> Indices:
    return np.random.default_rng(3).integers(V, size=symbols).astype(np.uint8)


def direct_norm(net: CharNetwork, row: Indices, distance: int, k: int) -> Tensor:
    """Return the gradient norm for one state k steps before the end, by torch's own layers."""
    both = torch.from_numpy(row.astype(np.int64))[:, None]
    inputs, target = both[:-1], both[-1]
    assert len(inputs) > distance
    with torch.no_grad():
        _, state = net(inputs[: len(inputs) - k], net.zero_state(1))
    state.requires_grad_()
    if k:
        logits, _ = net(inputs[len(inputs) - k :], state)
        last = logits[-1]
    else:
        last = net.head(state[0, :, -1])
    (gradient,) = torch.autograd.grad(F.cross_entropy(last, target), state)
    return gradient.norm()


@EVERY
@pytest.mark.parametrize("L", [1, 3])
def test_norms_equal_those_of_autograd_for_each_state_by_itself(cell: str, L: int) -> None:
    net, rows, distance = network(cell, L=L), text(4 * 14).reshape(4, 14), 9
    nats, norms = gradient_norms(net, rows, distance)
    assert norms.shape == (distance + 1, 4)
    for lane, row in enumerate(rows):
        for k in range(distance + 1):
            direct = direct_norm(net, row, distance, k)
            torch.testing.assert_close(norms[k, lane], direct, rtol=1e-9, atol=1e-15)
        whole = evaluate(net, row, "stream").nats - evaluate(net, row[:-1], "stream").nats
        assert nats[lane].item() == pytest.approx(whole, abs=1e-9)


@EVERY
def test_rows_one_by_one_equal_rows_together(cell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    net, indices = network(cell), text(300)
    together = measure_reach(net, indices, 9, 20)
    monkeypatch.setattr(gradients, "GRAPH_NUMBERS", 1)
    one_by_one = measure_reach(net, indices, 9, 20)
    np.testing.assert_allclose(one_by_one.quartiles, together.quartiles, rtol=1e-9)
    assert one_by_one.positions == together.positions == 20


@EVERY
def test_measuring_changes_neither_the_network_nor_the_random_state(cell: str) -> None:
    net = network(cell, dropout=0.5).train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    random = torch.get_rng_state()
    first = measure_reach(net, text(50), 5, 4)
    assert torch.equal(torch.get_rng_state(), random)
    assert net.training
    assert all(p.grad is None and p.requires_grad for p in net.parameters())
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    np.testing.assert_array_equal(measure_reach(net.eval(), text(50), 5, 4).quartiles,
                                  first.quartiles)  # fmt: skip


def set_recurrent(net: CharNetwork, change: Callable[[Tensor], object]) -> CharNetwork:
    with torch.no_grad():
        for layer in net.layers:
            change(layer_weights(layer)[1])
    return net


def test_an_rnn_with_small_recurrent_weights_forgets_and_with_large_ones_explodes() -> None:
    indices = text(200)
    faint = set_recurrent(network("rnn", L=1), lambda w: w.copy_(0.1 * torch.eye(6)))
    median = measure_reach(faint, indices, 20).relative[1]
    assert (median[1:] < 0.11 * median[:-1]).all()
    assert measure_reach(faint, indices, 20).falls_below() == 2
    wild = set_recurrent(network("rnn", L=1), lambda w: w.copy_(2.0 * torch.eye(6)))
    with torch.no_grad():  # where the tanh is a straight line
        wild.embedding.weight.mul_(1e-9)
        for b in layer_weights(wild.layers[0])[2:]:
            b.zero_()
    reach = measure_reach(wild, indices[:24], 20)
    np.testing.assert_allclose(reach.relative[1], 2.0 ** np.arange(21), rtol=0.05)
    assert reach.falls_below() is None


def test_an_lstm_with_open_forget_and_closed_input_gates_keeps_the_gradient() -> None:
    net = network("lstm", L=1)
    with torch.no_grad():
        w_ih, w_hh, b_ih, b_hh = layer_weights(net.layers[0])
        for weight in (w_ih, w_hh, b_hh):
            weight.zero_()
        for part, value in zip(b_ih.chunk(4), (-100.0, 100.0, 0.0, 0.0), strict=True):
            part.fill_(value)  # i, f, g, o
    median = measure_reach(net, text(300), 50).quartiles[1]
    np.testing.assert_allclose(median[1:], median[1], rtol=1e-6)
    with torch.no_grad():
        b_ih.chunk(4)[1].fill_(0.0)  # forget gates at 0.5
    median = measure_reach(net, text(300), 50).quartiles[1]
    np.testing.assert_allclose(median[2:] / median[1:-1], 0.5, rtol=1e-6)


def reach_of(*medians: float) -> Reach:
    return Reach(np.array([medians, medians, medians]), 3, 0, 1.0)


def test_the_distance_is_where_the_median_first_falls_below_the_share() -> None:
    assert reach_of(*(0.5**k for k in range(20))).falls_below() == 7
    assert reach_of(*(3 * 0.5**k for k in range(20))).falls_below() == 7
    assert reach_of(*(0.5**k for k in range(20))).falls_below(1e-4) == 14
    assert reach_of(*(0.5**k for k in range(7))).falls_below() is None
    assert reach_of(1.0, 0.01, 0.0099).falls_below() == 2
    assert reach_of(1.0, 0.001, 5.0).falls_below() == 1
    assert reach_of(0.0, 2.0, 1.0, 0.01).falls_below() == 3  # relative to the first that is not 0
    assert reach_of(0.0, 0.0).falls_below() == 0


def test_the_chart_is_drawn_for_any_curve() -> None:
    for medians in ((1.0, 0.1), (1.0, 0.0), (0.0, 0.0), (1.0, 1e200), (1.0, 1e-300)):
        assert len(as_text(reach_of(*medians))) == 14


def test_positions_are_spread_over_the_text_and_as_many_as_it_has() -> None:
    net = network("gru", L=1)
    assert measure_reach(net, text(7), 5, 10).positions == 1
    assert measure_reach(net, text(700), 5, 10).positions == 10
    assert measure_reach(net, text(16), 5, 100).positions == 6  # after a warm-up of 5
    with pytest.raises(TextError, match=r"6 characters, but a distance of 5 needs 7.*`distance=4`"):
        measure_reach(net, text(6), 5)
    for symbols in (0, 1, 2):
        with pytest.raises(TextError, match=r"needs 3; give a longer text$"):
            measure_reach(net, text(symbols), 1)


def test_positions_that_are_not_finite_are_counted_and_not_finite() -> None:
    net = network("rnn", L=1)
    indices = np.zeros(60, np.uint8)
    whole = measure_reach(net, indices, 5, 3)
    indices[-2] = 1  # which only the last position reads
    with torch.no_grad():
        net.embedding.weight[1] = math.nan
    some = measure_reach(net, indices, 5, 3)
    assert (some.positions, some.not_finite) == (2, 1)
    np.testing.assert_allclose(some.quartiles, whole.quartiles, rtol=1e-2)
    with torch.no_grad():
        net.embedding.weight.fill_(math.nan)
    with pytest.raises(CharnnError, match="no gradient"):
        measure_reach(net, indices, 5, 3)


def test_clipping_is_computed_from_the_finite_norms_above_the_limit() -> None:
    norms = [0.5, 2.0, 1.0, 4.0, 9.0, math.inf]
    metrics = Metrics([StepReport(n, 1.0, 0.1, norm) for n, norm in enumerate(norms)], [], 0)
    assert Clipping.from_metrics(metrics, 1.0) == Clipping(1.0, 5, 3, 4.0, 9.0)
    assert Clipping.from_metrics(metrics, 10.0) == Clipping(10.0, 5, 0, None, None)


def test_the_command_prints_distance_chart_and_clipping(run_folder: Path) -> None:
    result = charnn("gradients", run_folder, "--distance", "20")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith("distance to 1 %: ")
    assert "│" in result.stdout
    assert "of 4 recorded steps" in result.stdout
    assert "after 8 characters" in result.stderr
    assert charnn("gradients", run_folder, "--distance", "20", "--quiet").stderr == ""


def test_json_holds_every_distance(run_folder: Path, text_file: Path) -> None:
    result = charnn("gradients", run_folder, "--distance", "20", "--positions", "9", "--json")
    found: dict[str, Any] = json.loads(result.stdout)
    assert found["distance"] == 20
    assert found["positions"] == 9
    assert found["clipping"]["steps"] == 4
    for low, middle, high in zip(
        *(found[name] for name in ("lower_quartile", "median", "upper_quartile")), strict=True
    ):
        assert 0 <= low <= middle <= high
    own = charnn("gradients", run_folder, text_file, "--distance", "20", "--positions", "9",
                 "--json")  # fmt: skip
    assert json.loads(own.stdout) == found  # the validation part of the same corpus


def test_input_that_cannot_be_measured_is_an_error_in_one_line(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("short.txt").write_text("ainst")
    Path("strange.txt").write_text("ainst É ainst")
    for arguments, code, message in (
        ([run_folder], 1, "the text has 200 characters, but a distance of 200 needs 202"),
        ([run_folder, "short.txt", "--distance", "5"], 1, "needs 7"),
        ([run_folder, "strange.txt", "--distance", "5"], 1, "--skip-unknown"),
        (["missing.safetensors"], 1, "missing.safetensors"),
        ([], 1, "./checkpoints is empty"),
        ([run_folder, "--plot", "a.jpg"], 1, ".png or .svg"),
        ([run_folder, "--minutes", "1"], 2, "--compare"),
        ([run_folder, "--force"], 2, "--plot"),
        ([run_folder, "--distance", "0"], 2, "--distance"),
        (["--compare", run_folder, "short.txt"], 2, "--compare takes"),
        (["--compare", "missing.txt"], 1, "missing.txt"),
        (["--compare", "--skip-unknown"], 2, "--skip-unknown"),
    ):
        result = charnn("gradients", *arguments)
        assert result.exit_code == code, (arguments, result.output)
        assert message in result.stderr
        errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
        assert len(errors) == 1
    found = charnn(
        "gradients", run_folder, "strange.txt", "--distance", "5", "--skip-unknown", "--plot",
        "a.svg",
    )  # fmt: skip
    assert found.exit_code == 0 or "matplotlib" in found.stderr


def test_records_are_refused(tmp_path: Path) -> None:
    lines = tmp_path / "names.txt"
    lines.write_text(words(600))
    assert charnn("train", lines, "--lines", "--steps", "1", *TINY, "--out", tmp_path / "r", "-q"
                  ).exit_code == 0  # fmt: skip
    result = charnn("gradients", tmp_path / "r", "--distance", "3")
    assert result.exit_code == 1
    assert "running text" in result.stderr


def test_the_command_draws_a_picture(run_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "reach.svg"
    assert charnn("gradients", run_folder, "--distance", "9", "--plot", path).exit_code == 0
    for word in ("median", "quartiles", "1 %", "distance in characters"):
        assert word in path.read_text()
    again = charnn("gradients", run_folder, "--distance", "9", "--plot", path)
    assert again.exit_code == 1
    assert "--force" in again.stderr
