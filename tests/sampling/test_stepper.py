"""The fast step engine is the network."""

import pytest
import torch

from charnn.config import ModelConfig
from charnn.model.network import CharNetwork, predicting
from charnn.sampling.stepper import Stepper

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("rows", [1, 3, 8])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_steps_equal_the_network(cell: str, layers: int, rows: int, dtype: torch.dtype) -> None:
    torch.manual_seed(layers)
    config = ModelConfig(7, hidden_size=6, num_layers=layers, embedding_size=5, cell=cell)
    network = CharNetwork(config).to(dtype)
    indices = torch.randint(7, (12, rows))
    state = torch.randn_like(network.zero_state(rows))
    with predicting(network):
        logits, after = network(indices, state)
    stepper = Stepper(network)
    stepped = torch.stack([stepper.step(symbols, state) for symbols in indices])
    torch.testing.assert_close(stepped, logits, atol=TOLERANCE[dtype], rtol=0)
    torch.testing.assert_close(state, after, atol=TOLERANCE[dtype], rtol=0)


def test_a_stepper_serves_batches_of_different_sizes_in_turn() -> None:
    network = CharNetwork(ModelConfig(7, hidden_size=6, num_layers=2, embedding_size=5)).double()
    stepper = Stepper(network)
    for rows in (3, 1, 3, 5):
        expected, _ = network(torch.arange(rows)[None], network.zero_state(rows))
        state = network.zero_state(rows)
        torch.testing.assert_close(stepper.step(torch.arange(rows), state), expected[0])


def test_later_training_does_not_change_a_stepper() -> None:
    network = CharNetwork(ModelConfig(7, hidden_size=6, num_layers=1, embedding_size=5))
    stepper = Stepper(network)
    before = stepper.step(torch.tensor([3]), network.zero_state(1))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(1.0)
    assert torch.equal(stepper.step(torch.tensor([3]), network.zero_state(1)), before)
