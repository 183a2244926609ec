"""A trace holds what the network computes."""

import pytest
import torch

from charnn.config import ModelConfig
from charnn.errors import TextError
from charnn.insight.trace import trace, trace_text
from charnn.model.cells import CELLS
from charnn.model.network import CharNetwork, predicting
from charnn.text.tokenizer import ByteTokenizer, CharTokenizer

EVERY = pytest.mark.parametrize("cell", CELLS)
PRIME, SYMBOLS = [3], [1, 6, 0, 0, 2, 5]


def tiny(cell: str) -> CharNetwork:
    torch.manual_seed(4)
    config = ModelConfig(7, hidden_size=6, num_layers=2, embedding_size=5, cell=cell)
    return CharNetwork(config).double()


@EVERY
def test_logits_and_states_equal_those_of_the_network(cell: str) -> None:
    network = tiny(cell)
    traced = trace(network, SYMBOLS, PRIME)
    with predicting(network):
        logits, state = network(torch.tensor([PRIME]), network.zero_state(1))
        torch.testing.assert_close(traced.initial_state, state[-1, 0])
        for step, symbol in enumerate(SYMBOLS):
            logits, state = network(torch.tensor([[symbol]]), state)
            torch.testing.assert_close(traced.logits[step], logits[0, 0])
            for name, part in zip(CELLS[cell].state, state[:, 0], strict=True):
                torch.testing.assert_close(traced.values[name][step], part)
            change = traced.values[traced.state][step] - traced.initial_state
            torch.testing.assert_close(traced.changes[: step + 1].sum(0), change)


@EVERY
def test_a_trace_has_every_gate_and_state_for_every_step_layer_and_unit(cell: str) -> None:
    traced = trace(tiny(cell), SYMBOLS, PRIME)
    kind = CELLS[cell]
    assert traced.gates == (() if cell == "rnn" else kind.gates)
    assert list(traced.values) == [*traced.gates, *reversed(kind.state)]
    assert {value.shape for value in traced.values.values()} == {(6, 2, 6)}
    torch.testing.assert_close(traced.probabilities.sum(-1), torch.ones(6).double())


def test_states_follow_from_the_gates() -> None:
    lstm = trace(tiny("lstm"), SYMBOLS, PRIME)
    i, f, g, o, c, h = lstm.values.values()
    torch.testing.assert_close(c[1:], f[1:] * c[:-1] + i[1:] * g[1:])
    torch.testing.assert_close(h, o * c.tanh())
    gru = trace(tiny("gru"), SYMBOLS, PRIME)
    _, z, n, h = gru.values.values()
    torch.testing.assert_close(h[1:], (1 - z[1:]) * n[1:] + z[1:] * h[:-1])


@pytest.mark.parametrize(("cell", "by"), [("lstm", "forget"), ("gru", "update"), ("rnn", "hidden")])
def test_units_are_sorted_by_the_gate_that_keeps_the_state(cell: str, by: str) -> None:
    traced = trace(tiny(cell), SYMBOLS, PRIME)
    name, order = traced.unit_order(1)
    assert name == by
    assert sorted(order.tolist()) == list(range(6))
    means = traced.values[by][:, 1].mean(0)[order]
    assert (means.diff() <= 0).all()


def test_the_likeliest_symbols_come_first_with_their_probabilities() -> None:
    traced = trace(tiny("gru"), SYMBOLS, PRIME)
    top = traced.top_next(2, 99)
    assert [symbol for _, symbol in top] == traced.logits[2].argsort(descending=True).tolist()
    assert sum(probability for probability, _ in top) == pytest.approx(1)
    assert traced.top_next(2, 3) == top[:3]


def test_a_text_is_read_as_the_beginning_of_a_line() -> None:
    network, tokenizer = tiny("lstm"), CharTokenizer("\naeinst")
    traced = trace_text(network, tokenizer, "nist")
    expected = trace(network, tokenizer.encode("nist").tolist(), [0])
    assert traced.symbols == expected.symbols
    assert torch.equal(traced.logits, expected.logits)
    with pytest.raises(TextError, match="empty"):
        trace_text(network, tokenizer, "")
    with pytest.raises(TextError, match="one line"):
        trace_text(network, tokenizer, "n\nt", records=True)


def test_a_unit_has_a_value_for_each_character_after_its_last_byte() -> None:
    torch.manual_seed(4)
    network = CharNetwork(ModelConfig(256, hidden_size=6, num_layers=2, embedding_size=5))
    traced = trace_text(network, ByteTokenizer(), "né")
    unit = traced.unit(ByteTokenizer(), 1, 3)
    assert (unit.text, unit.state) == ("né", "cell")
    assert unit.values.tolist() == traced.values["cell"][[0, 2], 1, 3].tolist()
    assert unit.to_json()["values"] == unit.values.tolist()
