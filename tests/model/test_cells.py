"""The readable cells equal torch's layers: values, gradients and weights, in float64."""

import pytest
import torch
from torch import Tensor, nn

from charnn.config import ModelConfig
from charnn.model.cells import CELLS, Cell, LSTMCell, cells_of, module_of, network_cells, read
from charnn.model.network import CharNetwork
from charnn.model.weights import STATES

EVERY = pytest.mark.parametrize("cell", CELLS)
SIZES = pytest.mark.parametrize(
    ("T", "B", "E", "H", "L"), [(7, 3, 5, 6, 2), (1, 1, 1, 1, 1), (4, 2, 3, 5, 3)]
)


def module(cell: str, E: int = 5, H: int = 6, L: int = 2) -> nn.RNNBase:
    torch.manual_seed(3)
    kind = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}[cell]
    return kind(E, H, L).double()


def inputs(
    cell: str, T: int = 7, B: int = 3, E: int = 5, H: int = 6, L: int = 2
) -> tuple[Tensor, Tensor]:
    """Return inputs [T, B, E] and a state [S, B, L, H]."""
    x = torch.randn(T, B, E, dtype=torch.float64, requires_grad=True)
    state = torch.randn(STATES[cell], B, L, H, dtype=torch.float64, requires_grad=True)
    return x, state


def by_torch(theirs: nn.RNNBase, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """Return outputs [T, B, H] and the state [S, B, L, H]."""
    first = state.transpose(1, 2).contiguous()
    outputs, after = theirs(x, tuple(first) if len(first) == 2 else first[0])
    return outputs, torch.stack(after if len(first) == 2 else (after,)).transpose(1, 2)


def by_cells(cells: list[Cell], x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    steps, after = read(cells, x, state)
    return torch.stack([layers[-1]["hidden"] for layers in steps]), after


@EVERY
@SIZES
def test_values_and_gradients_equal_torch(
    cell: str, T: int, B: int, E: int, H: int, L: int
) -> None:
    theirs = module(cell, E, H, L)
    ours = cells_of(theirs)
    x, state = inputs(cell, T, B, E, H, L)
    results, gradients = [], []
    for outputs, after, weights in (
        (*by_torch(theirs, x, state), [w for layer in theirs.all_weights for w in layer]),
        (*by_cells(ours, x, state), [w for layer in ours for w in layer.parameters()]),
    ):
        results.append((outputs, after))
        loss = outputs.square().sum() + (after * torch.arange(after.numel()).view_as(after)).sum()
        gradients.append(torch.autograd.grad(loss, [x, state, *weights]))
    torch.testing.assert_close(results[1], results[0], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-9, atol=1e-9)


@EVERY
def test_weights_survive_a_round_trip_through_the_cells(cell: str) -> None:
    theirs = module(cell)
    back = module_of(cells_of(theirs))
    assert type(back) is type(theirs)
    for name, weight in theirs.state_dict().items():
        assert torch.equal(back.state_dict()[name], weight)


@EVERY
def test_cells_copy_the_weights_and_leave_the_random_state_alone(cell: str) -> None:
    theirs = module(cell)
    before = torch.get_rng_state()
    ours = cells_of(theirs)[0]
    assert torch.equal(torch.get_rng_state(), before)
    with torch.no_grad():
        ours.weight_hh.zero_()
    assert theirs.all_weights[0][1].abs().sum() > 0


@EVERY
def test_reading_a_text_in_two_parts_equals_reading_it_at_once(cell: str) -> None:
    cells = cells_of(module(cell))
    x, state = inputs(cell)
    whole, end = by_cells(cells, x, state)
    first, between = by_cells(cells, x[:3], state)
    second, last = by_cells(cells, x[3:], between)
    assert torch.equal(torch.cat((first, second)), whole)
    assert torch.equal(last, end)


@EVERY
def test_cells_of_a_network_give_its_logits_and_state(cell: str) -> None:
    torch.manual_seed(3)
    config = ModelConfig(
        vocabulary_size=7, hidden_size=6, num_layers=2, embedding_size=5, cell=cell
    )
    network = CharNetwork(config).double()
    cells = network_cells(network)
    indices = torch.randint(7, (9, 3))
    logits, state = network(indices, network.zero_state(3))
    outputs, after = by_cells(cells, network.embedding(indices), network.zero_state(3))
    torch.testing.assert_close(network.head(outputs), logits, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(after, state, rtol=1e-12, atol=1e-12)


@EVERY
def test_every_result_has_a_name_and_gates_are_between_0_and_1(cell: str) -> None:
    kind = CELLS[cell]
    x, state = inputs(cell)
    inside = cells_of(module(cell))[0].step(x[0], state[:, :, 0])
    assert list(inside) == list(dict.fromkeys([*kind.gates, *reversed(kind.state)]))
    for name in set(kind.gates) - {"candidate"}:
        low, high = inside[name].aminmax()
        assert low > 0
        assert high < 1


def test_an_open_forget_gate_and_a_closed_input_gate_keep_the_cell_state() -> None:
    lstm = LSTMCell(5, 6).double()
    i, f, *_ = lstm.bias_ih.detach().chunk(4)
    i.fill_(-100.0)
    f.fill_(100.0)
    x, state = inputs("lstm", T=20)
    steps, _ = read([lstm], x, state[:, :, :1])
    torch.testing.assert_close(steps[-1][0]["cell"], state[1, :, 0])


def test_a_closed_forget_gate_erases_the_cell_state() -> None:
    lstm = LSTMCell(5, 6).double()
    lstm.bias_ih.detach().chunk(4)[1].fill_(-100.0)
    x, state = inputs("lstm", T=1)
    _, h_only = read([lstm], x, state[:, :, :1] * torch.tensor([1.0, 0.0]).view(2, 1, 1, 1))
    _, whole = read([lstm], x, state[:, :, :1])
    torch.testing.assert_close(whole, h_only)
