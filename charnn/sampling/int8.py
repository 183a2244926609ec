"""Products of 8-bit integers: a quarter of the bytes that a step must read.

Weights have a scale for each unit. What they are multiplied with is h, which lies between -1 and 1,
so that its scale is fixed and a row does not depend on the others. It has 7 bits: with 8 the
instructions of CPUs before VNNI overflow.
"""

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from charnn.errors import SettingError

_SCALE, _ZERO = 1 / 63.5, 64
_ENGINES = ("x86", "fbgemm")


class Int8Product:
    """Weight [N, K], about, times h [K, B] between -1 and 1, and a bias."""

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

    def of(self, h: Tensor, out: Tensor) -> Callable[[], object]:
        """What writes it into `out` [N, B], from what `h` is by then."""
        multiply, packed, rows, sums = self._multiply, self._packed, h.t(), out.t()
        return lambda: sums.copy_(multiply(rows, _SCALE, _ZERO, packed))


def check_int8(device: torch.device) -> None:
    """`SettingError` where there are no such products."""
    if device.type != "cpu":
        raise SettingError(f"int8 is for the CPU, not {device}; give --device cpu too")
    there = hasattr(torch.ops.quantized, "linear_with_input_q_dq_qweight_dq_output_fp32")
    if not there or torch.backends.quantized.engine not in _ENGINES:
        raise SettingError(
            f"int8: PyTorch {torch.__version__} has no such products for this CPU; leave --int8 out"
        )
