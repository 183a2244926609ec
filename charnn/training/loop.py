"""Truncated BPTT with clipping: a generator that yields one report per step."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from charnn.config import TrainConfig
from charnn.errors import TrainingError
from charnn.text.batches import Batches
from charnn.text.records import NO_TARGET, RecordBatches
from charnn.training.schedule import learning_rate
from charnn.training.state import TrainState, own_random

_DTYPES = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
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


def train_steps(
    state: TrainState, batches: Batches | RecordBatches, config: TrainConfig
) -> Iterator[StepReport | Rollback]:
    """Update `state` until `config.steps`, one report per step.

    A loss or gradient that is not finite does not reach the weights: the state becomes that of
    the last snapshot, and the learning rate is halved from there on. `TrainingError` when that
    happens once more than `config.max_rollbacks` times. Snapshots are taken at fixed steps, so
    that a resumed run rolls back as an uninterrupted one does. In float16 a gradient that
    overflows only skips its update and lowers the loss scale, unless that goes on and on.
    """
    while state.step < config.steps:
        inputs, targets, after = batches.at(state.position)
        rate = learning_rate(state.step, config) * 0.5**state.rollbacks
        with own_random(state):
            loss, norm, recurrent = _update(state, inputs, targets, rate, config)
        step = state.step + 1
        snapshot_due = step % SNAPSHOT_EVERY == 0 or step == config.steps
        problem = _problem(state, loss, norm)
        if not problem and snapshot_due and not state.finite():
            problem = "weights that are not finite"  # an update too large for its numbers
        if problem:
            yield _rolled_back(state, config, problem)
            continue
        state.recurrent = torch.zeros_like(recurrent) if batches.begins(after) else recurrent
        state.position = after
        state.step = step
        if snapshot_due:
            state.keep()
        yield StepReport(step, loss, rate, norm)


def _problem(state: TrainState, loss: float, norm: float) -> str:
    """Why a step must not count, or nothing."""
    numbers = f"loss {loss:.4g}, gradient norm {norm:.4g}"
    if not math.isfinite(loss):
        return numbers
    if state.loss_scale is None:
        return "" if math.isfinite(norm) else numbers
    scale = state.loss_scale  # whose overflows are skipped
    lost = f"{numbers} at a loss scale of {scale.scale:g}, {scale.skipped} overflows in a row"
    return lost if scale.lost else ""


def _rolled_back(state: TrainState, config: TrainConfig, problem: str) -> Rollback:
    step = state.step + 1
    if state.rollbacks >= config.max_rollbacks:
        tried = f" after {state.rollbacks} returns to a snapshot" if state.rollbacks else ""
        raise TrainingError(
            f"step {step}: {problem}{tried}; the last good checkpoint is kept; begin anew with "
            f"--learning-rate {config.learning_rate / 2:.1g} or a smaller --clip"
        )
    state.roll_back()
    return Rollback(step, state.step, problem, config.learning_rate * 0.5**state.rollbacks)


def _update(
    state: TrainState, inputs: Tensor, targets: Tensor, rate: float, config: TrainConfig
) -> tuple[float, float, Tensor]:
    """One forward, backward and update; the loss, the gradient norm and the lanes' new state.

    Without the update where loss or norm is not finite.
    """
    team, device = state.team, state.recurrent.device
    parameters = list(state.network.parameters())
    mine = team.share(targets).to(device)
    dtype = _DTYPES[config.precision]
    with torch.autocast(device.type, dtype, enabled=dtype is not None):
        logits, recurrent = state.forward(team.share(inputs).to(device), state.recurrent)
    if team.size == 1:
        loss = F.cross_entropy(logits.flatten(0, 1).float(), mine.flatten())
    else:  # of records, a process's lanes may have fewer targets, or none: all count alike
        total = F.cross_entropy(logits.flatten(0, 1).float(), mine.flatten(), reduction="sum")
        loss = total * team.size / int((targets != NO_TARGET).sum())
    state.optimizer.zero_grad()
    if state.loss_scale is None:
        loss.backward()
    else:
        (loss * state.loss_scale.scale).backward()
        gradients = [p.grad for p in parameters if p.grad is not None]
        torch._foreach_div_(gradients, state.loss_scale.scale)
    norm = nn.utils.clip_grad_norm_(parameters, config.clip, foreach=True).item()
    nats = team.mean(loss.item())
    if math.isfinite(nats) and math.isfinite(norm):
        state.optimizer.step(rate)
    if state.loss_scale is not None and math.isfinite(nats):
        state.loss_scale = state.loss_scale.after(overflow=not math.isfinite(norm))
    return nats, norm, recurrent.detach().float()
