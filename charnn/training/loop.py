"""Truncated BPTT with clipping: a generator that yields one report per step."""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from charnn.config import TrainConfig
from charnn.errors import TrainingError
from charnn.text.batches import Batches, RecordBatches
from charnn.training.optimizer import LossScale, learning_rate
from charnn.training.state import TrainState, own_random
from charnn.training.update import GraphedUpdate, Step, Update, can_capture

AHEAD = 20  # steps that CUDA makes before their numbers are read, at which it waits
PROMPT = 0.2  # seconds that this may take, about, so that a signal does not wait for long
SNAPSHOT_EVERY = 100  # steps; a return to it costs little, and so does the copy


@dataclass(frozen=True)
class StepReport:
    """What one update was like."""

    step: int  # updates made, this one included
    loss: float  # nats per character of its window, before the update
    learning_rate: float
    gradient_norm: float  # before clipping


@dataclass(frozen=True)
class Rollback:
    """A step that would have harmed the weights, and where training went on instead."""

    step: int
    to: int  # the snapshot's step
    problem: str
    learning_rate: float  # the highest of the schedule from here on

    def __str__(self) -> str:
        return (
            f"step {self.step:,}: {self.problem}; back to step {self.to:,} with the learning "
            f"rate halved, to at most {self.learning_rate:.2g}"
        )


@dataclass(frozen=True)
class TrainingWarning:
    """Something that failed and that training outlives."""

    problem: str

    def __str__(self) -> str:
        return self.problem


def train_steps(
    state: TrainState,
    batches: Batches | RecordBatches,
    config: TrainConfig,
    pause: int = 1,
    replay: bool = True,
) -> Iterator[StepReport | Rollback | TrainingWarning]:
    """Update `state` until `config.steps`, one report per step.

    A loss or gradient that is not finite does not stay in the weights: the state becomes that of
    the last snapshot, and the learning rate is halved from there on. `TrainingError` when that
    happens once more than `config.max_rollbacks` times. Snapshots are taken at fixed steps, so
    that a resumed run rolls back as an uninterrupted one does. In float16 a gradient that
    overflows only skips its update and lowers the loss scale, unless that goes on and on.

    CUDA replays steps unless `replay` is false, and makes several before their numbers are read,
    but none beyond a multiple of `pause`: the state is then further than a report until the
    report's step is `state.step`.
    """
    update: Step = Update(state, config)
    most = ahead = 1
    fits = replay and can_capture(state) and state.step < config.steps
    if fits and isinstance(batches, Batches):  # records' windows differ in length
        batches = batches.to(state.recurrent.device)
        try:
            update = GraphedUpdate(state, config, batches.window_at(state.position)[:2])
            most = AHEAD
        except RuntimeError as error:
            line = str(error).partition("\n")[0][:200]
            yield TrainingWarning(
                f"CUDA cannot replay a step and makes each anew, which is slower: {line}"
            )
    while state.step < config.steps:
        ends = [n - state.step % n for n in (ahead, pause, SNAPSHOT_EVERY)]
        count = min(*ends, config.steps - state.step)
        start = time.perf_counter()
        reports, problem = _together(state, batches, config, update, count)
        seconds = (time.perf_counter() - start) / count
        ahead = min(most, int(PROMPT / seconds) + 1)
        step, rollbacks = state.step - count + len(reports) + 1, state.rollbacks
        if problem:
            state.roll_back()
        yield from reports
        if problem:
            yield _rollback(state, config, step, problem, rollbacks)


def _together(
    state: TrainState,
    batches: Batches | RecordBatches,
    config: TrainConfig,
    update: Step,
    count: int,
) -> tuple[list[StepReport], str]:
    """Make so many steps, and read their numbers at the end: the reports up to the first that must
    not count, and why it must not."""
    first, rates, told = state.step, [], []
    with own_random(state):
        for step in range(first, first + count):
            inputs, targets, after = batches.window_at(state.position)
            rates.append(learning_rate(step, config) * 0.5**state.rollbacks)
            told.append(update(inputs, targets, rates[-1]))
            if batches.starts_from_zero(after):
                state.recurrent.zero_()
            state.step, state.position = step + 1, after
    reports: list[StepReport] = []
    snapshot_due = state.step % SNAPSHOT_EVERY == 0 or state.step == config.steps
    for step, rate, (loss, *others) in zip(
        range(first + 1, state.step + 1), rates, torch.stack(told).tolist(), strict=True
    ):
        report = StepReport(step, state.world.mean(loss), rate, others[0])
        problem = _problem(report, others[1:])
        if not problem and step == state.step and snapshot_due and not state.finite():
            problem = "weights that are not finite"  # an update too large for its numbers
        if problem:
            return reports, problem
        reports.append(report)
    if snapshot_due:
        state.keep()
    return reports, ""


def _problem(report: StepReport, scale: Sequence[float]) -> str:
    """Why a step must not count, or nothing."""
    numbers = f"loss {report.loss:.4g}, gradient norm {report.gradient_norm:.4g}"
    if not math.isfinite(report.loss):
        return numbers
    if not scale:
        return "" if math.isfinite(report.gradient_norm) else numbers
    now = LossScale(scale[0], *map(int, scale[1:]))  # whose overflows are skipped
    lost = f"{numbers} at a loss scale of {now.scale:g}, {now.skipped} overflows in a row"
    return lost if now.lost else ""


def _rollback(
    state: TrainState, config: TrainConfig, step: int, problem: str, rollbacks: int
) -> Rollback:
    """What is told of a rollback that came after so many others."""
    if rollbacks >= config.max_rollbacks:
        tried = f" after {rollbacks} returns to a snapshot" if rollbacks else ""
        raise TrainingError(
            f"step {step}: {problem}{tried}; the last good checkpoint is kept; begin anew with "
            f"--learning-rate {config.learning_rate / 2:.1g} or a smaller --clip"
        )
    return Rollback(step, state.step, problem, config.learning_rate * 0.5**state.rollbacks)
