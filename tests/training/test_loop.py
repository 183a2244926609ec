"""Training follows from the seed, carries its state, and stops before harm."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from charnn.config import ModelConfig, TrainConfig
from charnn.errors import TrainingError
from charnn.text.batches import Batches, Position
from charnn.training.loop import StepReport, TrainState, train_steps
from charnn.training.schedule import learning_rate

MODEL = ModelConfig(5, hidden_size=6, num_layers=2, embedding_size=4, dropout=0.2)
TRAIN = TrainConfig(
    steps=12, batch_size=3, seq_len=7, learning_rate=0.01, seed=4, val_every=12, clip=0.5
)
TEXT = np.random.default_rng(0).integers(5, size=150, dtype=np.uint8)
CPU = torch.device("cpu")


def started(model: ModelConfig = MODEL, train: TrainConfig = TRAIN) -> tuple[TrainState, Batches]:
    batches = Batches(TEXT, train.batch_size, train.seq_len, train.seed)
    return TrainState.start(model, train, batches.batch_size, CPU), batches


def reports(model: ModelConfig = MODEL, train: TrainConfig = TRAIN) -> list[StepReport]:
    state, batches = started(model, train)
    return list(train_steps(state, batches, train))


def test_the_same_seed_gives_the_same_numbers_and_another_does_not() -> None:
    assert reports() == reports()
    assert reports() != reports(train=replace(TRAIN, seed=0))


def test_steps_and_rates_are_reported_as_scheduled() -> None:
    assert [r.step for r in reports()] == list(range(1, 13))
    assert [r.learning_rate for r in reports()] == [learning_rate(s, TRAIN) for s in range(12)]


def test_updates_equal_a_plain_loop_with_clipping_over_carried_state() -> None:
    model, train = replace(MODEL, dropout=0.0), replace(TRAIN, steps=5)
    state, batches = started(model, train)
    network = state.network
    list(train_steps(state, batches, train))

    plain, _ = started(model, train)
    optimizer = torch.optim.AdamW(
        plain.network.parameters(), betas=(0.9, train.beta2), weight_decay=train.weight_decay
    )
    recurrent, position = plain.network.zero_state(3), Position()
    for step in range(5):
        inputs, targets, after = batches.at(position)
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
    for ours, theirs in zip(network.parameters(), plain.network.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


def test_a_new_epoch_begins_with_an_empty_state() -> None:
    state, batches = started()
    for report in train_steps(state, batches, TRAIN):  # noqa: B007 - used after the loop
        fresh = state.position.window == 0
        assert fresh == (not state.recurrent.any())
        if fresh:
            break
    assert report.step == batches.windows(0)


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_stopping_and_going_on_equals_never_stopping(cell: str) -> None:
    model = replace(MODEL, cell=cell)
    whole, batches = started(model)
    straight = list(train_steps(whole, batches, TRAIN))

    first, _ = started(model)
    steps = train_steps(first, batches, TRAIN)
    begun = [next(steps) for _ in range(5)]
    kept = {name: tensor.clone() for name, tensor in first.tensors().items()}
    weights = {name: tensor.clone() for name, tensor in first.network.state_dict().items()}

    second, _ = started(model)
    torch.manual_seed(99)
    second.network.load_state_dict(weights)
    second.restore(first.progress(), kept)
    assert begun + list(train_steps(second, batches, TRAIN)) == straight
    for ours, theirs in zip(second.network.parameters(), whole.network.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_a_loss_that_is_not_finite_never_reaches_the_weights() -> None:
    state, batches = started()
    with torch.no_grad():
        state.network.head.bias[0] = float("inf")
    before = {name: tensor.clone() for name, tensor in state.network.state_dict().items()}
    with pytest.raises(TrainingError, match=r"step 1: the loss is nan.*--learning-rate 0\.005"):
        next(train_steps(state, batches, TRAIN))
    for name, tensor in state.network.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_the_callers_random_numbers_and_the_runs_do_not_mix() -> None:
    undisturbed = reports()
    torch.manual_seed(77)
    expected = torch.rand(3)
    torch.manual_seed(77)
    state, batches = started()
    drawn, mixed = [torch.rand(1)], []
    for report in train_steps(state, batches, TRAIN):
        mixed.append(report)
        if len(drawn) < 3:
            drawn.append(torch.rand(1))
    assert mixed == undisturbed
    assert torch.equal(torch.cat(drawn), expected)
