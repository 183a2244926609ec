"""A unit that is held has its value at every step, and the rest of the model hears it."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from charnn.config import ModelConfig, SampleConfig
from charnn.errors import SettingError
from charnn.model.cells import Cell, network_cells
from charnn.model.network import CharNetwork
from charnn.sampling.batch import AnyStepper
from charnn.sampling.clamp import Clamp, check_clamps
from charnn.sampling.many import ManyLSTM
from charnn.sampling.products import Int8Product
from charnn.sampling.sampler import Sampler
from charnn.sampling.stepper import Stepper
from charnn.text.tokenizer import CharTokenizer

STEPPERS = {"lstm": Stepper, "gru": Stepper, "rnn": Stepper, "many lstm": ManyLSTM}
CLAMPS = [Clamp(0, 2, 0.75), Clamp(1, 5, -0.5), Clamp(1, 0, 0.25)]
TOKENIZER = CharTokenizer("\n aeinst")


def tiny(cell: str, layers: int = 3) -> CharNetwork:
    torch.manual_seed(2)
    V = TOKENIZER.vocabulary_size
    config = ModelConfig(V, hidden_size=6, num_layers=layers, embedding_size=5, cell=cell)
    return CharNetwork(config).double()


def held_step(cell: Cell, x: Tensor, state: Tensor, clamps: Sequence[Clamp]) -> dict[str, Tensor]:
    """A readable step with some units of the state fixed before the layer above hears of it."""
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
                inside = held_step(cell, x, states[number], some)
                states[number] = torch.stack([inside[name] for name in cell.state])
                x = inside["hidden"]
            logits.append(network.head(x))
    return torch.stack(logits), torch.stack(states, 2)


def by_stepper(stepper: AnyStepper, indices: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    memory = stepper.begin(state)
    logits = torch.stack([stepper.step(symbols, memory).clone() for symbols in indices])
    return logits, stepper.state(memory)


@pytest.mark.parametrize("kind", STEPPERS)
@pytest.mark.parametrize("rows", [1, 3])
def test_a_held_stepper_is_the_readable_cells_with_the_units_fixed(kind: str, rows: int) -> None:
    network = tiny(kind.split()[-1])
    indices = torch.randint(TOKENIZER.vocabulary_size, (12, rows))
    state = torch.randn_like(network.zero_state(rows))
    stepper = STEPPERS[kind](network)
    free = by_stepper(stepper, indices, state)
    stepper.hold(CLAMPS)
    expected = by_cells(network, indices, state, CLAMPS)
    torch.testing.assert_close(by_stepper(stepper, indices, state), expected, rtol=0, atol=1e-12)
    after = expected[1][-1]  # c, or h where there is no c
    assert [float(after[0, layer, unit]) for layer, unit, _ in CLAMPS] == [0.75, -0.5, 0.25]
    assert not torch.allclose(free[0], expected[0])
    stepper.hold([])  # nothing is held, and nothing was changed
    assert all(map(torch.equal, by_stepper(stepper, indices, state), free))


@pytest.mark.parametrize("kind", ["lstm", "gru", "rnn"])
def test_int8_holds_too(kind: str) -> None:
    network = tiny(kind).float()
    stepper = Stepper(network, Int8Product)
    stepper.hold(CLAMPS)
    _, after = by_stepper(stepper, torch.arange(5)[:, None], network.zero_state(1))
    held = [float(after[-1, 0, layer, unit]) for layer, unit, _ in CLAMPS]
    assert held == pytest.approx([0.75, -0.5, 0.25])


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_what_is_written_is_what_the_held_model_finds_likeliest(cell: str) -> None:
    network = tiny(cell)
    for weight in network.parameters():
        weight.detach().mul_(5)  # so that it writes more than one letter
    writer = Sampler(network, TOKENIZER, clamps=CLAMPS)
    config = SampleConfig(length=15, temperature=0.0)
    text = "".join(writer.stream(config, "tie"))
    assert text != "".join(Sampler(network, TOKENIZER).stream(config, "tie"))
    assert [sample.text for sample in writer.samples(config, 3, "tie")] == [text] * 3
    assert writer.beam(config, 1, "tie")[0].text == text
    indices = torch.tensor(TOKENIZER.encode("tie" + text))[:, None]
    logits, _ = by_cells(network, indices, network.zero_state(1), CLAMPS)
    assert TOKENIZER.decode(logits[2:-1, 0].argmax(-1).tolist()) == text


def test_what_the_model_has_not_and_what_no_state_can_be_are_refused() -> None:
    lstm, gru = (tiny(cell).config for cell in ("lstm", "gru"))
    for layer, unit in ((3, 0), (-1, 0), (0, 6), (0, -1)):
        with pytest.raises(SettingError, match=r"layers are 0 to 2, the units of each 0 to 5"):
            check_clamps(lstm, [Clamp(layer, unit, 0.5)])
    for value in (float("nan"), float("inf"), 1e31):
        with pytest.raises(SettingError, match="between -1e\\+30 and 1e\\+30"):
            check_clamps(lstm, [Clamp(0, 0, value)])
    with pytest.raises(SettingError, match="between -1 and 1"):
        check_clamps(gru, [Clamp(0, 0, 1.5)])
    with pytest.raises(SettingError, match="twice"):
        check_clamps(lstm, [Clamp(0, 0, 0.5), Clamp(0, 1, 0.5), Clamp(0, 0, 0.25)])


def test_a_cell_state_may_be_as_large_as_a_float_holds() -> None:
    network = tiny("lstm").float()
    for count in (1, 2):
        writer = Sampler(network, TOKENIZER, clamps=[Clamp(0, 0, 1e30), Clamp(1, 1, -1e30)])
        (sample, *_) = writer.samples(SampleConfig(length=5, seed=1), count)
        assert len(sample.text) == 5
