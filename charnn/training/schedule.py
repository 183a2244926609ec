"""The learning rate as a pure function of the step."""

import math

from charnn.config import TrainConfig


def learning_rate(step: int, config: TrainConfig) -> float:
    """The rate of update `step` (from 0): a linear rise, then half a cosine to the last step."""
    rise = max(1, round(config.warmup * config.steps))
    if step < rise:
        return config.learning_rate * (step + 1) / rise
    done = (step - rise) / max(1, config.steps - 1 - rise)
    wave = 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
    return config.learning_rate * (config.final_rate + (1 - config.final_rate) * wave)
