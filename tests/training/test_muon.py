"""Muon's updates are nearly orthogonal, and equal to those of PyTorch."""

import pytest
import torch

from charnn.training import muon
from charnn.training.muon import Muon, orthogonalize

SHAPES = [(24, 6), (6, 24), (6, 6)]


@pytest.fixture(params=[False, True], ids=["full", "bfloat16"])
def tolerance(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> float:
    """Return the tolerance of each way to iterate, whichever is faster on this machine."""
    monkeypatch.setattr(muon, "fast_bfloat16", lambda device: request.param)
    return 0.05 if request.param else 1e-5


@pytest.mark.parametrize("shape", SHAPES)
def test_the_iterations_apply_the_polynomial(shape: tuple[int, int], tolerance: float) -> None:
    matrix = torch.randn(shape, generator=torch.manual_seed(1)).double()
    x = matrix / matrix.norm()
    a, b, c = muon.COEFFICIENTS
    for _ in range(muon.ITERATIONS):
        gram = x @ x.t()
        x = a * x + (b * gram + c * gram @ gram) @ x
    torch.testing.assert_close(orthogonalize(matrix), x, atol=tolerance, rtol=0)


@pytest.mark.parametrize("shape", SHAPES)
def test_singular_vectors_stay_and_singular_values_approach_each_other(
    shape: tuple[int, int], tolerance: float
) -> None:
    matrix = torch.randn(shape, generator=torch.manual_seed(2)).double()
    u, s, vt = torch.linalg.svd(matrix, full_matrices=False)
    within = u.t() @ orthogonalize(matrix) @ vt.t()
    spread = within.diagonal().max() / within.diagonal().min()
    torch.testing.assert_close(within, within.diagonal().diag(), atol=tolerance, rtol=0)
    assert 1 <= spread < s.max() / s.min()


@pytest.mark.parametrize("scale", [1e-12, 1e-3, 1e6])
def test_the_scale_of_the_gradient_does_not_matter(scale: float, tolerance: float) -> None:
    matrix = torch.randn(8, 5, generator=torch.manual_seed(3)).double()
    expected = orthogonalize(matrix)
    torch.testing.assert_close(orthogonalize(scale * matrix), expected, atol=tolerance, rtol=0)


@pytest.mark.parametrize("scale", [0.0, 1e-30, 1e-25, 1e-22, 1e-15, 1e15])
def test_no_update_is_larger_than_an_orthogonal_one(scale: float, tolerance: float) -> None:
    matrix = scale * torch.randn(8, 5, generator=torch.manual_seed(3))  # in float32
    assert torch.linalg.matrix_norm(orthogonalize(matrix), 2) < 1.25 + tolerance


def test_a_zero_gradient_gives_a_zero_update() -> None:
    assert not orthogonalize(torch.zeros(6, 4)).any()


@pytest.mark.usefixtures("tolerance")
def test_updates_equal_those_of_torch(monkeypatch: pytest.MonkeyPatch) -> None:
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
