"""GRU and plain RNN layers over a window of time, with hand-written gradients: fast on a CPU.

On a CPU, torch computes an LSTM layer in one operator, but a GRU or a plain RNN step by step, with
a dozen small operators per step, which autograd records and differentiates one by one. Here a step
is one matrix product and at most three operations, which overwrite buffers. Whatever does not
depend on the previous step is computed for the whole window at once:

- before the first step: the product of the inputs and the input weights, which autograd
  differentiates;
- before the first step back: the factors that turn the gradient of a hidden state into those of its
  gates, because they contain nothing but results of the forward pass;
- after the last step back: the gradient of the recurrent weights, which is one product.

`cells.py` has the same cells gate by gate.
"""

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

# Shapes: T time, B batch, H hidden, G gates of a cell (GRU 3, RNN 1).
# d_x is the gradient with respect to x. `hidden` and d_hidden [T + 1, B, H] begin with the state
# before the window. A state is a row: as columns [H, B], the products of two threads would be up to
# 1.5 times as fast with 16 texts, but half as fast with 14.

Gradients = tuple[Tensor, Tensor, Tensor, Tensor]

# The arguments are the gradient of the function's result, and the result.
_tanh_backward = torch.ops.aten.tanh_backward
_sigmoid_backward = torch.ops.aten.sigmoid_backward


class RNNWindow(Function):
    """A window of a plain RNN: h' = tanh(x + W h + b), where x is the input product."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, h: Tensor, w: Tensor, b: Tensor) -> Tensor:
        """Return the hidden states [T, B, H] after each step of `x` [T, B, H] from `h` [B, H]."""
        hidden = torch.cat((h[None], x + b))  # x + b until the step that overwrites it
        w_t = w.t().contiguous()  # is multiplied faster than a transposed view
        for before, after in pairwise(hidden):
            after.addmm_(before, w_t).tanh_()
        ctx.save_for_backward(hidden, w)
        return hidden[1:]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_after: Tensor) -> Gradients:
        """Return the gradients of the arguments of `forward`."""
        hidden, w = ctx.saved_tensors
        d_hidden = torch.cat((torch.zeros_like(hidden[:1]), d_after))
        d_x = 1 - hidden[1:].square()  # the factors, until the step that overwrites them
        for (d_now, d_before), d_x_now in _steps_back(d_hidden, d_x):
            d_before.addmm_(d_x_now.mul_(d_now), w)
        return d_x, d_hidden[0], *_weight_gradients(d_x, hidden)


class GRUWindow(Function):
    """A window of a GRU: h' = (1 - z) n + z h with n = tanh(x_n + r m) and m = W_n h + b_n.

    r = sigmoid(x_r + W_r h + b_r), and z likewise; x is the input product.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, h: Tensor, w: Tensor, b: Tensor) -> Tensor:
        """Return the hidden states [T, B, H] after each step of `x` [T, B, 3H] from `h` [B, H]."""
        H = h.shape[-1]
        hidden = torch.cat((h[None], x[..., 2 * H :]))  # x_n until the step that overwrites it
        n = torch.empty_like(hidden[1:])
        gates = x + b  # to which each step adds W h
        gates[..., 2 * H :] = b[2 * H :]
        w_t = w.t().contiguous()  # is multiplied faster than a transposed view
        parts = (gates, gates[..., : 2 * H], *gates.chunk(3, -1), n)
        steps = zip(pairwise(hidden), *parts, strict=True)
        for (before, after), gates_now, rz, r, z, m, n_now in steps:
            gates_now.addmm_(before, w_t)
            rz.sigmoid_()
            torch.addcmul(after, r, m, out=n_now).tanh_()
            torch.lerp(n_now, before, z, out=after)
        ctx.save_for_backward(hidden, gates, n, w)
        return hidden[1:]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_after: Tensor) -> Gradients:
        """Return the gradients of the arguments of `forward`."""
        hidden, gates, n, w = ctx.saved_tensors
        r, z, m = gates.chunk(3, -1)
        d_hidden = torch.cat((torch.zeros_like(hidden[:1]), d_after))
        d_gates = torch.empty_like(gates)
        by_gate = d_gates.unflatten(2, (3, -1))  # [T, B, 3, H], in the same memory
        to_n = _tanh_backward(1 - z, n)  # the factors, until the steps that overwrite them
        by_gate[:, :, 0] = _sigmoid_backward(to_n * m, r)
        by_gate[:, :, 1] = _sigmoid_backward(hidden[:-1] - n, z)
        by_gate[:, :, 2] = to_n * r
        steps = _steps_back(d_hidden, by_gate, d_gates, z)
        for (d_now, d_before), by_gate_now, d_gates_now, z_now in steps:
            by_gate_now.mul_(d_now[:, None])
            d_before.addcmul_(d_now, z_now).addmm_(d_gates_now, w)
        d_w, d_b = _weight_gradients(d_gates, hidden)
        torch.mul(to_n, d_hidden[1:], out=by_gate[:, :, 2])  # d_x_n in the place of d_m
        return d_gates, d_hidden[0], d_w, d_b


def _steps_back(d_hidden: Tensor, *parts: Tensor) -> Any:
    """Return each step's d_hidden after and before it, and its part of `parts`; last step first."""
    backwards = (reversed(part.unbind()) for part in parts)
    return zip(pairwise(reversed(d_hidden.unbind())), *backwards, strict=True)


def _weight_gradients(d_gates: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradients of W [GH, H] and b [GH] from those of the gates [T, B, GH]."""
    d_gates, before = d_gates.flatten(0, 1), hidden[:-1].flatten(0, 1)
    return d_gates.t() @ before, d_gates.sum(0)
