"""What a step multiplies its weights by: float32, or fewer bytes that must be read.

A product is made for a place [K, B] that holds h and a place [N, B] for the sums, and then called
again and again.
"""

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor

from charnn.errors import SettingError

# Shapes: B batch, N rows and K columns of a weight.

Multiply = Callable[[], object]

_SCALE, _ZERO = 1 / 63.5, 64
_ENGINES = ("x86", "fbgemm")


class Product(Protocol):
    """Weight [N, K], about, times h [K, B] between -1 and 1, and a bias [N]."""

    shape: torch.Size

    def __init__(self, weight: Tensor, bias: Tensor) -> None: ...

    def of(self, h: Tensor, out: Tensor) -> Multiply:
        """What writes it into `out` [N, B], from what `h` is by then."""
        ...


class FullProduct:
    """In the weights' own precision."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        self.shape = weight.shape
        self._weight, self._bias = weight, bias
        self._biased = bool(bias.any())

    def of(self, h: Tensor, out: Tensor) -> Multiply:
        """See `Product.of`."""
        if h.shape[1] == 1:  # BLAS's matrix-vector product starts faster
            return partial(torch.addmv, self._bias, self._weight, h[:, 0], out=out[:, 0])
        if not self._biased:  # torch would write the bias into all columns first
            return partial(torch.mm, self._weight, h, out=out)
        return partial(torch.addmm, self._bias[:, None], self._weight, h, out=out)


class HalfProduct:
    """Weights and h in float16, for cards with units for it: half of the bytes, and with many texts
    many times the speed. The bias and what is kept between steps stay as they are."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        self.shape = weight.shape
        self._weight, self._bias = weight.half(), bias[:, None]

    def of(self, h: Tensor, out: Tensor) -> Multiply:
        """See `Product.of`."""
        half = torch.empty_like(h, dtype=torch.float16, memory_format=torch.contiguous_format)
        sums = torch.empty_like(out, dtype=torch.float16, memory_format=torch.contiguous_format)

        def multiply() -> None:
            torch.mm(self._weight, half.copy_(h), out=sums)
            torch.add(self._bias, sums, out=out)

        return multiply


class Int8Product:
    """In 8-bit integers: a quarter of the bytes.

    Weights have a scale for each unit. What they are multiplied with is h, which lies between -1
    and 1, so that its scale is fixed and a row does not depend on the others. It has 7 bits: with 8
    the instructions of CPUs before VNNI overflow.
    """

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        check_int8(weight.device)
        self.shape = weight.shape
        scales = weight.abs().amax(1).clamp_min(1e-12).double() / 127
        zeros = torch.zeros(len(weight), dtype=torch.int64)
        with warnings.catch_warnings():  # of torch's that this way in will move to another package
            warnings.simplefilter("ignore")
            quantized = torch.quantize_per_channel(weight.float(), scales, zeros, 0, torch.qint8)
            packed: Any = torch.ops.quantized.linear_prepack(quantized, bias.float())
        self._packed = packed
        operator = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32.default
        # what torch has below its Python wrapper starts faster
        self._multiply: Any = getattr(operator, "_op", operator)

    def of(self, h: Tensor, out: Tensor) -> Multiply:
        """See `Product.of`."""
        multiply, packed, rows, sums = self._multiply, self._packed, h.t(), out.t()
        return lambda: sums.copy_(multiply(rows, _SCALE, _ZERO, packed))


def check_half(device: torch.device) -> None:
    """`SettingError` where such products are slow."""
    if device.type == "cpu":
        raise SettingError("fp16 is for a GPU, not the CPU; give --int8 instead, or leave it out")


def check_int8(device: torch.device) -> None:
    """`SettingError` where there are no such products."""
    if device.type != "cpu":
        raise SettingError(f"int8 is for the CPU, not {device}; give --device cpu too")
    there = hasattr(torch.ops.quantized, "linear_with_input_q_dq_qweight_dq_output_fp32")
    if not there or torch.backends.quantized.engine not in _ENGINES:
        raise SettingError(
            f"int8: PyTorch {torch.__version__} has no such products for this CPU; leave --int8 out"
        )
