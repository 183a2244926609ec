"""Muon: momentum whose singular values are made equal before it moves a matrix."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

MOMENTUM = 0.95
# Jordan et al. 2024 (kellerjordan.github.io/posts/muon): an odd polynomial x(a + b x^2 + c x^4)
# that takes singular values to between 0.7 and 1.2, which is near enough to 1. Five rounds are
# usual; three learned as well here, for less, and leave those below a fiftieth smaller.
COEFFICIENTS = (3.4445, -4.775, 2.0315)
ROUNDS = 3
# Makes an update's root mean square that of a usual AdamW update, so that both may share one
# learning rate (Liu et al. 2025, arXiv 2502.16982).
SHARED_RATE = 0.2


class Muon(torch.optim.Optimizer):
    """For weight matrices that are multiplied with activations; the rest is AdamW's.

    The same update as `torch.optim.Muon` with `adjust_lr_fn="match_rms_adamw"`, computed in another
    way: that one works in bfloat16, which is slow on a CPU without instructions for it.
    """

    def __init__(
        self, matrices: Iterable[Tensor], learning_rate: float, weight_decay: float
    ) -> None:
        super().__init__(matrices, {"lr": learning_rate, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Update each matrix by its gradient."""
        for group in self.param_groups:
            rate = torch.tensor(group["lr"])  # one beyond float32 is infinite and no error
            for matrix in group["params"]:
                if matrix.grad is None:
                    continue
                state = self.state[matrix]
                momentum = state.setdefault("momentum", torch.zeros_like(matrix))
                momentum.lerp_(matrix.grad, 1 - MOMENTUM)
                update = orthogonal(torch.lerp(matrix.grad, momentum, MOMENTUM))  # Nesterov's
                matrix.mul_(1 - rate * group["weight_decay"])
                size = SHARED_RATE * max(matrix.shape) ** 0.5
                matrix.sub_(update * (rate * size))


def orthogonal(matrix: Tensor) -> Tensor:
    """About U V^T of the matrix U S V^T.

    The rounds act on the smaller Gram matrix: X p(X^T X) with a polynomial p, which of a matrix
    [4H, H] are half the multiplications of rounds on X itself.
    """
    tall = len(matrix) > matrix.shape[1]
    x = matrix / matrix.norm().clamp_min(1e-30)
    gram = x.t() @ x if tall else x @ x.t()
    a, b, c = COEFFICIENTS
    whole = None  # the product of all rounds' polynomials; they commute
    for number in range(ROUNDS):
        factor = torch.addmm(gram, gram, gram, beta=b, alpha=c)
        factor.diagonal().add_(a)
        whole = factor if whole is None else whole @ factor
        if number + 1 < ROUNDS:
            gram = factor @ gram @ factor
    assert whole is not None
    return x @ whole if tall else whole @ x
