"""The network equals a stack of torch's layers, however it computes them."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from charnn.config import ModelConfig
from charnn.model.network import CharNetwork, layer_weights, predicting
from charnn.model.weights import weight_shapes

CELLS = ("lstm", "gru", "rnn")
TABLE = ModelConfig(vocabulary_size=4, hidden_size=6, num_layers=2, embedding_size=5)
LOOKUP = replace(TABLE, vocabulary_size=7)


def network(config: ModelConfig) -> CharNetwork:
    torch.manual_seed(3)
    return CharNetwork(config).double()


def indices(config: ModelConfig, time: int = 9, batch: int = 3) -> Tensor:
    return torch.randint(config.vocabulary_size, (time, batch))


def torch_layers(ours: CharNetwork) -> nn.RNNBase:
    """Return torch's module with `num_layers` layers and the same weights."""
    c = ours.config
    kind = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}[c.cell]
    module = kind(c.embedding_size, c.hidden_size, c.num_layers).double()
    for number, layer in enumerate(ours.layers):
        for theirs, weight in zip(module.all_weights[number], layer_weights(layer), strict=True):
            theirs.data.copy_(weight)
    return module


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("config", [TABLE, LOOKUP], ids=["table", "lookup"])
def test_values_and_gradients_equal_torchs_embedding_layers_and_head(
    config: ModelConfig, cell: str
) -> None:
    ours = network(replace(config, cell=cell))
    module = torch_layers(ours)
    read = indices(config)
    state = torch.randn_like(ours.zero_state(3))
    logits, after = ours(read, state)

    theirs_state = tuple(part.transpose(0, 1).contiguous() for part in state)
    given = theirs_state if cell == "lstm" else theirs_state[0]
    outputs, theirs_after = module(ours.embedding(read), given)
    theirs = ours.head(outputs)
    torch.testing.assert_close(logits, theirs, atol=1e-12, rtol=0)
    stacked = torch.stack(theirs_after if cell == "lstm" else (theirs_after,))
    torch.testing.assert_close(after, stacked.transpose(1, 2), atol=1e-12, rtol=0)

    weights = (ours.embedding.weight, layer_weights(ours.layers[0])[0])
    (grad_embedding, grad_input) = torch.autograd.grad(logits.square().sum(), weights)
    module_weights = (ours.embedding.weight, module.all_weights[0][0])
    expected = torch.autograd.grad(theirs.square().sum(), module_weights)
    torch.testing.assert_close(grad_embedding, expected[0], atol=1e-10, rtol=0)
    torch.testing.assert_close(grad_input, expected[1], atol=1e-10, rtol=0)


@pytest.mark.parametrize("cell", CELLS)
def test_reading_a_text_in_two_parts_equals_reading_it_at_once(cell: str) -> None:
    net = network(replace(TABLE, cell=cell))
    read = indices(TABLE)
    with predicting(net):
        whole, end = net(read, net.zero_state(3))
        first, middle = net(read[:4], net.zero_state(3))
        second, last = net(read[4:], middle)
    torch.testing.assert_close(torch.cat((first, second)), whole, atol=1e-12, rtol=0)
    torch.testing.assert_close(last, end, atol=1e-12, rtol=0)


def test_the_lanes_of_a_batch_are_independent() -> None:
    net = network(TABLE)
    read = indices(TABLE)
    with predicting(net):
        together, _ = net(read, net.zero_state(3))
        alone, _ = net(read[:, 1:2], net.zero_state(1))
    torch.testing.assert_close(together[:, 1:2], alone, atol=1e-12, rtol=0)


def test_reading_does_not_change_the_given_state() -> None:
    net = network(TABLE)
    state = net.zero_state(3)
    net(indices(TABLE), state)
    assert not state.any()


def test_forget_gates_start_with_a_bias_of_one() -> None:
    net = network(TABLE)
    for layer in net.layers:
        _, _, b_ih, b_hh = layer_weights(layer)
        assert (b_ih + b_hh)[6:12].tolist() == [1.0] * 6


def test_dropout_acts_only_during_training() -> None:
    net = network(replace(TABLE, dropout=0.5))
    read, state = indices(TABLE), net.zero_state(3)
    first, second = net(read, state)[0], net(read, state)[0]
    assert not torch.equal(first, second)
    with predicting(net):
        assert torch.equal(net(read, state)[0], net(read, state)[0])
    assert net.training


def test_the_parameter_count_is_the_sum_over_the_layers() -> None:
    V, E, H = 4, 5, 6
    lstm = 4 * H * (E + H + 2) + 4 * H * (H + H + 2)
    assert network(TABLE).parameter_count() == V * E + lstm + (H + 1) * V


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_the_shapes_of_the_weights_are_known_without_a_network(cell: str) -> None:
    config = replace(TABLE, cell=cell, num_layers=3)
    met = {name: tuple(weight.shape) for name, weight in network(config).state_dict().items()}
    assert weight_shapes(config) == met
