"""How fast training is on this machine is found out without harm, and whatever runs beside it."""

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from charnn.config import ModelConfig, TrainConfig
from charnn.training import speed as module
from charnn.training.reports import StepReport
from charnn.training.speed import Speed, SpeedTest
from charnn.training.state import TrainState

MODEL = ModelConfig(5, hidden_size=6, num_layers=1, embedding_size=4)
TRAIN = TrainConfig(steps=9, batch_size=3, seq_len=7, learning_rate=0.01, seed=4)
TEXT = np.random.default_rng(0).integers(5, size=2000, dtype=np.uint8)


def test_a_few_slow_steps_do_not_change_the_undisturbed_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def steps(state: TrainState, *_: Any) -> Iterator[StepReport]:
        while True:
            for pause in (0.002, 0.002, 0.002, 0.03):
                time.sleep(2 * pause)
                state.step += 2  # made together
                yield StepReport(state.step - 1, 1.0, 1.0, 1.0)
                yield StepReport(state.step, 1.0, 1.0, 1.0)

    monkeypatch.setattr(module, "train_steps", steps)
    speed = SpeedTest(TEXT, torch.device("cpu")).measure(MODEL, TRAIN, 0.4)
    assert 0.002 <= speed.undisturbed < 0.006
    assert speed.step > 1.5 * speed.undisturbed


def test_a_measurement_changes_no_random_number_of_the_caller() -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    SpeedTest(TEXT, torch.device("cpu")).measure(MODEL, TRAIN, 0.01)
    assert torch.equal(torch.rand(3), expected)


def test_without_disturbance_both_times_are_one() -> None:
    assert Speed(0.5, 0.1).undisturbed == 0.5
