"""The speed at which this machine trains a model, measured on a copy that is thrown away."""

import itertools
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch

from charnn.config import ModelConfig, TrainConfig
from charnn.device import thread_count
from charnn.model.evaluate import evaluate, lanes_layout
from charnn.text.batches import batches_of
from charnn.text.records import Text, indices_of
from charnn.torch_modes import default_torch_modes
from charnn.training.loop import train_steps
from charnn.training.memory import memory_explained
from charnn.training.reports import StepReport
from charnn.training.state import TrainState

WARM_UP_STEPS = 5
MIN_VALIDATION_SYMBOLS, MAX_VALIDATION_SYMBOLS = 1_000, 33_024  # the latter in 64 lanes
SAVED_PARAMETERS = 20e6  # per second, both checkpoints: assumed, not measured


@dataclass(frozen=True)
class Speed:
    """Seconds per training step, per character of a validation, and per save.

    `undisturbed` is the time of a step while nothing else ran: another process that takes a core
    for a moment makes a step ten times slower, and must not make the model small.
    """

    step: float
    validated_character: float
    save: float = 0.0
    undisturbed: float = 0.0  # equal to `step` unless given

    def __post_init__(self) -> None:
        if self.undisturbed == 0:
            object.__setattr__(self, "undisturbed", self.step)


class SpeedTest:
    """Measures training on this machine, and the time that the measuring takes."""

    def __init__(self, text: Text, device: torch.device, world_size: int = 1) -> None:
        """Measure training on `text`, as one of `world_size` processes that share the lanes."""
        self._text = text
        self._device = device
        self._world_size = world_size
        self._start = time.monotonic()

    def elapsed(self) -> float:
        """Return the seconds since this object was made."""
        return time.monotonic() - self._start

    def measure(
        self, model: ModelConfig, train: TrainConfig, seconds: float, threads: int = 0
    ) -> Speed:
        """Train a throw-away copy for about `seconds` after a warm-up, with `threads` CPU threads
        (0: as many as torch is set to)."""
        with (
            thread_count(threads),
            memory_explained(model, train),
            default_torch_modes(train.deterministic and self._device.type == "cuda"),
        ):
            return self._measure(model, train, seconds)

    def _measure(self, model: ModelConfig, train: TrainConfig, seconds: float) -> Speed:
        lanes = max(1, train.batch_size // self._world_size)
        batches = batches_of(self._text, lanes, train.seq_len, train.seed)
        endless = replace(train, steps=10**9)
        state = TrainState.start(model, endless, batches.batch_size, self._device)
        replay = self._world_size == 1  # the run decides likewise
        steps = train_steps(state, batches, endless, sys.maxsize, replay)
        start = time.perf_counter()
        for _ in range(WARM_UP_STEPS):
            _advance(steps, state)
            if time.perf_counter() > start + seconds:  # a large model: do not spend its budget here
                break
        start = time.perf_counter()
        ends = [(start, state.step)]
        while len(ends) == 1 or ends[-1][0] < start + seconds:
            _advance(steps, state)  # reads the losses, so the device has finished
            ends.append((time.perf_counter(), state.step))
        times = [(end - begin) / (m - n) for (begin, n), (end, m) in itertools.pairwise(ends)]
        trained = int((state.step - ends[0][1]) * batches.symbols_per_window)
        most = max(MIN_VALIDATION_SYMBOLS, min(trained, MAX_VALIDATION_SYMBOLS))
        some = indices_of(self._text)[:most]  # takes about a third of the time that steps took
        start = time.perf_counter()
        evaluate(state.network, some, "lanes")
        validated = (time.perf_counter() - start) / lanes_layout(len(some)).characters_read
        save = state.network.parameter_count() / SAVED_PARAMETERS
        return Speed(statistics.fmean(times), validated, save, _lower_quartile(times))


def _advance(steps: Iterator[Any], state: TrainState) -> None:
    """Make a step, and those that are made together with it."""
    for report in steps:
        if isinstance(report, StepReport) and report.step == state.step:
            return


def _lower_quartile(times: list[float]) -> float:
    return sorted(times)[len(times) // 4]
