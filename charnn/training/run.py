"""A run folder: training with validations, the best and the last checkpoint, and the metrics."""

import json
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import torch

from charnn import checkpoint
from charnn.checkpoint import Checkpoint, CorpusFacts
from charnn.config import ModelConfig, TextConfig, TrainConfig
from charnn.errors import CheckpointError, TrainingError
from charnn.files import explained, replacing
from charnn.folder import BEST, LAST, METRICS
from charnn.model.evaluate import Score, evaluate
from charnn.model.network import CharNetwork
from charnn.text.batches import Batches
from charnn.text.corpus import Corpus
from charnn.training.loop import StepReport, TrainState, train_steps

SAVE_SECONDS = 300.0  # at most this much work is lost with the machine
_PROGRESS = ("best_nats", "best_step", "stale", "validated")
METRICS_LINES = 1000  # about this many steps of a run are written down


@dataclass(frozen=True)
class Validation:
    """What a validation found; `network` is the live one, to be looked at and left as it was."""

    step: int
    score: Score | None  # None without a validation part
    best: bool
    network: CharNetwork


@dataclass
class Run:
    """A run in its folder: iterate over `reports()`; `save()` at any step makes it resumable."""

    folder: Path
    corpus: Corpus
    text: TextConfig
    train: TrainConfig
    state: TrainState
    batches: Batches
    best_nats: float | None = None
    best_step: int = 0
    stale: int = 0  # validations since the best one
    validated: int = 0  # the step of the newest validation

    @classmethod
    def start(
        cls,
        folder: Path,
        corpus: Corpus,
        text: TextConfig,
        model: ModelConfig,
        train: TrainConfig,
        device: torch.device,
    ) -> "Run":
        """A new run, its weights drawn from the seed."""
        batches = Batches(corpus.train, train.batch_size, train.seq_len, train.seed)
        state = TrainState.start(model, train, batches.batch_size, device)
        return cls(folder, corpus, text, train, state, batches)

    @classmethod
    def resume(cls, folder: Path, last: Checkpoint, corpus: Corpus, device: torch.device) -> "Run":
        """The run whose `last` checkpoint this is, exactly where it stopped."""
        if not last.training_tensors:
            raise CheckpointError(f"{folder}: holds a model, but nothing to go on from")
        run = cls.start(folder, corpus, last.text, last.model, last.train, device)
        run.state.network.load_state_dict(last.network().state_dict())
        try:
            run.state.restore(last.progress, last.training_tensors)
            for name in _PROGRESS:
                setattr(run, name, last.progress[name])
        except (KeyError, RuntimeError) as error:
            raise CheckpointError(f"{folder}: its training state is damaged ({error})") from error
        with explained(f"mending {folder / METRICS}", "check the run folder"):
            _forget_after(folder / METRICS, run.state.step, run.validated)
        return run

    @property
    def finished(self) -> bool:
        """Whether all steps are made and validated, or patience has ended the run."""
        patience = self.train.patience
        return self.validated >= self.train.steps or 0 < patience <= self.stale

    def reports(self) -> Iterator[StepReport | Validation]:
        """Train to the end; a `StepReport` for each step, a `Validation` at fixed steps."""
        if self.finished:
            return
        every = max(1, self.train.steps // METRICS_LINES)
        saved = time.monotonic()
        with explained("writing the metrics", "check the run folder"), self._metrics() as metrics:
            if self.state.step == 0:
                self.save()  # from here on the folder can be resumed, whatever happens
            if self._due():  # the run was stopped between a step and its validation
                yield self._validate(metrics)
                self.save()
                if self.finished:
                    return
            for report in train_steps(self.state, self.batches, self.train):
                due = self._due()
                if report.step % every == 0 or due:
                    _write_line(metrics, vars(report))
                yield report
                if due:
                    yield self._validate(metrics)
                if due or time.monotonic() - saved > SAVE_SECONDS:
                    self.save()
                    saved = time.monotonic()
                if self.finished:
                    return

    def _due(self) -> bool:
        """Whether a validation belongs here that has not been made."""
        step = self.state.step
        fixed = step % self.train.val_every == 0 or step == self.train.steps
        return fixed and step > self.validated

    def save(self) -> Path:
        """Write `last`: the model and all that is needed to go on."""
        progress = self.state.progress() | {name: getattr(self, name) for name in _PROGRESS}
        path = self.folder / LAST
        checkpoint.save(path, self._checkpoint(progress, self.state.tensors()))
        return path

    def _validate(self, metrics: TextIO) -> Validation:
        score = None
        if len(self.corpus.validation) > 1:
            text = self.corpus.validation[: self.train.val_characters]
            score = evaluate(self.state.network, text, "lanes")
        nats = None if score is None else score.nats_per_char
        if nats is not None and not math.isfinite(nats):
            raise TrainingError(
                f"step {self.state.step}: the validation loss is {nats}; the last good checkpoint "
                f"is kept; try --learning-rate {self.train.learning_rate / 2:.1g}"
            )
        if nats is not None:
            _write_line(metrics, {"step": self.state.step, "val_nats_per_char": nats})
        best = nats is None or self.best_nats is None or nats < self.best_nats
        if best:
            self.best_nats, self.best_step, self.stale = nats, self.state.step, 0
            checkpoint.save(self.folder / BEST, self._checkpoint({}, {}))
        else:
            self.stale += 1
        self.validated = self.state.step
        return Validation(self.state.step, score, best, self.state.network)

    def _checkpoint(self, progress: dict[str, Any], tensors: dict[str, torch.Tensor]) -> Checkpoint:
        figures = {
            "step": self.state.step,
            "best_step": self.best_step,
            "val_nats_per_char": self.best_nats,
            "parameters": self.state.network.parameter_count(),
        }
        facts = CorpusFacts(self.corpus.sha256, len(self.corpus.indices), self.corpus.split)
        return Checkpoint(
            self.state.network.config,
            self.text,
            self.train,
            self.corpus.tokenizer,
            facts,
            figures,
            self.state.network.state_dict(),
            progress,
            tensors,
        )

    def _metrics(self) -> TextIO:
        return (self.folder / METRICS).open("a", encoding="utf-8")


def _write_line(file: TextIO, values: dict[str, Any]) -> None:
    file.write(json.dumps(values | {"time": round(time.time(), 3)}) + "\n")
    file.flush()


def _forget_after(path: Path, step: int, validated: int) -> None:
    """Drop the metrics of steps and validations that will be made again."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True):
        try:
            values = json.loads(line)
            if values["step"] <= (validated if "val_nats_per_char" in values else step):
                kept.append(line)
        except (ValueError, KeyError, TypeError):
            continue  # the last line of a run whose machine went down may be cut short
    with replacing(path) as file:
        file.write("".join(kept).encode())
