"""A tiny model, text and schedule that tests of training share, and what they do with it."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from charnn.config import ModelConfig, TrainConfig
from charnn.text.batches import Batches, RecordBatches, batches_of
from charnn.text.records import Records
from charnn.training.loop import train_steps
from charnn.training.reports import Rollback, StepReport, TrainingWarning
from charnn.training.state import TrainState
from charnn.training.update import StepStats, Update

MODEL = ModelConfig(5, hidden_size=6, num_layers=2, embedding_size=4, dropout=0.2)
TRAIN = TrainConfig(steps=12, batch_size=3, seq_len=7, learning_rate=0.01, seed=4, clip=0.5)
FP16_MODEL, FP16_TRAIN = replace(MODEL, cell="gru"), replace(TRAIN, precision="fp16", steps=60)
TEXT = np.random.default_rng(0).integers(5, size=150, dtype=np.uint8)
CPU = torch.device("cpu")

Reports = list[StepReport | Rollback | TrainingWarning]


def start(model: ModelConfig = MODEL, train: TrainConfig = TRAIN) -> tuple[TrainState, Batches]:
    """Return a new training state and the windows of `TEXT`."""
    batches = Batches(TEXT, train.batch_size, train.seq_len, train.seed)
    return TrainState.start(model, train, batches.batch_size, CPU), batches


def start_on_records() -> tuple[TrainState, Batches | RecordBatches]:
    """Return a new training state and the windows of `TEXT` as records that end with a 0."""
    batches = batches_of(Records(TEXT, 0), TRAIN.batch_size, 4, TRAIN.seed)
    return TrainState.start(MODEL, TRAIN, batches.batch_size, CPU), batches


def train_to_end(
    model: ModelConfig = MODEL, train: TrainConfig = TRAIN, sync_every: int = 1
) -> tuple[Reports, dict[str, Tensor]]:
    """Return all reports of a run, and a copy of the state that it ends in."""
    state, batches = start(model, train)
    reports = list(train_steps(state, batches, train, sync_every))
    return reports, copy_of(state)


def copy_of(state: TrainState) -> dict[str, Tensor]:
    """Return copies of all tensors of a state."""
    weights = {f"weights.{name}": tensor for name, tensor in state.network.state_dict().items()}
    return {name: tensor.clone() for name, tensor in (weights | state.tensors()).items()}


def assert_equal(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    """Compare two copies of states bit by bit."""
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert torch.equal(tensor, theirs[name]), name


def resumed(
    state: TrainState, model: ModelConfig = MODEL, train: TrainConfig = TRAIN
) -> TrainState:
    """Return a new state that continues from what a checkpoint of `state` would hold."""
    other, _ = start(model, train)
    weights = {name: tensor.clone() for name, tensor in state.network.state_dict().items()}
    other.restore(weights, state.progress(), state.tensors())
    return other


def poison(state: TrainState) -> None:
    """Make the next loss NaN."""
    with torch.no_grad():
        state.network.head.bias[0] = float("inf")


def overflow_when(
    monkeypatch: pytest.MonkeyPatch, when: Callable[[TrainState], bool]
) -> list[tuple[int, float]]:
    """Let gradients overflow when `when` holds; return where they have, as step and loss scale."""
    clip, overflows, states = torch.nn.utils.clip_grad_norm_, [], []
    update = Update.__call__

    def watched(self: Update, inputs: Tensor, targets: Tensor, rate: float) -> StepStats:
        states.append(self._state)
        return update(self, inputs, targets, rate)

    def clipped(parameters: Any, limit: float, **options: Any) -> Tensor:
        norm = clip(parameters, limit, **options)
        state = states[-1]
        if not when(state):
            return norm
        assert state.loss_scale is not None
        overflows.append((state.step, state.loss_scale[0].item()))
        return torch.tensor(float("inf"))

    monkeypatch.setattr(Update, "__call__", watched)
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", clipped)
    return overflows
