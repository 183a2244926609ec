"""Units whose state is clamped to a value while a model generates, which shows what they do."""

import numbers
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from charnn.config import ModelConfig
from charnn.errors import SettingError
from charnn.sampling.arrays import like
from charnn.words import shown

MAX_CELL_STATE = 1e30  # float32 holds it, and tanh is 1 from 20 on


class Clamp(NamedTuple):
    """A unit of a layer, both counted from 0, and the value of its state after every step.

    The state is the cell state where the cell has one, so that h = o tanh(value), otherwise the
    hidden state.
    """

    layer: int
    unit: int
    value: float


def check_clamps(config: ModelConfig, clamps: Sequence[Clamp]) -> None:
    """Raise `SettingError` for a unit that the model does not have, one that is clamped twice, or a
    value that its state cannot have."""
    limit, state = (MAX_CELL_STATE, "cell") if config.cell == "lstm" else (1.0, "hidden")
    for clamp in clamps:
        _check_types(clamp)
        config.check_unit(clamp.layer, clamp.unit)
        if not abs(clamp.value) <= limit:
            raise SettingError(
                f"unit {clamp.layer}:{clamp.unit} = {shown(clamp.value)}: a {state} state of this "
                f"model lies between {-limit:g} and {limit:g}"
            )
    units = [clamp[:2] for clamp in clamps]
    for layer, unit in units:
        if units.count((layer, unit)) > 1:
            raise SettingError(f"unit {layer}:{unit} is clamped twice; give it one value")


def _check_types(clamp: object) -> None:
    """Raise `SettingError` unless the clamp is one, of whole numbers and a number."""
    kinds = (numbers.Integral, numbers.Integral, numbers.Real)
    if not isinstance(clamp, Clamp):
        raise SettingError(f"a clamp is Clamp(layer=0, unit=3, value=1.0), not {clamp!r:.80}")
    if not all(isinstance(part, kind) for part, kind in zip(clamp, kinds, strict=True)):
        raise SettingError(
            f"a clamp has a whole layer and unit and a number as its value, not {clamp!r:.80}"
        )


class LayerClamps:
    """The clamped units of one layer, and their values."""

    def __init__(self, clamps: Sequence[Clamp]) -> None:
        self._units = [clamp.unit for clamp in clamps]
        self._values = np.array([clamp.value for clamp in clamps])

    def apply(self, state: Any) -> None:
        """Overwrite the clamped units of a layer's state in place: torch's [H, B], or NumPy's [H]
        of a single text."""
        values: Any = self._values
        if not isinstance(state, np.ndarray):
            values = like(values, state, state.dtype)[:, None]
        state[self._units] = values


def layer_clamps(clamps: Sequence[Clamp], num_layers: int) -> list[LayerClamps | None]:
    """Return the clamps of each layer, None where no unit is clamped."""
    by_layer = ([clamp for clamp in clamps if clamp.layer == n] for n in range(num_layers))
    return [LayerClamps(some) if some else None for some in by_layer]
