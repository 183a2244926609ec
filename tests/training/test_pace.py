"""A run of minutes ends in time with its schedule complete, however fast its steps turn out."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from charnn.config import TrainConfig
from charnn.training.optimizer import learning_rate, replan
from charnn.training.pace import Pace, TimeLimit

MINUTE = 60.0


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Outcome:
    """What became of a run."""

    seconds: float
    train: TrainConfig
    rates: list[float]
    threads: list[int]
    notes: list[str]


def run(
    planned: int,
    step_seconds: Callable[[float, int], float],
    *,
    all_threads: int = 0,
    max_steps: int = 10**9,
    seconds: float = MINUTE,
    validation: float | Callable[[float], float] = 0.0,
) -> Outcome:
    """Simulate a run whose steps take `step_seconds(time, threads)`; `validation` is the time of
    one, or a function of the time too."""
    clock = Clock()
    pace = Pace(TimeLimit(seconds, max_steps, all_threads), 0, clock)
    train = TrainConfig(planned, 1, 1, learning_rate=1.0, seed=0)
    outcome, threads, step = Outcome(0.0, train, [], [], []), 0, 0
    while step < train.steps:
        outcome.rates.append(learning_rate(step, train))
        outcome.threads.append(threads)
        clock.now += step_seconds(clock.now, threads)
        step += 1
        if step % max(1, planned // 20) == 0:
            with pace.pause():
                clock.now += validation(clock.now) if callable(validation) else validation
        if pace.due(step):
            adjustment = pace.look(step, train.steps, threads)
            threads = adjustment.threads
            outcome.notes += [adjustment.note] if adjustment.note else []
            if adjustment.steps != train.steps:
                train = replan(train, step, adjustment.steps)
    outcome.seconds, outcome.train = clock.now, train
    return outcome


@settings(max_examples=40)
@given(
    st.sampled_from([0.02, 0.3, 2.0]), st.floats(0, 25), st.floats(0.5, 0.8), st.booleans()
)  # fmt: skip
def test_a_run_that_was_stopped_for_a_while_uses_the_time_that_is_left(
    each: float, when: float, share: float, while_validating: bool
) -> None:
    stop, stopped = share * (MINUTE - when), False

    def seconds(usual: float, time: float, stops: bool) -> float:
        nonlocal stopped
        if stopped or not stops or time < when:
            return usual
        stopped = True
        return usual + stop

    found = run(
        int(MINUTE / each / 1.1),
        lambda t, _: seconds(each, t, not while_validating),
        validation=lambda t: seconds(each, t, while_validating),
    )
    assert 0.85 * MINUTE < found.seconds < 1.1 * MINUTE + 3 * each
    assert found.notes == []
    assert found.rates[-1] == pytest.approx(0.02)


@settings(max_examples=40)
@given(st.floats(0.2, 30), st.floats(0, 50), st.sampled_from([0.02, 0.05, 0.3]), st.floats(0, 0.1))
def test_a_run_whose_steps_become_slower_or_faster_ends_in_time(
    factor: float, when: float, each: float, validation: float
) -> None:
    validation *= each * 20
    planned = int((MINUTE - 20 * validation) / each)
    found = run(planned, lambda t, _: each * (factor if t >= when else 1), validation=validation)
    assert found.seconds < MINUTE * 1.12 + 3 * each * factor
    assert found.seconds > 0.8 * MINUTE or found.train.steps == planned
    assert found.rates[-1] == pytest.approx(0.02)  # the end of the schedule
    assert max(found.rates) <= 1.0


def test_a_run_that_keeps_to_its_plan_is_left_alone() -> None:
    found = run(1000, lambda t, _: 0.06 * (0.9 + 0.2 * (int(t / 2) % 2)))
    assert found.train.replanned_step == 0
    assert found.rates == [learning_rate(step, found.train) for step in range(1000)]


def test_a_run_ahead_of_its_plan_becomes_longer_up_to_its_limit() -> None:
    assert run(1000, lambda *_: 0.02).train.steps == pytest.approx(3000, rel=0.1)
    assert run(1000, lambda *_: 0.02, max_steps=1500).train.steps == 1500


def test_the_learning_rate_has_no_jumps_when_a_run_is_replanned() -> None:
    found = run(1000, lambda t, _: 0.06 if t < 30 else 0.3)
    assert found.train.replanned_step > 0
    steps = [abs(b - a) for a, b in zip(found.rates[40:], found.rates[41:], strict=False)]
    assert max(steps) < 0.02
    assert found.rates[40:] == sorted(found.rates[40:], reverse=True)


def test_steps_that_become_much_slower_are_reported_once() -> None:
    found = run(1000, lambda t, _: 0.06 if t < 20 else 0.6 if int(t / 12) % 2 else 0.06)
    assert len(found.notes) == 1
    assert "as long as before" in found.notes[0]


@pytest.mark.parametrize("alone", [0.5, 3.0])  # seconds of one thread's step, beside 1.0 of two
def test_beside_a_busy_process_the_faster_number_of_threads_is_kept(alone: float) -> None:
    def step_seconds(time: float, threads: int) -> float:
        if time < 20:
            return 0.15 if threads == 1 else 0.1
        return alone if threads == 1 else 1.0

    found = run(3000, step_seconds, all_threads=2, seconds=5 * MINUTE)
    assert found.threads[:100] == [0] * 100
    assert (found.threads[-1] == 1) == (alone < 1.0)
    assert found.seconds < 5.5 * MINUTE


def test_all_threads_come_back_when_the_machine_is_quiet_again() -> None:
    def step_seconds(time: float, threads: int) -> float:
        busy = 20 < time < 100
        return 0.2 if threads == 1 else 4.0 if busy else 0.1

    found = run(9000, step_seconds, all_threads=2, seconds=15 * MINUTE)
    assert 1 in found.threads
    assert found.threads[-1] == 2


def test_threads_that_a_user_has_set_are_left_alone() -> None:
    found = run(1000, lambda t, _: 0.06 if t < 20 else 6.0)
    assert set(found.threads) == {0}


def test_time_in_a_pause_is_not_a_steps_time_even_if_it_fails() -> None:
    clock = Clock()
    pace = Pace(TimeLimit(MINUTE, 10**9), 0, clock)
    with contextlib.suppress(OSError), pace.pause():
        clock.now += 30
        raise OSError
    assert not pace.due(1)
    clock.now += 5
    assert pace.due(1)
