"""Muon: momentum whose singular values are made equal before it moves a matrix."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from charnn.device import fast_bfloat16

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

    The update of `torch.optim.Muon` with `adjust_lr_fn="match_rms_adamw"` and so many rounds; but
    that one always works in bfloat16, which is slow on a CPU without instructions for it.
    """

    found_inf: Tensor | None = None  # 1 where the gradient overflowed and nothing is to change

    def __init__(
        self, matrices: Iterable[Tensor], learning_rate: float, weight_decay: float
    ) -> None:
        super().__init__(matrices, {"lr": learning_rate, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Update each matrix by its gradient."""
        for group in self.param_groups:
            rate = torch.as_tensor(group["lr"])  # one beyond float32 is infinite and no error
            decay = 1 - rate * float(group["weight_decay"])
            for matrix in group["params"]:
                if matrix.grad is None:
                    continue
                state = self.state[matrix]
                if not state:
                    state["momentum"] = torch.zeros_like(matrix)
                momentum, gradient, kept, moved = state["momentum"], matrix.grad, decay, rate
                if self.found_inf is not None:
                    wrong = self.found_inf > 0
                    gradient = torch.where(wrong, momentum, gradient)  # lerp leaves it as it is
                    kept, moved = decay.masked_fill(wrong, 1.0), rate.masked_fill(wrong, 0.0)
                momentum.lerp_(gradient, 1 - MOMENTUM)
                update = orthogonal(torch.lerp(gradient, momentum, MOMENTUM))  # Nesterov's
                size = SHARED_RATE * max(matrix.shape) ** 0.5
                matrix.mul_(kept).sub_(update.mul_(moved * size))


def orthogonal(matrix: Tensor) -> Tensor:
    """About U V^T of the matrix U S V^T."""
    # A gradient that is next to nothing makes a small update, as AdamW's epsilon sees to.
    x = matrix / matrix.norm().clamp_min(1e-12)
    wide = len(x) < x.shape[1]  # the matrices of recurrent layers are tall, and stay as they lie
    rounds = _in_bfloat16 if fast_bfloat16(x.device) else _in_full
    result = rounds(x.t() if wide else x)
    return result.t() if wide else result


def _in_bfloat16(x: Tensor) -> Tensor:
    """The rounds as Jordan writes them; their errors of some percent do not matter."""
    a, b, c = COEFFICIENTS
    y = x.bfloat16()
    for _ in range(ROUNDS):
        gram = y.t() @ y
        y = torch.addmm(y, y, torch.addmm(gram, gram, gram, beta=b, alpha=c), beta=a)
    return y.to(x.dtype)


def _in_full(x: Tensor) -> Tensor:
    """The rounds act on the Gram matrix only: X p(X^T X) with a polynomial p. That needs the
    precision, and of a matrix [4H, H] it is two thirds of the multiplications."""
    a, b, c = COEFFICIENTS
    gram, whole = x.t() @ x, None
    for number in range(ROUNDS):
        factor = torch.addmm(gram, gram, gram, beta=b, alpha=c)
        factor.diagonal().add_(a)
        whole = factor if whole is None else whole @ factor  # they commute
        if number + 1 < ROUNDS:
            gram = factor @ gram @ factor
    assert whole is not None
    return x @ whole
