"""What a trace tells is what the network computes."""

import pytest
import torch

from charnn.config import ModelConfig
from charnn.insight.trace import trace
from charnn.model.cells import CELLS
from charnn.model.network import CharNetwork, predicting

EVERY = pytest.mark.parametrize("cell", CELLS)
START, SYMBOLS = [3], [1, 6, 0, 0, 2, 5]


def tiny(cell: str) -> CharNetwork:
    torch.manual_seed(4)
    config = ModelConfig(7, hidden_size=6, num_layers=2, embedding_size=5, cell=cell)
    return CharNetwork(config).double()


@EVERY
def test_logits_and_states_are_the_networks(cell: str) -> None:
    network = tiny(cell)
    traced = trace(network, SYMBOLS, START)
    with predicting(network):
        logits, state = network(torch.tensor([START]), network.zero_state(1))
        torch.testing.assert_close(traced.before, state[-1, 0])
        for place, symbol in enumerate(SYMBOLS):
            logits, state = network(torch.tensor([[symbol]]), state)
            torch.testing.assert_close(traced.logits[place], logits[0, 0])
            for name, part in zip(CELLS[cell].state, state[:, 0], strict=True):
                torch.testing.assert_close(traced.values[name][place], part)
            moved = traced.values[traced.memory][place] - traced.before
            torch.testing.assert_close(traced.moves[: place + 1].sum(0), moved)


@EVERY
def test_every_gate_and_state_is_told_for_every_place_layer_and_unit(cell: str) -> None:
    traced = trace(tiny(cell), SYMBOLS, START)
    kind = CELLS[cell]
    assert traced.gates == (() if cell == "rnn" else kind.gates)
    assert list(traced.values) == [*traced.gates, *reversed(kind.state)]
    assert {value.shape for value in traced.values.values()} == {(6, 2, 6)}
    torch.testing.assert_close(traced.probabilities.sum(-1), torch.ones(6).double())


def test_the_gates_make_the_states() -> None:
    lstm = trace(tiny("lstm"), SYMBOLS, START)
    i, f, g, o, c, h = lstm.values.values()
    torch.testing.assert_close(c[1:], f[1:] * c[:-1] + i[1:] * g[1:])
    torch.testing.assert_close(h, o * c.tanh())
    gru = trace(tiny("gru"), SYMBOLS, START)
    _, z, n, h = gru.values.values()
    torch.testing.assert_close(h[1:], (1 - z[1:]) * n[1:] + z[1:] * h[:-1])


@pytest.mark.parametrize(("cell", "by"), [("lstm", "forget"), ("gru", "update"), ("rnn", "hidden")])
def test_units_are_ordered_by_what_keeps(cell: str, by: str) -> None:
    traced = trace(tiny(cell), SYMBOLS, START)
    name, order = traced.order(1)
    assert name == by
    assert sorted(order.tolist()) == list(range(6))
    means = traced.values[by][:, 1].mean(0)[order]
    assert (means.diff() <= 0).all()
