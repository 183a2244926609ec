"""Muon: an optimizer that makes the singular values of a matrix's momentum equal.

The update of a weight matrix is its momentum, orthogonalized by a Newton-Schulz iteration.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from charnn.device import fast_bfloat16

MOMENTUM = 0.95
# Jordan et al. 2024 (kellerjordan.github.io/posts/muon): the odd polynomial x(a + b x^2 + c x^4)
# moves singular values to between 0.7 and 1.2, which is close enough to 1. Five iterations are
# usual. Three trained models as good here at less cost; singular values below 1/50 stay smaller.
COEFFICIENTS = (3.4445, -4.775, 2.0315)
ITERATIONS = 3
# Gives an update the root mean square of a typical AdamW update, so that both optimizers can share
# one learning rate (Liu et al. 2025, arXiv 2502.16982).
ADAMW_RMS = 0.2


class Muon(torch.optim.Optimizer):
    """Muon for weight matrices that are multiplied with activations; AdamW suits the rest.

    The updates are those of `torch.optim.Muon` with `adjust_lr_fn="match_rms_adamw"` and as many
    iterations. PyTorch's class always computes in bfloat16, which is slow on a CPU without
    instructions for it.
    """

    found_inf: Tensor | None = None  # scalar; 1 if the gradient overflowed: nothing changes then

    def __init__(
        self, matrices: Iterable[Tensor], learning_rate: float, weight_decay: float
    ) -> None:
        super().__init__(matrices, {"lr": learning_rate, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Update each matrix from its gradient."""
        for group in self.param_groups:
            rate = torch.as_tensor(group["lr"])  # beyond float32 it is infinite, not an error
            decay = 1 - rate * float(group["weight_decay"])
            for matrix in group["params"]:
                if matrix.grad is None:
                    continue
                state = self.state[matrix]
                if not state:
                    state["momentum"] = torch.zeros_like(matrix)
                momentum, gradient, shrink, step_size = state["momentum"], matrix.grad, decay, rate
                if self.found_inf is not None:
                    overflow = self.found_inf > 0
                    # lerp_ leaves the momentum as it is if the gradient equals it
                    gradient = torch.where(overflow, momentum, gradient)
                    shrink = decay.masked_fill(overflow, 1.0)
                    step_size = rate.masked_fill(overflow, 0.0)
                momentum.lerp_(gradient, 1 - MOMENTUM)
                update = orthogonalize(torch.lerp(gradient, momentum, MOMENTUM))  # Nesterov
                scale = ADAMW_RMS * max(matrix.shape) ** 0.5
                matrix.mul_(shrink).sub_(update.mul_(step_size * scale))


def orthogonalize(matrix: Tensor) -> Tensor:
    """Return approximately U V^T for the matrix U S V^T."""
    # The minimum keeps the update of a vanishing gradient small, as AdamW's epsilon does.
    x = matrix / matrix.norm().clamp_min(1e-12)
    wide = len(x) < x.shape[1]  # recurrent layers' matrices are tall and need no transposition
    iterate = _iterate_bfloat16 if fast_bfloat16(x.device) else _iterate_full
    result = iterate(x.t() if wide else x)
    return result.t() if wide else result


def _iterate_bfloat16(x: Tensor) -> Tensor:
    """Iterate in bfloat16 as Jordan does; errors of a few percent do not matter."""
    a, b, c = COEFFICIENTS
    y = x.bfloat16()
    for _ in range(ITERATIONS):
        gram = y.t() @ y
        y = torch.addmm(y, y, torch.addmm(gram, gram, gram, beta=b, alpha=c), beta=a)
    return y.to(x.dtype)


def _iterate_full(x: Tensor) -> Tensor:
    """Iterate in full precision on the Gram matrix alone: the result is X p(X^T X), p a polynomial.

    This takes two thirds of the multiplications for a matrix [4H, H], but is not accurate enough
    in bfloat16.
    """
    a, b, c = COEFFICIENTS
    gram, product = x.t() @ x, None
    for number in range(ITERATIONS):
        factor = torch.addmm(gram, gram, gram, beta=b, alpha=c)
        factor.diagonal().add_(a)
        product = factor if product is None else product @ factor  # the factors commute
        if number + 1 < ITERATIONS:
            gram = factor @ gram @ factor
    assert product is not None
    return x @ product
