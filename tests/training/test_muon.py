"""Muon's updates are orthogonalize, torch's own, and come back after a stop."""

from dataclasses import replace

import pytest
import torch

from charnn.config import ModelConfig, TrainConfig
from charnn.model.network import CharNetwork
from charnn.training import muon
from charnn.training.muon import Muon, orthogonalize
from charnn.training.optimizer import Optimizer

SHAPES = [(24, 6), (6, 24), (6, 6)]


@pytest.fixture(params=[False, True], ids=["full", "bfloat16"])
def tolerance(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> float:
    """Both ways to compute the rounds, whatever this machine is fast at; and their precision."""
    monkeypatch.setattr(muon, "fast_bfloat16", lambda device: request.param)
    return 0.05 if request.param else 1e-5


@pytest.mark.parametrize("shape", SHAPES)
def test_the_rounds_are_those_of_the_polynomial(shape: tuple[int, int], tolerance: float) -> None:
    matrix = torch.randn(shape, generator=torch.manual_seed(1)).double()
    x = matrix / matrix.norm()
    a, b, c = muon.COEFFICIENTS
    for _ in range(muon.ITERATIONS):
        gram = x @ x.t()
        x = a * x + (b * gram + c * gram @ gram) @ x
    torch.testing.assert_close(orthogonalize(matrix), x, atol=tolerance, rtol=0)


@pytest.mark.parametrize("shape", SHAPES)
def test_singular_vectors_stay_and_singular_values_become_alike(
    shape: tuple[int, int], tolerance: float
) -> None:
    matrix = torch.randn(shape, generator=torch.manual_seed(2)).double()
    u, s, vt = torch.linalg.svd(matrix, full_matrices=False)
    within = u.t() @ orthogonalize(matrix) @ vt.t()
    spread = within.diagonal().max() / within.diagonal().min()
    torch.testing.assert_close(within, within.diagonal().diag(), atol=tolerance, rtol=0)
    assert 1 <= spread < s.max() / s.min()


@pytest.mark.parametrize("scale", [1e-12, 1e-3, 1e6])
def test_the_size_of_the_gradient_does_not_matter(scale: float, tolerance: float) -> None:
    matrix = torch.randn(8, 5, generator=torch.manual_seed(3)).double()
    expected = orthogonalize(matrix)
    torch.testing.assert_close(orthogonalize(scale * matrix), expected, atol=tolerance, rtol=0)


@pytest.mark.parametrize("scale", [0.0, 1e-30, 1e-25, 1e-22, 1e-15, 1e15])
def test_no_update_is_larger_than_an_orthogonal_one(scale: float, tolerance: float) -> None:
    matrix = scale * torch.randn(8, 5, generator=torch.manual_seed(3))  # in float32
    assert torch.linalg.matrix_norm(orthogonalize(matrix), 2) < 1.25 + tolerance


def test_no_gradient_at_all_is_no_update() -> None:
    assert not orthogonalize(torch.zeros(6, 4)).any()


@pytest.mark.usefixtures("tolerance")
def test_updates_are_those_of_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(muon, "ITERATIONS", 5)  # torch's default
    torch.manual_seed(4)
    start = torch.randn(64, 16)
    ours, theirs = (start.clone().requires_grad_() for _ in range(2))
    both: list[torch.optim.Optimizer] = [
        Muon([ours], 1e-2, weight_decay=0.1),
        torch.optim.Muon([theirs], lr=1e-2, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"),
    ]
    for _ in range(5):
        gradient = torch.randn_like(start)
        for matrix, optimizer in zip((ours, theirs), both, strict=True):
            matrix.grad = gradient.clone()
            optimizer.step()
    moved = (theirs - start).norm()
    assert (ours - theirs).norm() < 0.01 * moved  # torch computes in bfloat16


MODEL = ModelConfig(5, hidden_size=6, num_layers=2, embedding_size=4)
TRAIN = TrainConfig(steps=9, batch_size=3, seq_len=7, learning_rate=0.01, seed=4, optimizer="muon")


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_what_an_optimizer_remembers_can_be_taken_back_and_of_nothing_it_begins_anew(
    optimizer: str, cell: str
) -> None:
    network = CharNetwork(replace(MODEL, cell=cell))
    config = replace(TRAIN, optimizer=optimizer)
    first, second = Optimizer(network, config), Optimizer(network, config)
    for parameter in network.parameters():
        parameter.grad = torch.randn_like(parameter)
    first.set_learning_rate(0.01)
    first.step()
    remembered = first.tensors()
    assert all(tensor.any() for tensor in remembered.values())
    second.load_tensors(remembered)
    for name, tensor in second.tensors().items():
        assert torch.equal(tensor, remembered[name])
        assert tensor.data_ptr() != remembered[name].data_ptr()
    second.load_tensors({})
    assert not any(tensor.any() for tensor in second.tensors().values())


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_skipped_update_changes_nothing_whatever_the_gradient(optimizer: str) -> None:
    network = CharNetwork(MODEL)
    both = Optimizer(network, replace(TRAIN, optimizer=optimizer))
    both.set_learning_rate(0.01)
    for value, skip, changes in (
        (1.0, 0.0, True),
        (torch.inf, 1.0, False),
        (torch.nan, 1.0, False),
    ):
        everything = dict(network.named_parameters()) | both.tensors()
        before = {name: tensor.detach().clone() for name, tensor in everything.items()}
        for parameter in network.parameters():
            parameter.grad = torch.full_like(parameter, value)
        both.step(torch.tensor(float(skip)))
        for name, tensor in everything.items():
            assert torch.equal(tensor, before[name]) != changes, name


def test_muon_moves_the_layers_matrices_and_adamw_the_rest() -> None:
    remembered = Optimizer(CharNetwork(MODEL), TRAIN).tensors()
    moved = {name.removesuffix(".momentum") for name in remembered if name.endswith(".momentum")}
    assert moved == {f"layers.{n}.weight_{kind}_l0" for n in range(2) for kind in ("ih", "hh")}
    assert "head.weight.exp_avg" in remembered
