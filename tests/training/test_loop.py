"""Training follows from the seed, and rolls back before a bad step can stay in the weights."""

import contextlib
import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch

from charnn.errors import TrainingError
from charnn.training import loop
from charnn.training.loop import train_steps
from charnn.training.optimizer import learning_rate
from charnn.training.reports import Rollback, StepReport
from tests.conftest import exploding, several_steps_per_sync
from tests.fake_cuda_graph import fake_cuda_graphs
from tests.training.small_run import (
    FP16_MODEL,
    FP16_TRAIN,
    MODEL,
    TRAIN,
    Reports,
    assert_equal,
    copy_of,
    overflow_when,
    poison,
    resumed,
    start,
    start_on_records,
    train_to_end,
)


def test_the_same_seed_gives_the_same_numbers_and_another_does_not() -> None:
    reports, _ = train_to_end()
    assert train_to_end()[0] == reports
    assert train_to_end(train=replace(TRAIN, seed=0))[0] != reports


def test_steps_and_learning_rates_are_reported_as_scheduled() -> None:
    reports: Any = train_to_end()[0]
    assert [r.step for r in reports] == list(range(1, 13))
    assert [r.learning_rate for r in reports] == [learning_rate(s, TRAIN) for s in range(12)]


def test_records_start_from_zero_state_and_long_ones_carry_theirs() -> None:
    state, batches = start_on_records()
    found = set()
    for _ in train_steps(state, batches, TRAIN):
        starts = batches.starts_from_zero(state.position)
        assert starts == (not state.recurrent.any())
        found.add(starts)
    assert found == {True, False}


def test_a_new_epoch_starts_from_zero_state() -> None:
    state, batches = start()
    for report in train_steps(state, batches, TRAIN):
        new_epoch = state.position.window == 0
        assert new_epoch == (not state.recurrent.any())
        if new_epoch:
            assert isinstance(report, StepReport)
            assert report.step == batches.num_windows(0)
            return
    raise AssertionError("no epoch ended")


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_loss_that_is_not_finite_rolls_back_to_the_snapshot_at_half_the_learning_rate(
    monkeypatch: pytest.MonkeyPatch, optimizer: str
) -> None:
    monkeypatch.setattr(loop, "SNAPSHOT_EVERY", 4)
    train = replace(TRAIN, optimizer=optimizer)
    state, batches = start(train=train)
    steps: Iterator[Any] = train_steps(state, batches, train)
    for _ in range(4):
        next(steps)
    at_four = copy_of(state)
    for _ in range(2):
        next(steps)
    poison(state)
    report = next(steps)
    assert isinstance(report, Rollback)
    assert (report.step, report.to, report.learning_rate) == (7, 4, 0.005)
    assert "loss nan" in report.problem
    assert (state.step, state.rollbacks) == (4, 1)
    assert_equal(copy_of(state), at_four)
    rest = list(steps)
    assert [r.step for r in rest] == list(range(5, 13))
    assert [r.learning_rate for r in rest] == [learning_rate(s, TRAIN) / 2 for s in range(4, 12)]


@pytest.mark.parametrize(("most", "advised"), [(0, "0.005"), (2, "0.001")])
def test_after_the_last_allowed_rollback_training_stops_with_unchanged_weights(
    most: int, advised: str
) -> None:
    train = replace(TRAIN, max_rollbacks=most)
    state, batches = start(train=train)
    poison(state)
    state.take_snapshot()
    before = copy_of(state)
    steps = train_steps(state, batches, train)
    for number in range(most):
        assert isinstance(next(steps), Rollback)
        assert state.rollbacks == number + 1
        assert_equal(copy_of(state), before)
    with pytest.raises(TrainingError, match=f"step 1: loss nan.*`learning_rate={advised}`"):
        next(steps)
    assert_equal(copy_of(state), before)


@pytest.mark.parametrize("stop", [1, 3, 4, 6])
def test_a_resumed_run_rolls_back_as_an_uninterrupted_one_does(
    stop: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The loss explodes at a fixed place of the text, and so again after each rollback until the
    # learning rate is small enough.
    monkeypatch.setattr(loop, "SNAPSHOT_EVERY", 3)
    with exploding(lambda state, rate: state.step == 4 and rate > 0.003, math.nan):
        expected, expected_state = train_to_end()
        assert sum(isinstance(report, Rollback) for report in expected) == 2

        first, batches = start()
        begun = []
        for report in train_steps(first, batches, TRAIN):
            begun.append(report)
            if isinstance(report, StepReport) and report.step == stop:
                break
        second = resumed(first)
        assert begun + list(train_steps(second, batches, TRAIN)) == expected
        assert_equal(copy_of(second), expected_state)


@pytest.mark.medium
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("steps", [12, 47])
def test_several_steps_per_sync_equal_single_steps(
    monkeypatch: pytest.MonkeyPatch, optimizer: str, steps: int
) -> None:
    monkeypatch.setattr(loop, "SNAPSHOT_EVERY", 15)
    train = replace(TRAIN, optimizer=optimizer, steps=steps)
    expected, expected_state = train_to_end(train=train)
    for sync_every in (9, 1000):
        with several_steps_per_sync():
            reports, state = train_to_end(train=train, sync_every=sync_every)
        assert reports == expected
        assert_equal(state, expected_state)


def test_rollbacks_among_several_steps_per_sync_equal_those_of_single_steps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(loop, "SNAPSHOT_EVERY", 5)
    with exploding(lambda state, rate: state.step in (3, 8) and rate > 0.003):
        expected, expected_state = train_to_end()
        with several_steps_per_sync():
            reports, state = train_to_end(sync_every=1000)
    assert sum(isinstance(report, Rollback) for report in reports) == 2
    assert reports == expected
    assert_equal(state, expected_state)


def test_reports_and_state_agree_at_multiples_of_sync_every() -> None:
    state, batches = start()
    with several_steps_per_sync():
        for report in train_steps(state, batches, TRAIN, 5):
            assert isinstance(report, StepReport)
            assert report.step <= state.step
            assert (report.step - 1) // 5 == (state.step - 1) // 5


@pytest.mark.parametrize("several", [False, True])
def test_the_good_steps_before_training_fails_are_reported(several: bool) -> None:
    train = replace(TRAIN, max_rollbacks=0)
    with contextlib.ExitStack() as stack:
        stack.enter_context(exploding(lambda state, _: state.step == 7))
        if several:
            stack.enter_context(several_steps_per_sync())
        state, batches = start(train=train)
        seen: list[Any] = []
        with pytest.raises(TrainingError, match="step 8: loss inf"):
            seen.extend(train_steps(state, batches, train, 1000))
    assert [report.step for report in seen] == list(range(1, 8))
    assert state.step == 0


def test_weights_that_overflow_are_found_before_the_snapshot() -> None:
    train = replace(TRAIN, steps=1, learning_rate=1e300, max_rollbacks=1)
    state, batches = start(train=train)
    with pytest.raises(TrainingError, match="the weights are not finite"):
        list(train_steps(state, batches, train))
    assert state.step == 0
    assert all(torch.isfinite(tensor).all() for tensor in state.snapshot.tensors.values())


def test_gradients_that_overflow_without_end_roll_back(monkeypatch: pytest.MonkeyPatch) -> None:
    overflows = overflow_when(monkeypatch, lambda state: state.rollbacks == 0 and state.step >= 5)
    reports, _ = train_to_end(FP16_MODEL, FP16_TRAIN)
    rollbacks = [report for report in reports if isinstance(report, Rollback)]
    # 2**16 halved 17 times is below 1, before 20 updates in a row have been skipped.
    assert [(r.step, r.to) for r in rollbacks] == [(22, 0)]
    assert "17 overflows in a row" in rollbacks[0].problem
    assert [scale for _, scale in overflows] == [2.0**p for p in range(16, -1, -1)]
    assert isinstance(reports[-1], StepReport)
    assert reports[-1].step == 60


@pytest.mark.medium
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_overflows_among_several_steps_per_sync_skip_the_same_updates(
    monkeypatch: pytest.MonkeyPatch, optimizer: str
) -> None:
    overflow_when(
        monkeypatch,
        lambda state: state.step in (3, 4, 30) or (state.step > 35 and not state.rollbacks),
    )
    train = replace(FP16_TRAIN, optimizer=optimizer)
    expected, expected_state = train_to_end(FP16_MODEL, train)
    with several_steps_per_sync():
        reports, state = train_to_end(FP16_MODEL, train, 1000)
    assert sum(isinstance(report, Rollback) for report in reports) == 1
    assert reports == expected
    assert_equal(state, expected_state)


@pytest.mark.medium
@pytest.mark.parametrize("stop", [4, 7, 23])
def test_a_resumed_fp16_run_equals_an_uninterrupted_one(
    monkeypatch: pytest.MonkeyPatch, stop: int
) -> None:
    monkeypatch.setattr(loop, "SNAPSHOT_EVERY", 5)
    overflow_when(monkeypatch, lambda state: state.rollbacks == 0 and state.step >= 6)
    expected, expected_state = train_to_end(FP16_MODEL, FP16_TRAIN)
    first, batches = start(FP16_MODEL, FP16_TRAIN)
    steps = train_steps(first, batches, FP16_TRAIN)
    begun = [next(steps) for _ in range(stop)]
    second = resumed(first, FP16_MODEL, FP16_TRAIN)
    assert begun + list(train_steps(second, batches, FP16_TRAIN)) == expected
    assert_equal(copy_of(second), expected_state)


def test_records_are_trained_without_a_graph_because_their_windows_differ_in_length() -> None:
    def reports() -> Reports:
        state, batches = start_on_records()
        return list(train_steps(state, batches, TRAIN, 1000))

    expected = reports()
    with fake_cuda_graphs() as graphs:
        assert reports() == expected
    assert not graphs


def poisoned_after_four_steps(cell: str) -> tuple[Reports, dict[str, torch.Tensor]]:
    state, batches = start(replace(MODEL, cell=cell))
    steps = train_steps(state, batches, TRAIN, 4)
    begun = [next(steps) for _ in range(4)]
    poison(state)
    return begun + list(steps), copy_of(state)


@pytest.mark.parametrize("cell", ["gru", "rnn"])
def test_a_graph_survives_a_rollback(monkeypatch: pytest.MonkeyPatch, cell: str) -> None:
    monkeypatch.setattr(loop, "SNAPSHOT_EVERY", 3)
    with several_steps_per_sync():
        expected, expected_state = poisoned_after_four_steps(cell)
    with fake_cuda_graphs() as graphs:
        reports, state = poisoned_after_four_steps(cell)
    assert any(isinstance(report, Rollback) for report in reports)
    assert reports == expected
    assert_equal(state, expected_state)
    assert len(graphs) == 1


def test_a_failed_capture_is_a_warning_and_training_continues_eagerly(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: Any) -> None:
        raise RuntimeError("operation not permitted\nand much more")

    expected, expected_state = train_to_end()
    monkeypatch.setattr(loop, "can_capture", lambda _: True)
    monkeypatch.setattr(loop, "GraphedUpdate", refuse)
    (warning, *reports), state = train_to_end(sync_every=1000)
    assert str(warning).endswith("so they are slower: operation not permitted")
    assert reports == expected
    assert_equal(state, expected_state)
