"""When a run validates, and on how much of its validation part."""

import math
from collections.abc import Mapping
from typing import Any

from charnn.config import TrainConfig, ValidationConfig
from charnn.model.evaluate import lanes_layout

VALIDATION_SHARE = 0.08  # of the cost of training; the promise is under a tenth
MAX_VALIDATIONS = 20
MIN_VALIDATIONS = 10  # rather than fewer, each reads less of a long validation part
MIN_VALIDATION_SYMBOLS = 2_000  # less would be noise
MAX_VALIDATION_SYMBOLS = 1_000_000
FULL_SHARE = 0.1  # of the cost of training; the most that measuring the best model may cost
ALWAYS_FULL = 20_000  # symbols that are measured whatever training costs
FORWARD_COST = 1 / 3  # of a training step: the backward pass costs two forward passes


def symbols_per_step(train: TrainConfig, record_length: float | None) -> float:
    """Return the mean symbols that a step reads: of records, one per lane, or the part of it that
    fits a window."""
    if record_length is None:
        return train.batch_size * train.seq_len
    return train.batch_size * record_length / math.ceil(record_length / train.seq_len)


def affords_full(trained_symbols: float, val_symbols: int) -> bool:
    """Return whether a run that reads so many symbols may measure its best model on all of a
    validation part."""
    affordable = FULL_SHARE * trained_symbols / FORWARD_COST
    return lanes_layout(val_symbols).characters_read <= max(ALWAYS_FULL, affordable)


def plan_validation(
    train: TrainConfig, symbols: int, given: Mapping[str, Any], record_length: float | None = None
) -> ValidationConfig:
    """Return when to validate, on a validation part of `symbols`."""
    window = symbols_per_step(train, record_length)
    every, characters, _ = plan_validations(train.steps, window, symbols)
    values = {"val_every": every, "val_characters": characters} | dict(given)
    return ValidationConfig(**{k: v for k, v in values.items() if k in ValidationConfig.names()})


def plan_validations(steps: int, window: float, symbols: int) -> tuple[int, int, int]:
    """Return the steps between validations, the characters of the validation part that each may
    use, and the characters that go through the network for it."""
    affordable = VALIDATION_SHARE * steps * window / FORWARD_COST
    characters = int(affordable / MIN_VALIDATIONS)
    characters = max(
        2, min(max(characters, MIN_VALIDATION_SYMBOLS), MAX_VALIDATION_SYMBOLS, symbols)
    )
    read = lanes_layout(characters).characters_read if symbols > 1 else 0
    often = int(affordable / read) if read else MAX_VALIDATIONS
    often = max(1, min(often, MAX_VALIDATIONS, steps // MIN_VALIDATIONS))
    return math.ceil(steps / often), characters, read
