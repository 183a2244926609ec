"""The fast step engine is the network."""

import pytest
import torch

from charnn.config import ModelConfig
from charnn.errors import SettingError
from charnn.model.evaluate import evaluate
from charnn.model.network import CharNetwork, predicting
from charnn.sampling.many import ManyLSTM
from charnn.sampling.products import HalfProduct, Int8Product
from charnn.sampling.stepper import SteppedNetwork, Stepper

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}


STEPPERS = {"lstm": Stepper, "gru": Stepper, "rnn": Stepper, "many lstm": ManyLSTM}


@pytest.mark.parametrize("kind", STEPPERS)
@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("rows", [1, 3, 8])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_steps_equal_the_network(kind: str, layers: int, rows: int, dtype: torch.dtype) -> None:
    torch.manual_seed(layers)
    cell = kind.split()[-1]
    config = ModelConfig(7, hidden_size=6, num_layers=layers, embedding_size=5, cell=cell)
    network = CharNetwork(config).to(dtype)
    indices = torch.randint(7, (12, rows))
    state = torch.randn_like(network.zero_state(rows))
    with predicting(network):
        logits, after = network(indices, state)
    stepper = STEPPERS[kind](network)
    memory = stepper.begin(state)
    stepped = torch.stack([stepper.step(symbols, memory).clone() for symbols in indices])
    torch.testing.assert_close(stepped, logits, atol=TOLERANCE[dtype], rtol=0)
    torch.testing.assert_close(stepper.state(memory), after, atol=TOLERANCE[dtype], rtol=0)


@pytest.mark.parametrize("stepping", [Stepper, ManyLSTM])
def test_a_memory_begins_with_the_logits_after_what_was_read(
    stepping: type[Stepper | ManyLSTM],
) -> None:
    network = CharNetwork(ModelConfig(7, hidden_size=6, num_layers=2, embedding_size=5)).double()
    indices = torch.randint(7, (12, 3))
    with predicting(network):
        logits, after = network(indices, network.zero_state(3))
    stepper = stepping(network)
    torch.testing.assert_close(stepper.logits(stepper.begin(after)), logits[-1])


@pytest.mark.parametrize("kind", STEPPERS)
def test_columns_of_a_memory_may_be_left_out_and_reordered(kind: str) -> None:
    cell = kind.split()[-1]
    config = ModelConfig(7, hidden_size=6, num_layers=2, embedding_size=5, cell=cell)
    network = CharNetwork(config).double()
    stepper, symbols = STEPPERS[kind](network), torch.tensor([3, 1, 4])
    memory = stepper.begin(torch.randn_like(network.zero_state(3)))
    for order in ([2, 0], [1]):
        fewer = memory[:, order]
        expected = stepper.step(symbols, memory.clone())[order]
        torch.testing.assert_close(stepper.step(symbols[order], fewer), expected)


@pytest.mark.parametrize("stepping", [Stepper, ManyLSTM])
def test_a_stepper_serves_batches_of_different_sizes_in_turn(
    stepping: type[Stepper | ManyLSTM],
) -> None:
    network = CharNetwork(ModelConfig(7, hidden_size=6, num_layers=2, embedding_size=5)).double()
    stepper = stepping(network)
    for rows in (3, 1, 3, 5):
        expected, _ = network(torch.arange(rows)[None], network.zero_state(rows))
        memory = stepper.begin(network.zero_state(rows))
        torch.testing.assert_close(stepper.step(torch.arange(rows), memory), expected[0])


@pytest.mark.parametrize("stepping", [Stepper, ManyLSTM])
def test_later_training_does_not_change_a_stepper(stepping: type[Stepper | ManyLSTM]) -> None:
    network = CharNetwork(ModelConfig(7, hidden_size=6, num_layers=1, embedding_size=5))
    stepper = stepping(network)
    before = stepper.step(torch.tensor([3]), stepper.begin(network.zero_state(1))).clone()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(1.0)
    after = stepper.step(torch.tensor([3]), stepper.begin(network.zero_state(1)))
    assert torch.equal(after, before)


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_int8_is_nearly_the_network_and_a_row_does_not_depend_on_the_others(cell: str) -> None:
    torch.manual_seed(1)
    config = ModelConfig(7, hidden_size=64, num_layers=2, embedding_size=5, cell=cell)
    network = CharNetwork(config)
    stepper, indices = Stepper(network, Int8Product), torch.randint(7, (30, 4))
    with predicting(network):
        exact, _ = network(indices, network.zero_state(4))
    memory = stepper.begin(network.zero_state(4))
    for symbols, logits in zip(indices, exact, strict=True):
        rough = stepper.step(symbols, memory)
        torch.testing.assert_close(rough, logits, atol=0.05, rtol=0)
    assert not torch.equal(rough, logits)
    single = Stepper(network, Int8Product)
    alone = single.begin(network.zero_state(1))
    for symbols in indices[:, 2:3]:
        one = single.step(symbols, alone)
    torch.testing.assert_close(one, rough[2:3], atol=1e-5, rtol=0)


def test_int8_says_where_it_cannot_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    network = CharNetwork(ModelConfig(7, hidden_size=6, num_layers=1, embedding_size=5))
    monkeypatch.setattr("charnn.sampling.products._ENGINES", ())
    with pytest.raises(SettingError, match="leave --int8 out"):
        Stepper(network, Int8Product)


def test_a_network_that_reads_step_by_step_is_judged_as_the_network() -> None:
    torch.manual_seed(1)
    network = CharNetwork(ModelConfig(7, hidden_size=6, num_layers=2, embedding_size=5)).double()
    text = torch.randint(7, (300,)).numpy().astype("uint8")
    for protocol in ("stream", "window", "lanes"):
        exact, stepped = (
            evaluate(n, text, protocol).nats for n in (network, SteppedNetwork(network))
        )
        assert stepped == pytest.approx(exact)


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
@pytest.mark.parametrize("texts", [1, 4])
def test_half_precise_products_are_nearly_the_network(cell: str, texts: int) -> None:
    torch.manual_seed(1)
    config = ModelConfig(7, hidden_size=64, num_layers=2, embedding_size=5, cell=cell)
    network = CharNetwork(config)
    stepper, indices = Stepper(network, HalfProduct), torch.randint(7, (30, texts))
    with predicting(network):
        exact, state = network(indices, network.zero_state(texts))
    memory = stepper.begin(network.zero_state(texts))
    for symbols, logits in zip(indices, exact, strict=True):
        rough = stepper.step(symbols, memory)
        torch.testing.assert_close(rough, logits, atol=0.005, rtol=0)
    assert not torch.equal(rough, logits)
    torch.testing.assert_close(stepper.state(memory), state, atol=0.005, rtol=0)
