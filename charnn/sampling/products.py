"""Products of weights and h, the bulk of a step: in float32, or with fewer bytes to read.

A product is bound to a place [K, B] that holds h and a place [N, B] for the sums, and then called
again and again.
"""

import warnings
from functools import partial
from typing import Any, Protocol

import torch
from numpy.typing import NDArray
from torch import Tensor

from charnn.errors import SettingError
from charnn.sampling.cell_steps import Multiply

# Shapes: B batch, N rows and K columns of a weight.

_SCALE, _ZERO = 1 / 63.5, 64  # of h between -1 and 1 in 7 bits
_MAX_HALF = 65_504.0  # the largest number of float16
_ENGINES = ("x86", "fbgemm")


class Product(Protocol):
    """W h + b, exactly or nearly, for a weight W [N, K], a bias b [N] and h [K, B] within -1 to 1.

    Read-only after its construction.
    """

    shape: torch.Size

    def __init__(self, weight: Tensor, bias: Tensor) -> None: ...

    def bind(self, h: Tensor, out: Tensor) -> Multiply:
        """Return a callable that computes W h + b into `out` [N, B], reading `h` at call time."""
        ...


class FullProduct:
    """A product in the weights' own precision."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        self.shape = weight.shape
        self._weight, self._bias = weight, bias
        self._biased = bool(bias.any())

    def bind(self, h: Tensor, out: Tensor) -> Multiply:
        """See `Product.bind`."""
        if h.shape[1] == 1:  # BLAS's matrix-vector product starts faster
            return partial(torch.addmv, self._bias, self._weight, h[:, 0], out=out[:, 0])
        if not self._biased:  # torch would write the bias into all columns first
            return partial(torch.mm, self._weight, h, out=out)
        return partial(torch.addmm, self._bias[:, None], self._weight, h, out=out)


class HalfProduct:
    """A product of float16 weights and h, for GPUs with units for it.

    Half of the bytes, and with many texts many times the speed. The bias and the state that lasts
    between steps keep their precision.
    """

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        self.shape = weight.shape
        self._weight, self._bias = weight.half(), bias[:, None]
        if not weight.abs().sum(1).amax() < _MAX_HALF:  # a sum, at most, because h is at most 1
            raise SettingError("the weights of this model are too large for `fp16`; leave it out")

    def bind(self, h: Tensor, out: Tensor) -> Multiply:
        """See `Product.bind`."""
        half = torch.empty_like(h, dtype=torch.float16, memory_format=torch.contiguous_format)
        sums = torch.empty_like(out, dtype=torch.float16, memory_format=torch.contiguous_format)

        def multiply() -> None:
            torch.mm(self._weight, half.copy_(h), out=sums)
            torch.add(self._bias, sums, out=out)

        return multiply


class Int8Product:
    """A product of 8-bit integers: a quarter of the bytes.

    The weights have a scale per unit. h lies between -1 and 1, so that its scale is fixed and does
    not depend on the other texts. It has 7 bits: with 8 the instructions of CPUs before VNNI
    overflow. About 1 text in 20 still differs alone and among others: NumPy's tanh, used for a
    single text, and torch's differ in the last digit, which may round to another 8-bit number.
    Torch's alone would take half as long again.
    """

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        check_int8(weight.device)
        self.shape = weight.shape
        scales = weight.abs().amax(1).clamp_min(1e-12).double() / 127
        zeros = torch.zeros(len(weight), dtype=torch.int64)
        with warnings.catch_warnings():  # torch warns that they will move to another package
            warnings.simplefilter("ignore")
            quantized = torch.quantize_per_channel(weight.float(), scales, zeros, 0, torch.qint8)
            packed: Any = torch.ops.quantized.linear_prepack(quantized, bias.float())
        self._packed = packed
        operator = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32.default
        # The function below torch's Python wrapper starts faster.
        self._multiply: Any = getattr(operator, "_op", operator)

    def bind(self, h: Tensor, out: Tensor) -> Multiply:
        """See `Product.bind`."""
        multiply, packed, rows, sums = self._multiply, self._packed, h.t(), out.t()
        return lambda: sums.copy_(multiply(rows, _SCALE, _ZERO, packed))


PRODUCTS: dict[str, type[Product]] = {
    "fp32": FullProduct, "int8": Int8Product, "fp16": HalfProduct,
}  # fmt: skip


class Int8VectorProduct:
    """The 8-bit product of NumPy's arrays, a `VectorProduct`, by torch."""

    has_threads = False

    def __init__(self, weight: NDArray[Any], bias: NDArray[Any]) -> None:
        self._product = Int8Product(torch.from_numpy(weight), torch.from_numpy(bias))
        self.rows = len(bias)

    def bind(self, h: NDArray[Any], out: NDArray[Any]) -> Multiply:
        """See `VectorProduct.bind`."""
        return self._product.bind(torch.from_numpy(h)[:, None], torch.from_numpy(out)[:, None])


def check_precision(precision: str, device: torch.device) -> None:
    """Raise `SettingError` if a device has no products of a precision, or slow ones."""
    if precision == "int8":
        check_int8(device)
    if precision == "fp16" and device.type == "cpu":
        raise SettingError("`fp16` is for a GPU, not the CPU; use `int8` instead, or leave it out")


def check_int8(device: torch.device) -> None:
    """Raise `SettingError` where there are no 8-bit products."""
    if device.type != "cpu":
        raise SettingError(f"`int8` is for the CPU, not {device}; use it with `device='cpu'`")
    there = hasattr(torch.ops.quantized, "linear_with_input_q_dq_qweight_dq_output_fp32")
    if not there or torch.backends.quantized.engine not in _ENGINES:
        raise SettingError(
            f"PyTorch {torch.__version__} has no 8-bit products for this CPU; leave `int8` out"
        )
