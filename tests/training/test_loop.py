"""Training follows from the seed, carries its state, and stops before harm."""

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from charnn.config import ModelConfig, TrainConfig
from charnn.errors import CheckpointError, TrainingError
from charnn.text.batches import Batches, Position, batches_of
from charnn.text.records import Records
from charnn.training import loop
from charnn.training.loop import Rollback, StepReport, TrainingWarning, train_steps
from charnn.training.optimizer import LossScale, learning_rate
from charnn.training.state import TrainState
from charnn.training.update import Update
from tests.conftest import exploding, several_steps_per_sync
from tests.fake_cuda_graph import recordings

MODEL = ModelConfig(5, hidden_size=6, num_layers=2, embedding_size=4, dropout=0.2)
TRAIN = TrainConfig(steps=12, batch_size=3, seq_len=7, learning_rate=0.01, seed=4, clip=0.5)
TEXT = np.random.default_rng(0).integers(5, size=150, dtype=np.uint8)
CPU = torch.device("cpu")


def started(model: ModelConfig = MODEL, train: TrainConfig = TRAIN) -> tuple[TrainState, Batches]:
    batches = Batches(TEXT, train.batch_size, train.seq_len, train.seed)
    return TrainState.start(model, train, batches.batch_size, CPU), batches


def reports(model: ModelConfig = MODEL, train: TrainConfig = TRAIN) -> list[Any]:
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
    for ours, theirs in zip(network.parameters(), plain.network.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


def test_records_begin_with_an_empty_state_and_long_ones_carry_theirs() -> None:
    batches = batches_of(Records(TEXT, 0), TRAIN.batch_size, 4, TRAIN.seed)
    state = TrainState.start(MODEL, TRAIN, batches.batch_size, CPU)
    found = set()
    for _ in train_steps(state, batches, TRAIN):
        begins = batches.starts_from_zero(state.position)
        assert begins == (not state.recurrent.any())
        found.add(begins)
    assert found == {True, False}


def test_a_new_epoch_begins_with_an_empty_state() -> None:
    state, batches = started()
    for report in train_steps(state, batches, TRAIN):  # noqa: B007 - used after the loop
        fresh = state.position.window == 0
        assert fresh == (not state.recurrent.any())
        if fresh:
            break
    assert isinstance(report, StepReport)
    assert report.step == batches.num_windows(0)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_stopping_and_going_on_equals_never_stopping(cell: str, optimizer: str) -> None:
    model, train = replace(MODEL, cell=cell), replace(TRAIN, optimizer=optimizer)
    whole, batches = started(model, train)
    straight = list(train_steps(whole, batches, train))

    first, _ = started(model, train)
    steps = train_steps(first, batches, train)
    begun = [next(steps) for _ in range(5)]
    kept = {name: tensor.clone() for name, tensor in first.tensors().items()}
    weights = {name: tensor.clone() for name, tensor in first.network.state_dict().items()}

    second, _ = started(model, train)
    torch.manual_seed(99)
    second.restore(weights, first.progress(), kept)
    assert begun + list(train_steps(second, batches, train)) == straight
    for ours, theirs in zip(second.network.parameters(), whole.network.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_what_one_optimizer_remembers_is_nothing_to_the_other() -> None:
    state, batches = started()
    next(train_steps(state, batches, TRAIN))
    other, _ = started(train=replace(TRAIN, optimizer="muon"))
    weights = state.network.state_dict()
    with pytest.raises(CheckpointError, match=r"optimizer\.layers\.0\.weight_hh_l0\.exp_avg"):
        other.restore(weights, state.progress(), state.tensors())


def poison(state: TrainState) -> None:
    """Make the next loss a number that is none."""
    with torch.no_grad():
        state.network.head.bias[0] = float("inf")


def everything(state: TrainState) -> dict[str, torch.Tensor]:
    weights = {f"w.{name}": tensor for name, tensor in state.network.state_dict().items()}
    return {name: tensor.clone() for name, tensor in (weights | state.tensors()).items()}


def assert_same(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert torch.equal(tensor, theirs[name]), name


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_loss_that_is_not_finite_takes_all_back_to_the_snapshot_at_half_the_rate(
    monkeypatch: pytest.MonkeyPatch, optimizer: str
) -> None:
    monkeypatch.setattr(loop, "SNAPSHOT_EVERY", 4)
    train = replace(TRAIN, optimizer=optimizer)
    state, batches = started(train=train)
    steps: Iterator[Any] = train_steps(state, batches, train)
    for _ in range(4):
        next(steps)
    at_four = everything(state)
    for _ in range(2):
        next(steps)
    poison(state)
    report = next(steps)
    assert isinstance(report, Rollback)
    assert (report.step, report.to, report.learning_rate) == (7, 4, 0.005)
    assert "loss nan" in report.problem
    assert (state.step, state.rollbacks) == (4, 1)
    assert_same(everything(state), at_four)
    rest = list(steps)
    assert [r.step for r in rest] == list(range(5, 13))
    assert [r.learning_rate for r in rest] == [learning_rate(s, TRAIN) / 2 for s in range(4, 12)]


@pytest.mark.parametrize("most", [0, 2])
def test_after_so_many_rollbacks_training_stops_with_untouched_weights(most: int) -> None:
    train = replace(TRAIN, max_rollbacks=most)
    state, batches = started(train=train)
    poison(state)
    state.keep()
    before = everything(state)
    steps = train_steps(state, batches, train)
    for number in range(most):
        assert isinstance(next(steps), Rollback)
        assert state.rollbacks == number + 1
        assert_same(everything(state), before)
    with pytest.raises(TrainingError, match=r"step 1: loss nan.*--learning-rate 0\.005"):
        next(steps)
    for name, tensor in state.network.state_dict().items():
        assert torch.equal(tensor, before[f"w.{name}"])


@pytest.mark.parametrize("stop", [1, 3, 4, 6])
def test_a_run_with_rollbacks_that_is_stopped_and_resumed_ends_as_a_straight_one(
    stop: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # An explosion at a fixed place of the text, so that it comes again after the return, until the
    # learning rate is small enough.
    monkeypatch.setattr(loop, "SNAPSHOT_EVERY", 3)
    with exploding(lambda state, rate: state.step == 4 and rate > 0.003, math.nan):
        whole, batches = started()
        straight = list(train_steps(whole, batches, TRAIN))
        assert sum(isinstance(report, Rollback) for report in straight) == whole.rollbacks == 2

        first, _ = started()
        begun = []
        for report in train_steps(first, batches, TRAIN):
            begun.append(report)
            if isinstance(report, StepReport) and report.step == stop:
                break
        second, _ = started()
        weights = {name: tensor.clone() for name, tensor in first.network.state_dict().items()}
        second.restore(weights, first.progress(), first.tensors())
        assert begun + list(train_steps(second, batches, TRAIN)) == straight
        assert_same(everything(second), everything(whole))


def numbers_of(
    train: TrainConfig, pause: int = 1, cell: str = "lstm"
) -> tuple[list[StepReport | Rollback | TrainingWarning], dict[str, torch.Tensor]]:
    state, batches = started(replace(MODEL, cell=cell), train)
    made = list(train_steps(state, batches, train, pause))
    return made, everything(state)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("steps", [12, 47])
def test_steps_made_together_are_the_steps_made_one_by_one(
    monkeypatch: pytest.MonkeyPatch, optimizer: str, steps: int
) -> None:
    monkeypatch.setattr(loop, "SNAPSHOT_EVERY", 15)
    train = replace(TRAIN, optimizer=optimizer, steps=steps)
    alone = numbers_of(train)
    with several_steps_per_sync():
        some = numbers_of(train, 9), numbers_of(train, 1000)
    for made, left in some:
        assert made == alone[0]
        assert_same(left, alone[1])


def test_explosions_within_steps_made_together_take_back_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(loop, "SNAPSHOT_EVERY", 5)
    with exploding(lambda state, rate: state.step in (3, 8) and rate > 0.003):
        alone = numbers_of(TRAIN)
        with several_steps_per_sync():
            made, left = numbers_of(TRAIN, 1000)
    assert sum(isinstance(report, Rollback) for report in made) == 2
    assert made == alone[0]
    assert_same(left, alone[1])


def test_no_step_is_made_beyond_a_pause() -> None:
    state, batches = started()
    with several_steps_per_sync():
        for report in train_steps(state, batches, TRAIN, 5):
            assert isinstance(report, StepReport)
            assert report.step <= state.step
            assert (report.step - 1) // 5 == (state.step - 1) // 5


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_a_recorded_update_is_the_update_and_waits_for_nothing(
    monkeypatch: pytest.MonkeyPatch, cell: str, optimizer: str, precision: str
) -> None:
    """Over new epochs, snapshots, and a resumed run that makes a recording of its own."""
    # oneDNN's LSTM keeps notes for its backward pass that a replay cannot copy
    monkeypatch.setattr(torch.backends.mkldnn, "enabled", False)
    monkeypatch.setattr(loop, "SNAPSHOT_EVERY", 15)
    train = replace(TRAIN, optimizer=optimizer, precision=precision, steps=37)
    alone = numbers_of(train, cell=cell)
    with recordings() as made:
        assert numbers_of(train, 1000, cell)[0] == alone[0]
        first, batches = started(replace(MODEL, cell=cell), train)
        steps = train_steps(first, batches, train, 9)
        begun = [next(steps) for _ in range(18)]
        second, _ = started(replace(MODEL, cell=cell), train)
        weights = {name: tensor.clone() for name, tensor in first.network.state_dict().items()}
        second.restore(weights, first.progress(), first.tensors())
        assert begun + list(train_steps(second, batches, train, 1000)) == alone[0]
    assert_same(everything(second), alone[1])
    assert len(made) == 3


def test_records_whose_windows_differ_in_length_are_not_recorded() -> None:
    def made() -> list[Any]:
        batches = batches_of(Records(TEXT, 0), TRAIN.batch_size, 4, TRAIN.seed)
        state = TrainState.start(MODEL, TRAIN, batches.batch_size, CPU)
        return list(train_steps(state, batches, TRAIN, 1000))

    alone = made()
    with recordings() as graphs:
        assert made() == alone
    assert not graphs


def test_an_update_that_waits_is_told_and_made_anew_each_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    train = replace(TRAIN, optimizer="muon")
    alone = numbers_of(train)
    after = Update.run

    def waiting(update: Update, *arguments: Any) -> Tensor:
        told = after(update, *arguments)
        told.sum().item()
        return told

    monkeypatch.setattr(Update, "run", waiting)
    with recordings():
        (trouble, *made), left = numbers_of(train, 1000)
    assert "operation not permitted" in str(trouble)
    assert made == alone[0]
    assert_same(left, alone[1])


@pytest.mark.parametrize("together", [False, True])
def test_the_steps_before_the_end_of_training_are_reported(together: bool) -> None:
    train = replace(TRAIN, max_rollbacks=0)
    with contextlib.ExitStack() as stack:
        stack.enter_context(exploding(lambda state, _: state.step == 7))
        if together:
            stack.enter_context(several_steps_per_sync())
        state, batches = started(train=train)
        seen: list[Any] = []
        with pytest.raises(TrainingError, match="step 8: loss inf"):
            seen.extend(train_steps(state, batches, train, 1000))
    assert [report.step for report in seen] == list(range(1, 8))
    assert state.step == 0


def exploded(cell: str) -> tuple[list[Any], dict[str, torch.Tensor]]:
    state, batches = started(replace(MODEL, cell=cell))
    steps = train_steps(state, batches, TRAIN, 4)
    begun = [next(steps) for _ in range(4)]
    poison(state)
    return begun + list(steps), everything(state)


@pytest.mark.parametrize("cell", ["gru", "rnn"])
def test_a_recording_outlives_a_rollback(monkeypatch: pytest.MonkeyPatch, cell: str) -> None:
    monkeypatch.setattr(loop, "SNAPSHOT_EVERY", 3)
    with several_steps_per_sync():
        expected, left = exploded(cell)
    with recordings() as made:
        told, ours = exploded(cell)
    assert any(isinstance(report, Rollback) for report in told)
    assert told == expected
    assert_same(ours, left)
    assert len(made) == 1


def test_what_cannot_be_recorded_is_trained_step_by_step_and_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: Any) -> None:
        raise RuntimeError("operation not permitted\nand much more")

    alone = numbers_of(TRAIN)
    with several_steps_per_sync():
        monkeypatch.setattr(loop, "GraphedUpdate", refuse)
        made, left = numbers_of(TRAIN, 1000)
    assert made[1:] == alone[0]
    assert str(made[0]).endswith("is slower: operation not permitted")
    assert_same(left, alone[1])


def test_a_state_that_is_put_back_is_in_the_same_places() -> None:
    """A recording knows only where its numbers are."""
    train = replace(TRAIN, optimizer="muon")
    state, batches = started(train=train)
    steps = train_steps(state, batches, train)
    for _ in range(2):
        next(steps)
    places = {name: tensor.data_ptr() for name, tensor in state._live().items()}
    before, kept = state.copy(), everything(state)
    for _ in range(3):
        next(steps)
    state.put(before)
    assert_same(everything(state), kept)
    for name, tensor in state._live().items():
        assert "random" in name or tensor.data_ptr() == places[name]


def test_an_update_that_is_too_large_for_its_numbers_is_found_before_the_snapshot() -> None:
    train = replace(TRAIN, steps=1, learning_rate=1e300, max_rollbacks=1)
    state, batches = started(train=train)
    with pytest.raises(TrainingError, match="weights that are not finite"):
        list(train_steps(state, batches, train))
    assert state.step == 0
    assert all(torch.isfinite(tensor).all() for tensor in state.snapshot.tensors.values())


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


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_less_precise_activations_learn_nearly_the_same(precision: str) -> None:
    model = replace(MODEL, cell="gru", dropout=0.0)
    exact = reports(model)
    rough = reports(model, replace(TRAIN, precision=precision))
    for one, other in zip(exact, rough, strict=True):
        assert isinstance(one, StepReport)
        assert isinstance(other, StepReport)
        assert other.loss == pytest.approx(one.loss, rel=0.02)
        assert other.loss != one.loss


HALF = replace(TRAIN, precision="fp16", steps=60)


def overflowing(
    monkeypatch: pytest.MonkeyPatch, when: Callable[[TrainState], bool]
) -> list[tuple[int, float]]:
    """Make gradients overflow; where and at which scale they did."""
    clip, seen, states = torch.nn.utils.clip_grad_norm_, [], []
    update = Update.__call__

    def watched(self: Update, inputs: Tensor, targets: Tensor, rate: float) -> Tensor:
        states.append(self._state)
        return update(self, inputs, targets, rate)

    def clipped(parameters: Any, limit: float, **options: Any) -> torch.Tensor:
        norm = clip(parameters, limit, **options)
        state = states[-1]
        if not when(state):
            return norm
        assert state.loss_scale is not None
        seen.append((state.step, state.loss_scale[0].item()))
        return torch.tensor(float("inf"))

    monkeypatch.setattr(Update, "__call__", watched)
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", clipped)
    return seen


def scale_of(state: TrainState) -> LossScale:
    assert state.loss_scale is not None
    return LossScale.from_tensor(state.loss_scale)


def half() -> tuple[TrainState, Batches]:
    return started(replace(MODEL, cell="gru"), HALF)


def test_an_overflow_skips_its_update_and_halves_the_scale(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    overflowing(monkeypatch, lambda state: state.step == 3)
    state, batches = half()
    steps = train_steps(state, batches, HALF)
    for _ in range(3):
        next(steps)
    before = {name: tensor.clone() for name, tensor in state.network.state_dict().items()}
    report = next(steps)
    assert isinstance(report, StepReport)
    assert report.gradient_norm == float("inf")
    for name, tensor in state.network.state_dict().items():
        assert torch.equal(tensor, before[name])
    assert scale_of(state) == LossScale(2.0**15, 0, 1)
    next(steps)
    assert scale_of(state) == LossScale(2.0**15, 1, 0)
    assert state.rollbacks == 0


def test_overflows_that_do_not_end_take_training_back(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = overflowing(monkeypatch, lambda state: state.rollbacks == 0 and state.step >= 5)
    state, batches = half()
    made = list(train_steps(state, batches, HALF))
    rollbacks = [report for report in made if isinstance(report, Rollback)]
    # 2**16 halved 17 times is below 1, before 20 steps in a row have overflowed
    assert [(r.step, r.to) for r in rollbacks] == [(22, 0)]
    assert "17 overflows in a row" in rollbacks[0].problem
    assert [scale for _, scale in seen] == [2.0**p for p in range(16, -1, -1)]
    assert state.step == 60


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_overflows_within_steps_made_together_skip_the_same_updates(
    monkeypatch: pytest.MonkeyPatch, optimizer: str
) -> None:
    overflowing(
        monkeypatch,
        lambda state: state.step in (3, 4, 30) or (state.step > 35 and not state.rollbacks),
    )
    train = replace(HALF, optimizer=optimizer)
    alone = numbers_of(train, cell="gru")
    with several_steps_per_sync():
        made, left = numbers_of(train, 1000, "gru")
    assert sum(isinstance(report, Rollback) for report in made) == 1
    assert made == alone[0]
    assert_same(left, alone[1])


@pytest.mark.parametrize("stop", [4, 7, 23])
def test_a_half_precise_run_that_is_stopped_and_resumed_ends_as_a_straight_one(
    monkeypatch: pytest.MonkeyPatch, stop: int
) -> None:
    monkeypatch.setattr(loop, "SNAPSHOT_EVERY", 5)
    overflowing(monkeypatch, lambda state: state.rollbacks == 0 and state.step >= 6)
    whole, batches = half()
    straight = list(train_steps(whole, batches, HALF))
    first, _ = half()
    steps = train_steps(first, batches, HALF)
    begun = [next(steps) for _ in range(stop)]
    second, _ = half()
    weights = {name: tensor.clone() for name, tensor in first.network.state_dict().items()}
    second.restore(weights, first.progress(), first.tensors())
    assert begun + list(train_steps(second, batches, HALF)) == straight
    assert_same(everything(second), everything(whole))


def test_a_half_precise_run_whose_every_update_was_skipped_can_be_resumed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    overflowing(monkeypatch, lambda state: state.step < 4)
    whole, batches = half()
    straight = list(train_steps(whole, batches, HALF))
    first, _ = half()
    steps = train_steps(first, batches, HALF)
    begun = [next(steps) for _ in range(3)]
    second, _ = half()
    weights = {name: tensor.clone() for name, tensor in first.network.state_dict().items()}
    second.restore(weights, first.progress(), first.tensors())
    assert begun + list(train_steps(second, batches, HALF)) == straight
