"""An update is truncated BPTT with clipping, in every precision and as a CUDA graph."""

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from charnn.text.batches import Position
from charnn.training import loop
from charnn.training.loop import train_steps
from charnn.training.optimizer import LossScale, learning_rate
from charnn.training.reports import StepReport
from charnn.training.state import TrainState
from charnn.training.update import StepStats, Update
from tests.fake_cuda_graph import fake_cuda_graphs
from tests.training.small_run import (
    FP16_MODEL,
    FP16_TRAIN,
    MODEL,
    TRAIN,
    assert_equal,
    copy_of,
    overflow_when,
    resumed,
    start,
    train_to_end,
)


def test_updates_equal_a_plain_loop_with_clipping_and_carried_state() -> None:
    model, train = replace(MODEL, dropout=0.0), replace(TRAIN, steps=5)
    state, batches = start(model, train)
    list(train_steps(state, batches, train))

    plain, _ = start(model, train)
    optimizer = torch.optim.AdamW(
        plain.network.parameters(), betas=(0.9, train.beta2), weight_decay=train.weight_decay
    )
    recurrent, position = plain.network.zero_state(3), Position()
    for step in range(5):
        inputs, targets, after = batches.window_at(position)
        logits, recurrent = plain.network(inputs, recurrent)
        optimizer.zero_grad()
        F.cross_entropy(logits.flatten(0, 1), targets.flatten()).backward()
        gradients = [p.grad for p in plain.network.parameters() if p.grad is not None]
        norm = torch.cat([g.flatten() for g in gradients]).norm()
        for gradient in gradients:
            gradient *= min(1.0, train.clip / norm.item())
        optimizer.param_groups[0]["lr"] = learning_rate(step, train)
        optimizer.step()
        recurrent = recurrent.detach()
        if after.epoch != position.epoch:
            recurrent = torch.zeros_like(recurrent)
        position = after
    ours, theirs = state.network.parameters(), plain.network.parameters()
    for weight, plain_weight in zip(ours, theirs, strict=True):
        torch.testing.assert_close(weight, plain_weight, atol=1e-5, rtol=1e-4)


def test_an_update_returns_the_loss_before_it_and_the_norm_before_clipping() -> None:
    model, train = replace(MODEL, dropout=0.0), replace(TRAIN, clip=1e-3)
    state, batches = start(model, train)
    inputs, targets, _ = batches.window_at(Position())
    logits, _ = state.network(inputs, state.recurrent)
    expected = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
    gradients = torch.autograd.grad(expected, list(state.network.parameters()))
    stats = Update(state, train)(inputs, targets, 0.01)
    torch.testing.assert_close(stats.loss, expected.detach())
    torch.testing.assert_close(
        stats.gradient_norm, torch.cat([g.flatten() for g in gradients]).norm()
    )
    assert stats.loss_scale is None


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_lower_precision_trains_nearly_the_same(precision: str) -> None:
    model = replace(MODEL, cell="gru", dropout=0.0)
    exact, _ = train_to_end(model)
    rough, _ = train_to_end(model, replace(TRAIN, precision=precision))
    for one, other in zip(exact, rough, strict=True):
        assert isinstance(one, StepReport)
        assert isinstance(other, StepReport)
        assert other.loss == pytest.approx(one.loss, rel=0.02)
        assert other.loss != one.loss


def loss_scale(state: TrainState) -> LossScale:
    assert state.loss_scale is not None
    return LossScale.from_tensor(state.loss_scale)


def test_an_overflow_skips_its_update_and_halves_the_loss_scale(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    overflow_when(monkeypatch, lambda state: state.step == 3)
    state, batches = start(FP16_MODEL, FP16_TRAIN)
    steps = train_steps(state, batches, FP16_TRAIN)
    for _ in range(3):
        next(steps)
    before = {name: tensor.clone() for name, tensor in state.network.state_dict().items()}
    report = next(steps)
    assert isinstance(report, StepReport)
    assert report.gradient_norm == float("inf")
    assert_equal(dict(state.network.state_dict()), before)
    assert loss_scale(state) == LossScale(2.0**15, 0, 1)
    next(steps)
    assert loss_scale(state) == LossScale(2.0**15, 1, 0)
    assert state.rollbacks == 0


@pytest.mark.medium
@pytest.mark.parametrize(
    ("cell", "optimizer", "precision"),
    [  # each pair of two settings occurs
        ("lstm", "muon", "fp32"), ("lstm", "adamw", "fp16"), ("gru", "muon", "fp16"),
        ("gru", "adamw", "fp32"), ("rnn", "muon", "fp32"), ("rnn", "adamw", "fp16"),
    ],
)  # fmt: skip
def test_a_graphed_update_equals_the_eager_one_and_waits_for_nothing(
    monkeypatch: pytest.MonkeyPatch, cell: str, optimizer: str, precision: str
) -> None:
    """Over new epochs and snapshots, and in a resumed run that captures a graph of its own."""
    # oneDNN's LSTM keeps values for its backward pass that a replay cannot copy.
    monkeypatch.setattr(torch.backends.mkldnn, "enabled", False)
    monkeypatch.setattr(loop, "SNAPSHOT_EVERY", 15)
    model = replace(MODEL, cell=cell)
    train = replace(TRAIN, optimizer=optimizer, precision=precision, steps=37)
    expected, expected_state = train_to_end(model, train)
    with fake_cuda_graphs() as graphs:
        assert train_to_end(model, train, 1000)[0] == expected
        first, batches = start(model, train)
        steps = train_steps(first, batches, train, 9)
        begun = [next(steps) for _ in range(18)]
        second = resumed(first, model, train)
        assert begun + list(train_steps(second, batches, train, 1000)) == expected
    assert_equal(copy_of(second), expected_state)
    assert len(graphs) == 3


def test_an_update_that_waits_for_the_device_is_not_captured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    train = replace(TRAIN, optimizer="muon")
    expected, expected_state = train_to_end(train=train)
    run = Update.run

    def waiting(update: Update, *arguments: Any) -> StepStats:
        stats = run(update, *arguments)
        stats.loss.item()
        return stats

    monkeypatch.setattr(Update, "run", waiting)
    with fake_cuda_graphs():
        (warning, *reports), state = train_to_end(train=train, sync_every=1000)
    assert "operation not permitted" in str(warning)
    assert reports == expected
    assert_equal(state, expected_state)
