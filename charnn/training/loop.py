"""Truncated BPTT with clipping: a generator that yields one report per step."""

import math
import time
from collections.abc import Iterator

import torch

from charnn.config import TrainConfig
from charnn.errors import TrainingError
from charnn.text.batches import Batches, RecordBatches
from charnn.training.optimizer import LossScale, learning_rate
from charnn.training.reports import Rollback, StepReport, TrainingWarning
from charnn.training.state import TrainState
from charnn.training.update import GraphedUpdate, StepStats, Update, UpdateFunction, can_capture
from charnn.words import plural

# With a CUDA graph several steps are launched before their numbers are read, which waits for the
# device. The time limit is approximate, and lets a signal take effect soon.
MAX_STEPS_PER_SYNC = 20
MAX_SYNC_SECONDS = 0.2
SNAPSHOT_EVERY = 100  # steps; copying the state this often, or repeating so few steps, costs little


def train_steps(
    state: TrainState,
    batches: Batches | RecordBatches,
    config: TrainConfig,
    sync_every: int = 1,
    use_cuda_graph: bool = True,
) -> Iterator[StepReport | Rollback | TrainingWarning]:
    """Update `state` until `config.steps`, and yield one report per step.

    If a loss, a gradient or a weight is not finite, the state returns to the last snapshot and the
    learning rate is halved from there on; after more than `config.max_rollbacks` of these,
    `TrainingError` is raised. Snapshots are taken at fixed steps, so that a resumed run rolls back
    as an uninterrupted one does. In float16, a gradient that overflows only skips its update and
    lowers the loss scale, unless the overflows do not stop.

    On CUDA, steps are replayed as a CUDA graph if `use_cuda_graph` allows it. `state` may then be
    ahead of the yielded report; they agree when `report.step == state.step`, which they do at every
    multiple of `sync_every`.
    """
    update: UpdateFunction = Update(state, config)
    steps_per_sync = most = 1
    capturable = use_cuda_graph and can_capture(state) and state.step < config.steps
    if capturable and isinstance(batches, Batches):  # windows of records differ in length
        batches = batches.to(state.recurrent.device)
        try:
            update = GraphedUpdate(state, config, batches.window_at(state.position)[:2])
            most = MAX_STEPS_PER_SYNC
        except RuntimeError as error:
            reason = str(error).partition("\n")[0][:200]
            yield TrainingWarning(
                f"CUDA cannot replay training steps as a graph, so they are slower: {reason}"
            )
    while state.step < config.steps:
        ends = [n - state.step % n for n in (steps_per_sync, sync_every, SNAPSHOT_EVERY)]
        count = min(*ends, config.steps - state.step)
        start = time.perf_counter()
        state.mid_step = True
        reports, problem = _run_steps(state, batches, config, update, count)
        seconds = (time.perf_counter() - start) / count
        steps_per_sync = min(most, int(MAX_SYNC_SECONDS / seconds) + 1)
        failed_step, rollbacks = state.step - count + len(reports) + 1, state.rollbacks
        if problem:
            state.roll_back()
        state.mid_step = False
        yield from reports
        if problem:
            yield _rollback_report(state, config, failed_step, problem, rollbacks)


def _run_steps(
    state: TrainState,
    batches: Batches | RecordBatches,
    config: TrainConfig,
    update: UpdateFunction,
    count: int,
) -> tuple[list[StepReport], str]:
    """Make `count` updates, then read their numbers from the device.

    Return the reports of the good steps, and the reason of the first failure or "".
    """
    first_step, rates, stats = state.step, [], []
    with state.random_state():
        for step in range(first_step, first_step + count):
            inputs, targets, after = batches.window_at(state.position)
            rates.append(learning_rate(step, config) * 0.5**state.rollbacks)
            stats.append(update(inputs, targets, rates[-1]))
            if batches.starts_from_zero(after):
                state.recurrent.zero_()
            state.step, state.position = step + 1, after
    reports: list[StepReport] = []
    snapshot_due = state.step % SNAPSHOT_EVERY == 0 or state.step == config.steps
    numbers = zip(rates, *_read(stats), strict=True)
    for step, (rate, loss, norm, loss_scale) in enumerate(numbers, first_step + 1):
        report = StepReport(step, state.world.mean(loss), rate, norm)
        problem = _problem(report, loss_scale)
        if not problem and step == state.step and snapshot_due and not state.weights_are_finite():
            problem = "the weights are not finite"  # the update was too large for float32
        if problem:
            return reports, problem
        reports.append(report)
    if snapshot_due:
        state.take_snapshot()
    return reports, ""


def _read(stats: list[StepStats]) -> tuple[list[float], list[float], list[LossScale | None]]:
    """Return losses, gradient norms and loss scales as plain numbers, in few transfers."""
    losses = torch.stack([s.loss for s in stats]).tolist()
    norms = torch.stack([s.gradient_norm for s in stats]).tolist()
    scales = [s.loss_scale for s in stats if s.loss_scale is not None]
    if not scales:
        return losses, norms, [None] * len(stats)
    values = torch.stack(scales).tolist()
    return losses, norms, [LossScale(scale, int(g), int(s)) for scale, g, s in values]


def _problem(report: StepReport, loss_scale: LossScale | None) -> str:
    """Return why a step has failed, or "" if it has not."""
    numbers = f"loss {report.loss:.4g}, gradient norm {report.gradient_norm:.4g}"
    if not math.isfinite(report.loss):
        return numbers
    if loss_scale is None:
        return "" if math.isfinite(report.gradient_norm) else numbers
    if not loss_scale.exhausted:  # an overflow has only skipped its update
        return ""
    overflows = plural(loss_scale.skipped, "overflow")
    return f"{numbers} at a loss scale of {loss_scale.scale:g}, {overflows} in a row"


def _rollback_report(
    state: TrainState, config: TrainConfig, step: int, problem: str, rollbacks: int
) -> Rollback:
    """Return the report of a rollback, or raise `TrainingError` if there were too many before."""
    if rollbacks >= config.max_rollbacks:
        tried = f" (after {plural(rollbacks, 'rollback')})" if rollbacks else ""
        rate = config.learning_rate * 0.5**rollbacks  # with which the step has failed
        raise TrainingError(
            f"step {step:,}: {problem}{tried}; the last good checkpoint is kept; start a new run "
            f"with `learning_rate={rate / 2:.1g}` or a smaller `clip`"
        )
    return Rollback(step, state.step, problem, config.learning_rate * 0.5**state.rollbacks)
