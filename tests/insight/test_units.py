"""Units that were built to track a property are found, and correlations equal those of NumPy."""

import itertools
import json

import numpy as np
import pytest
import torch

from charnn.config import ModelConfig
from charnn.errors import TextError
from charnn.insight.properties import PROPERTIES
from charnn.insight.trace import trace
from charnn.insight.units import (
    MIN_SYMBOLS,
    Lanes,
    Moments,
    find_units,
    not_ranked_reason,
    rank_units,
)
from charnn.model.cells import CELLS
from charnn.model.network import CharNetwork
from charnn.text.records import Records
from charnn.text.tokenizer import CharTokenizer
from tests.conftest import words

TOKENIZER = CharTokenizer("\n ()aeinst")
BRACKETS, LINE, SPACE = 2, 4, 1  # units that track these
SURE = 60.0  # the input of a gate that is open; -SURE closes it


def text(characters: int = 3000) -> str:
    """Words, some of them in brackets, in short lines."""
    return words(characters, 3).replace("a", "(").replace("e", ")")


def built() -> CharNetwork:
    """An LSTM whose first layer has a unit that remembers brackets, one that counts the characters
    of the line, and one that outputs whether there is a space. Its gates depend on the input only.
    """
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
    """1 if the last bracket was an opening one."""
    inside, values = 0.0, []
    for character in text:
        inside = {"(": 1.0, ")": 0.0}.get(character, inside)
        values.append(inside)
    return values


def test_units_that_track_a_property_exactly_are_found_with_correlation_1() -> None:
    one = text()
    properties = [np.array(simply_inside(one)), *(PROPERTIES[n](one) for n in ("line", "space"))]
    found = rank_units(built(), TOKENIZER.encode(one), properties, 3)
    assert [len(units) for units in found] == [3, 3, 3]
    for (best, *_), unit in zip(found, (BRACKETS, LINE, SPACE), strict=True):
        assert (best.layer, best.unit) == (0, unit)
        assert (best.r_first_half, best.r_second_half) == pytest.approx((1, 1))
    assert found[1][0].state == "cell"  # which goes on counting where its tanh saturates


def states_of(network: CharNetwork, symbols: list[int], start: list[int]) -> torch.Tensor:
    """The candidate states after every symbol [N, S, L, H], from the trace of the whole text."""
    traced = trace(network, symbols, start)
    values = [traced.values[name] for name in CELLS[network.config.cell].state]
    if len(values) == 2:
        values.append(values[1].tanh())
    return torch.stack(values, 1)


@pytest.mark.medium
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("newline", [None, 0], ids=["text", "records"])
def test_correlations_equal_those_of_one_pass_over_the_text(cell: str, newline: int | None) -> None:
    torch.manual_seed(6)
    V = TOKENIZER.vocabulary_size
    network = CharNetwork(ModelConfig(V, 4, 2, 5, cell=cell)).double()
    one = text(2000)
    symbols = TOKENIZER.encode(one)
    if newline is None:
        states = states_of(network, symbols.tolist(), [])
    else:  # each record by itself, from the newline before it
        cuts = [0, *np.flatnonzero(symbols == newline).tolist(), len(symbols)]
        parts = [symbols[a:b].tolist() for a, b in itertools.pairwise(cuts)]
        states = torch.cat([states_of(network, part, []) for part in parts if part])
    whole = symbols if newline is None else Records(symbols, newline)
    wanted = PROPERTIES["line"](one)
    lanes = Lanes.for_text(len(one))
    ours, theirs = lanes.halves(wanted)
    for unit in rank_units(network, whole, [wanted], 8)[0]:
        kinds = [*CELLS[cell].state, "tanh cell"]
        values = states[:, kinds.index(unit.state), unit.layer, unit.unit].numpy()
        for half, prop, r in zip(
            lanes.halves(values),
            (ours, theirs),
            (unit.r_first_half, unit.r_second_half),
            strict=True,
        ):
            assert r == pytest.approx(np.corrcoef(half, prop)[0, 1], abs=1e-6)


def test_each_unit_is_returned_once_best_first() -> None:
    one = text()
    (units,) = rank_units(built(), TOKENIZER.encode(one), [PROPERTIES["brackets"](one)], 99)
    assert len({(unit.layer, unit.unit) for unit in units}) == len(units) == 12
    ranks = [abs(unit.r_first_half) for unit in units]
    assert ranks == sorted(ranks, reverse=True)


def test_moments_equal_numpys_correlation_for_any_blocks_and_mean() -> None:
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


def test_lanes_count_each_symbol_once_after_the_warm_up() -> None:
    for symbols in (MIN_SYMBOLS, 777, 5000, 100_000):
        lanes = Lanes.for_text(symbols)
        assert lanes.count % 2 == 0
        assert lanes.starts[-1] + lanes.warm_up + lanes.length <= symbols
        counted = lanes.starts[:, None] + lanes.warm_up + np.arange(lanes.length)
        assert (counted.flatten() == lanes.warm_up + np.arange(lanes.counted)).all()
        assert symbols - lanes.warm_up - lanes.counted < lanes.count
    with pytest.raises(TextError, match=f"give {MIN_SYMBOLS}"):
        Lanes.for_text(MIN_SYMBOLS - 1)


def test_a_property_that_does_not_vary_is_not_ranked() -> None:
    lanes = Lanes.for_text(1000)
    values = np.zeros(1000)
    assert not_ranked_reason(values, lanes) == "never true in this text"
    assert not_ranked_reason(values + 1, lanes) == "always true in this text"
    values[300] = 1
    assert not_ranked_reason(values, lanes) == "does not vary in one half of the text"
    values[900] = 1
    assert not_ranked_reason(values, lanes) == ""


def test_a_search_has_means_units_and_the_properties_that_do_not_vary() -> None:
    one = text()
    symbols, names = TOKENIZER.encode(one), ("space", "line", "capital")
    found = find_units(built(), TOKENIZER, symbols, {name: PROPERTIES[name] for name in names}, 4)
    assert [one.property for one in found.properties] == ["space", "line"]
    assert found.not_ranked == {"capital": "never true in this text"}
    lanes = Lanes.for_text(len(one))
    assert found.characters == lanes.counted
    for part in found.properties:
        values = PROPERTIES[part.property](one)
        assert part.mean == pytest.approx(lanes.halves(values).mean())
        (units,) = rank_units(built(), symbols, [values], 4)
        assert [(u.layer, u.unit) for u in part.units] == [(u.layer, u.unit) for u in units]
    assert json.loads(json.dumps(found.to_json()))["properties"][1]["units"][0]["layer"] == 0
    with pytest.raises(TextError, match=r"capital: never true in this text.*another text"):
        find_units(built(), TOKENIZER, symbols, {"capital": PROPERTIES["capital"]})
