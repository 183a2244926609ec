"""Units that are held at a value while a model writes, so that one sees what they do."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from charnn.config import ModelConfig
from charnn.errors import SettingError

MOST = 1e30  # float32 holds it, and tanh is 1 from 20 on


class Clamp(NamedTuple):
    """A unit of a layer, both counted from 0, and what its state is after every step: the cell
    state where the cell has one, so that h = o tanh(value), otherwise the hidden state."""

    layer: int
    unit: int
    value: float


def check_clamps(config: ModelConfig, clamps: Sequence[Clamp]) -> None:
    """`SettingError` for a unit that the model has not, one that is named twice, or a value that
    its state cannot have."""
    most, state = (MOST, "cell") if config.cell == "lstm" else (1.0, "hidden")
    for clamp in clamps:
        config.check_unit(clamp.layer, clamp.unit)
        if not abs(clamp.value) <= most:
            raise SettingError(
                f"unit {clamp.layer}:{clamp.unit} = {clamp.value:g}: a {state} state of this model "
                f"lies between {-most:g} and {most:g}"
            )
    units = [clamp[:2] for clamp in clamps]
    for layer, unit in units:
        if units.count((layer, unit)) > 1:
            raise SettingError(f"unit {layer}:{unit} is clamped twice; give it one value")


class Held:
    """The units of one layer that are held, in the form in which a state takes them."""

    def __init__(self, clamps: Sequence[Clamp], layer: int) -> None:
        some = [clamp for clamp in clamps if clamp.layer == layer]
        self._units = [clamp.unit for clamp in some]
        self._values = np.array([clamp.value for clamp in some])

    def into(self, state: Any) -> bool:
        """Write the values into a layer's state: torch's [H, B], or numpy's [H] of a single text.
        Whether there were any."""
        if self._units:
            values: Any = self._values
            if isinstance(state, Tensor):
                values = torch.from_numpy(values).to(state)[:, None]
            state[self._units] = values
        return bool(self._units)
