"""A clamped unit has its value after every step, and the rest of the model reads that value."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from charnn.config import SampleConfig
from charnn.errors import SettingError
from charnn.model.cells import Cell, network_cells
from charnn.model.evaluate import evaluate
from charnn.model.network import CharNetwork
from charnn.sampling.clamp import Clamp, check_clamps
from charnn.sampling.folded_engine import FoldedEngine, SteppedNetwork
from charnn.sampling.products import Int8Product
from charnn.sampling.sampler import Sampler
from charnn.text.tokenizer import CharTokenizer
from tests.sampling.engines import ALONE, KINDS, make_engine, read, tiny_network

CLAMPS = [Clamp(0, 2, 0.75), Clamp(1, 5, -0.5), Clamp(1, 0, 0.25)]
TOKENIZER = CharTokenizer("\n aeinst")


def tiny(kind: str) -> CharNetwork:
    return tiny_network(kind, 3, TOKENIZER.vocabulary_size)


def clamped_step(
    cell: Cell, x: Tensor, state: Tensor, clamps: Sequence[Clamp]
) -> dict[str, Tensor]:
    """A readable step with some units of the state fixed before the next layer reads it."""
    inside = cell.step(x, state)
    for _, unit, value in clamps:
        inside[cell.state[-1]][:, unit] = value
    if "output" in inside:
        inside["hidden"] = inside["output"] * torch.tanh(inside["cell"])
    return inside


def by_cells(
    network: CharNetwork, indices: Tensor, state: Tensor, clamps: Sequence[Clamp]
) -> tuple[Tensor, Tensor]:
    """Logits [T, B, V] and the state [S, B, L, H]."""
    cells, states, logits = network_cells(network), list(state.unbind(2)), []
    with torch.no_grad():
        for symbols in indices:
            x = network.embedding(symbols)
            for number, cell in enumerate(cells):
                some = [clamp for clamp in clamps if clamp.layer == number]
                inside = clamped_step(cell, x, states[number], some)
                states[number] = torch.stack([inside[name] for name in cell.state])
                x = inside["hidden"]
            logits.append(network.head(x))
    return torch.stack(logits), torch.stack(states, 2)


@pytest.mark.parametrize(
    ("kind", "rows"), [*itertools.product(KINDS, (1, 3)), *((kind, 1) for kind in ALONE)]
)
def test_an_engine_with_clamps_is_the_readable_cells_with_fixed_units(kind: str, rows: int) -> None:
    network = tiny(kind)
    indices = torch.randint(TOKENIZER.vocabulary_size, (12, rows))
    state = torch.randn_like(network.zero_state(rows))
    expected = by_cells(network, indices, state, CLAMPS)
    clamped = read(make_engine(kind, network, CLAMPS), indices, state)
    torch.testing.assert_close(clamped, expected, rtol=0, atol=1e-12)
    after = expected[1][-1]  # c, or h where there is no c
    assert [float(after[0, layer, unit]) for layer, unit, _ in CLAMPS] == [0.75, -0.5, 0.25]
    free = read(make_engine(kind, network), indices, state)
    assert not torch.allclose(free[0], expected[0])


@pytest.mark.parametrize("kind", ["lstm", "gru", "rnn"])
def test_int8_can_be_clamped_too(kind: str) -> None:
    network = tiny(kind).float()
    engine = FoldedEngine(network.weights(), "cpu", Int8Product, CLAMPS)
    _, after = read(engine, torch.arange(5)[:, None], network.zero_state(1))
    values = [float(after[-1, 0, layer, unit]) for layer, unit, _ in CLAMPS]
    assert values == pytest.approx([0.75, -0.5, 0.25])


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_a_clamped_model_generates_what_it_finds_likeliest(cell: str) -> None:
    network = tiny(cell)
    for weight in network.parameters():
        weight.detach().mul_(5)  # so that it generates more than one letter
    sampler = Sampler(network.weights(), TOKENIZER, clamps=CLAMPS)
    config = SampleConfig(length=15, temperature=0.0)
    text = "".join(sampler.stream(config, "tie"))
    assert text != "".join(Sampler(network.weights(), TOKENIZER).stream(config, "tie"))
    assert [sample.text for sample in sampler.samples(config, 3, "tie")] == [text] * 3
    assert sampler.beam(config, 1, "tie")[0].text == text
    indices = torch.tensor(TOKENIZER.encode("tie" + text))[:, None]
    logits, _ = by_cells(network, indices, network.zero_state(1), CLAMPS)
    assert TOKENIZER.decode(logits[2:-1, 0].argmax(-1).tolist()) == text


def test_units_and_values_that_the_model_cannot_have_are_refused() -> None:
    lstm, gru = (tiny(cell).config for cell in ("lstm", "gru"))
    for layer, unit in ((3, 0), (-1, 0), (0, 6), (0, -1)):
        with pytest.raises(SettingError, match=r"layers 0 to 2, each with units 0 to 5"):
            check_clamps(lstm, [Clamp(layer, unit, 0.5)])
    for value in (float("nan"), float("inf"), 1e31):
        with pytest.raises(SettingError, match="between -1e\\+30 and 1e\\+30"):
            check_clamps(lstm, [Clamp(0, 0, value)])
    with pytest.raises(SettingError, match="between -1 and 1"):
        check_clamps(gru, [Clamp(0, 0, 1.5)])
    with pytest.raises(SettingError, match="twice"):
        check_clamps(lstm, [Clamp(0, 0, 0.5), Clamp(0, 1, 0.5), Clamp(0, 0, 0.25)])


@pytest.mark.parametrize(
    "clamp",
    [
        Clamp(0, 1.5, 1.0),  # type: ignore[arg-type]
        Clamp("0", 1, 1.0),  # type: ignore[arg-type]
        Clamp(0, 1, "1"),  # type: ignore[arg-type]
        Clamp(0, 1, None),  # type: ignore[arg-type]
        (0, 1, 1.0),
        (0, 1),
        None,
        "0:1=1",
    ],
)
def test_what_is_no_clamp_is_refused_in_one_line(clamp: Any) -> None:
    with pytest.raises(SettingError, match=r"^a clamp [^\n]*$"):
        check_clamps(tiny("lstm").config, [clamp])


def test_a_clamp_may_be_of_numpys_numbers() -> None:
    check_clamps(tiny("lstm").config, [Clamp(np.int64(0), np.int32(1), np.float32(1.0))])  # type: ignore[arg-type]


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_a_text_is_scored_with_the_clamps(cell: str) -> None:
    network = tiny(cell)
    indices = TOKENIZER.encode("tietie")
    logits, _ = by_cells(network, torch.tensor(indices)[:, None], network.zero_state(1), CLAMPS)
    targets = torch.tensor(indices[1:])[:, None]
    expected = -logits[:-1, 0].log_softmax(-1).gather(-1, targets).sum()
    score = evaluate(SteppedNetwork(network, clamps=CLAMPS), indices, "stream")
    assert score.nats == pytest.approx(float(expected))


def test_a_cell_state_may_be_as_large_as_a_float_holds() -> None:
    network = tiny("lstm").float()
    for count in (1, 2):
        sampler = Sampler(
            network.weights(), TOKENIZER, clamps=[Clamp(0, 0, 1e30), Clamp(1, 1, -1e30)]
        )
        (sample, *_) = sampler.samples(SampleConfig(length=5, seed=1), count)
        assert len(sample.text) == 5
