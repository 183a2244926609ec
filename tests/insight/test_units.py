"""Units that were built to track something are found, and correlations are numpy's."""

import itertools

import numpy as np
import pytest
import torch

from charnn.config import ModelConfig
from charnn.errors import TextError
from charnn.insight.properties import PROPERTIES
from charnn.insight.trace import trace
from charnn.insight.units import SHORTEST, Layout, Moments, characters, find, trouble
from charnn.model.cells import CELLS
from charnn.model.network import CharNetwork
from charnn.text.records import Records
from charnn.text.tokenizer import ByteTokenizer, CharTokenizer
from tests.conftest import words

TOKENIZER = CharTokenizer("\n ()aeinst")
BRACKETS, LINE, SPACE = 2, 4, 1  # units that track these
SURE = 60.0  # what goes into a gate that is open; -SURE shuts it


def text(characters: int = 3000) -> str:
    """Words, some of them in brackets, in short lines."""
    return words(characters, 3).replace("a", "(").replace("e", ")")


def built() -> CharNetwork:
    """An LSTM one of whose layers has a unit that remembers brackets, one that counts the line's
    characters, and one that shows a space; gates hear the character alone."""
    V = TOKENIZER.vocabulary_size
    torch.manual_seed(5)
    config = ModelConfig(V, hidden_size=6, num_layers=2, embedding_size=V)
    network = CharNetwork(config).double()
    newline, space, opening, closing = TOKENIZER.encode("\n ()").tolist()
    with torch.no_grad():
        network.embedding.weight.copy_(torch.eye(V))
        w_ih, w_hh, b_ih, b_hh = network.layers[0].all_weights[0]  # type: ignore[index]
        for weights in (w_hh, b_ih, b_hh):
            weights.zero_()
        i, f, g, o = w_ih.zero_().view(4, 6, V)
        i[BRACKETS], f[BRACKETS], g[BRACKETS] = -SURE, SURE, SURE
        i[BRACKETS, opening], f[BRACKETS, opening] = SURE, -SURE
        f[BRACKETS, closing] = -SURE
        i[LINE], f[LINE], g[LINE] = SURE, SURE, 0.01
        i[LINE, newline], f[LINE, newline] = -SURE, -SURE
        i[SPACE], f[SPACE], g[SPACE, space], o[SPACE] = SURE, -SURE, SURE, SURE
    return network


def simply_inside(text: str) -> list[float]:
    """Whether the last bracket was an opening one."""
    inside, values = 0.0, []
    for character in text:
        inside = {"(": 1.0, ")": 0.0}.get(character, inside)
        values.append(inside)
    return values


def test_units_that_track_a_property_exactly_are_found_with_correlation_1() -> None:
    one = text()
    properties = [np.array(simply_inside(one)), *(PROPERTIES[n](one) for n in ("line", "space"))]
    found = find(built(), TOKENIZER.encode(one), properties, 3)
    assert [len(units) for units in found] == [3, 3, 3]
    for (best, *_), unit in zip(found, (BRACKETS, LINE, SPACE), strict=True):
        assert (best.layer, best.unit) == (0, unit)
        assert (best.ranked, best.checked) == pytest.approx((1, 1))
    assert found[1][0].state == "cell"  # which counts on where its tanh levels off


def states_of(network: CharNetwork, symbols: list[int], start: list[int]) -> torch.Tensor:
    """Every candidate's state after every symbol [N, S, L, H], by the trace of the whole text."""
    traced = trace(network, symbols, start)
    values = [traced.values[name] for name in CELLS[network.config.cell].state]
    if len(values) == 2:
        values.append(values[1].tanh())
    return torch.stack(values, 1)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("newline", [None, 0], ids=["text", "records"])
def test_correlations_are_those_of_one_pass_over_the_text(cell: str, newline: int | None) -> None:
    torch.manual_seed(6)
    V = TOKENIZER.vocabulary_size
    network = CharNetwork(ModelConfig(V, 4, 2, 5, cell=cell)).double()
    one = text(2000)
    symbols = TOKENIZER.encode(one)
    if newline is None:
        states = states_of(network, symbols.tolist(), [])
    else:  # each record by itself, from its line end on
        cuts = [0, *np.flatnonzero(symbols == newline).tolist(), len(symbols)]
        parts = [symbols[a:b].tolist() for a, b in itertools.pairwise(cuts)]
        states = torch.cat([states_of(network, part, []) for part in parts if part])
    whole = symbols if newline is None else Records(symbols, newline)
    wanted = PROPERTIES["line"](one)
    layout = Layout.of(len(one))
    ours, theirs = layout.halves(wanted)
    for unit in find(network, whole, [wanted], 8)[0]:
        kinds = [*CELLS[cell].state, "tanh cell"]
        values = states[:, kinds.index(unit.state), unit.layer, unit.unit].numpy()
        for half, prop, r in zip(
            layout.halves(values), (ours, theirs), (unit.ranked, unit.checked), strict=True
        ):
            assert r == pytest.approx(np.corrcoef(half, prop)[0, 1], abs=1e-6)


def test_units_come_once_and_best_first() -> None:
    one = text()
    (units,) = find(built(), TOKENIZER.encode(one), [PROPERTIES["brackets"](one)], 99)
    assert len({(unit.layer, unit.unit) for unit in units}) == len(units) == 12
    ranks = [abs(unit.ranked) for unit in units]
    assert ranks == sorted(ranks, reverse=True)


def test_moments_are_numpys_correlation_whatever_the_blocks_and_the_mean() -> None:
    chance = np.random.default_rng(1)
    x, y = chance.normal(1e6, 1e-2, (500, 4)), chance.normal(size=(500, 3))
    x[:, 1] += 0.01 * y[:, 2]
    x[:, 3] = 7.0  # a dead unit
    moments = Moments()
    for some in np.split(np.arange(500), [1, 2, 50, 51, 400]):
        moments.add(x[some], y[some])
    found = moments.correlation()
    expected = np.corrcoef(x[:, :3].T, y.T)[:3, 3:]
    assert found[:3] == pytest.approx(expected, abs=1e-6)
    assert found[3].tolist() == [0, 0, 0]


def test_a_layout_counts_each_symbol_once_after_the_warm_up() -> None:
    for symbols in (SHORTEST, 777, 5000, 100_000):
        layout = Layout.of(symbols)
        assert layout.lanes % 2 == 0
        assert layout.starts[-1] + layout.warm_up + layout.length <= symbols
        counted = layout.starts[:, None] + layout.warm_up + np.arange(layout.length)
        assert (counted.flatten() == layout.warm_up + np.arange(layout.counted)).all()
        assert symbols - layout.warm_up - layout.counted < layout.lanes
    with pytest.raises(TextError, match=f"give {SHORTEST}"):
        Layout.of(SHORTEST - 1)


def test_why_a_property_cannot_be_tracked() -> None:
    layout = Layout.of(1000)
    values = np.zeros(1000)
    assert trouble(values, layout) == "never holds in this text"
    assert trouble(values + 1, layout) == "always holds in this text"
    values[300] = 1
    assert trouble(values, layout) == "is the same throughout one half of this text"
    values[900] = 1
    assert trouble(values, layout) == ""


def test_a_character_of_several_bytes_is_several_symbols() -> None:
    data = np.frombuffer("aé\n€".encode() + b"\xff", np.uint8)
    shown, sizes = characters(ByteTokenizer(), data)
    assert (shown, sizes.tolist()) == ("aé\n€\ufffd", [1, 2, 1, 3, 1])
    shown, sizes = characters(CharTokenizer("ab", unknown=True), np.array([1, 2, 0]))
    assert (shown, sizes.tolist()) == ("b\ufffda", [1, 1, 1])
