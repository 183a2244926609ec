"""A window of a GRU or a plain RNN equals torch's own layer, in values and in gradients."""

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from charnn.config import ModelConfig
from charnn.model import network as network_module
from charnn.model.network import CharNetwork, layer_weights, predicting
from charnn.model.window_cells import GRUWindow, RNNWindow

KINDS = pytest.mark.parametrize(
    ("kind", "window"), [(nn.GRU, GRUWindow), (nn.RNN, RNNWindow)], ids=["gru", "rnn"]
)
CELLS = pytest.mark.parametrize("cell", ["gru", "rnn"])
E, H = 5, 6
CONFIG = ModelConfig(vocabulary_size=4, hidden_size=H, num_layers=3, embedding_size=E)
CONFIGS = {
    "table": CONFIG,
    "lookup": replace(CONFIG, vocabulary_size=7),
    "dropout": replace(CONFIG, dropout=0.5),
}


def close(met: Any, expected: Any) -> None:
    torch.testing.assert_close(met, expected, atol=1e-12, rtol=1e-12)


def seen(network: CharNetwork, indices: Tensor, state: Tensor) -> list[Tensor]:
    """Return logits, the new state, and the gradients of all weights and of the state."""
    torch.manual_seed(1)  # of the dropout
    logits, after = network(indices, state)
    loss = logits.square().sum() + after.pow(3).sum()
    return [logits, after, *torch.autograd.grad(loss, [state, *network.parameters()])]


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the cells that have been run over a window."""
    names: list[str] = []
    run = network_module._run_window

    def recorded(layer: nn.Module, *rest: Any) -> Any:
        names.append(type(layer).__name__)
        return run(layer, *rest)

    monkeypatch.setattr(network_module, "_run_window", recorded)
    return names


@KINDS
@pytest.mark.parametrize(("T", "B"), [(1, 1), (1, 3), (2, 1), (9, 4)])
def test_values_and_all_gradients_equal_torchs(kind: Any, window: Any, T: int, B: int) -> None:
    torch.manual_seed(T)
    module = kind(E, H).double()
    inputs = torch.randn(T, B, E, dtype=torch.float64, requires_grad=True)
    state = torch.randn(B, H, dtype=torch.float64, requires_grad=True)
    w_ih, w_hh, b_ih, b_hh = layer_weights(module)
    ours = window.apply(F.linear(inputs, w_ih, b_ih), state, w_hh, b_hh)
    theirs, _ = module(inputs, state[None])
    close(ours, theirs)
    arguments, d_outputs = (inputs, state, *module.parameters()), torch.randn_like(ours)
    close(
        torch.autograd.grad(ours, arguments, d_outputs),
        torch.autograd.grad(theirs, arguments, d_outputs),
    )


@KINDS
def test_gradients_equal_differences(kind: Any, window: Any) -> None:
    torch.manual_seed(0)
    w_ih, w_hh, _, b_hh = (weight.detach() for weight in layer_weights(kind(E, H).double()))
    x, h = torch.randn(4, 2, len(w_ih), dtype=torch.float64), torch.randn(2, H).double()
    arguments = [part.clone().requires_grad_() for part in (x, h, w_hh, b_hh)]
    assert torch.autograd.gradcheck(window.apply, arguments)


@KINDS
def test_a_second_derivative_is_refused(kind: Any, window: Any) -> None:
    weights = layer_weights(kind(E, H))
    x = torch.randn(3, 2, len(weights[1]), requires_grad=True)
    outputs = window.apply(x, torch.zeros(2, H), weights[1], weights[3])
    (d_x,) = torch.autograd.grad(outputs.square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        d_x.sum().backward()


@CELLS
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_a_network_trains_as_with_torchs_layers(
    config: ModelConfig, cell: str, windows: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(3)
    network = CharNetwork(replace(config, cell=cell)).double()
    indices = torch.randint(config.vocabulary_size, (9, 4))
    state = torch.randn_like(network.zero_state(4)).requires_grad_()
    ours = seen(network, indices, state)
    assert windows == [cell.upper()] * 3
    monkeypatch.setattr(network_module, "_WINDOWS", {})
    theirs = seen(network, indices, state)
    assert len(windows) == 3
    close(ours, theirs)


@CELLS
def test_gradients_pass_through_the_state_between_two_windows(cell: str) -> None:
    torch.manual_seed(3)
    network = CharNetwork(replace(CONFIG, cell=cell)).double()
    indices, state = torch.randint(4, (9, 3)), network.zero_state(3)
    whole, end = network(indices, state)
    first, middle = network(indices[:4], state)
    second, last = network(indices[4:], middle)
    close((torch.cat((first, second)), last), (whole, end))
    parameters = list(network.parameters())
    close(
        torch.autograd.grad(second.square().sum(), parameters),
        torch.autograd.grad(whole[4:].square().sum(), parameters),
    )


@CELLS
def test_torchs_layers_run_without_gradients_and_in_bfloat16(cell: str, windows: list[str]) -> None:
    network = CharNetwork(replace(CONFIG, cell=cell))
    indices, state = torch.randint(4, (5, 2)), network.zero_state(2)
    with predicting(network):
        network(indices, state)
    with torch.autocast("cpu", torch.bfloat16):
        logits, _ = network(indices, state)
    logits.float().square().sum().backward()
    assert windows == []
    gradients = [parameter.grad for parameter in network.parameters()]
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)


def test_an_lstm_runs_as_torchs_operator(windows: list[str]) -> None:
    network = CharNetwork(CONFIG)
    network(torch.randint(4, (5, 2)), network.zero_state(2))
    assert windows == []
