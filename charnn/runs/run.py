"""A run folder: training with validations, the best and the last checkpoint, and the metrics."""

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from charnn import checkpoint
from charnn.checkpoint import Checkpoint, CorpusFacts, Figures
from charnn.config import ModelConfig, TextConfig, TrainConfig, ValidationConfig
from charnn.device import thread_count
from charnn.errors import CharnnError, CheckpointError, SettingError
from charnn.files import explained
from charnn.model.evaluate import Score, evaluate
from charnn.model.network import CharNetwork
from charnn.runs.folder import BEST, METRICS
from charnn.runs.metrics import Record
from charnn.runs.saver import Saver
from charnn.text.batches import Batches, RecordBatches, batches_of
from charnn.text.bloom import BloomFilter
from charnn.text.corpus import Corpus
from charnn.text.records import Records, first_part
from charnn.training.distributed import SINGLE_PROCESS, World
from charnn.training.loop import Rollback, StepReport, TrainingWarning, train_steps
from charnn.training.memory import memory_explained
from charnn.training.state import TrainState

METRICS_LINES = 1000  # about this many steps of a run are written down


@dataclass(frozen=True)
class Validation:
    """What a validation found; `network` is the live one, to be looked at and left as it was."""

    step: int
    score: Score | None  # None without a validation part
    best: bool
    network: CharNetwork


def _again(error: CharnnError) -> TrainingWarning:
    return TrainingWarning(f"{error}; training goes on and tries again")


class _StoppedError(Exception):
    """A validation was given up, because the run is to stop."""


@dataclass
class Run:
    """A run in its folder, which the caller has claimed: iterate over `reports()`.

    `save()` at any step makes it resumable there.
    """

    folder: Path
    corpus: Corpus
    text: TextConfig
    train: TrainConfig
    validation: ValidationConfig
    state: TrainState
    batches: Batches | RecordBatches
    record: Record
    saver: Saver
    world: World = SINGLE_PROCESS
    threads: int = 0  # CPU threads to train with; 0: as many as torch is set to
    stopping: bool = field(default=False, init=False)  # set it to end after this step, saved

    @classmethod
    def start(
        cls,
        folder: Path,
        corpus: Corpus,
        text: TextConfig,
        model: ModelConfig,
        train: TrainConfig,
        validation: ValidationConfig,
        device: torch.device,
        save_every: float | None = None,
        weights: Mapping[str, Tensor] | None = None,
        world: World = SINGLE_PROCESS,
    ) -> "Run":
        """A new run, its weights drawn from the seed unless they are given."""
        batches = batches_of(corpus.train, train.batch_size, train.seq_len, train.seed)
        lanes = batches.batch_size
        if lanes % world.size:
            raise SettingError(
                f"{lanes} lanes cannot be shared alike by {world.size} processes; take a number "
                "that divides them, or begin a run with another --batch-size"
            )
        state = TrainState.start(model, train, lanes, device, weights, world)
        record, saver = Record(folder / METRICS), Saver(folder, save_every)
        return cls(folder, corpus, text, train, validation, state, batches, record, saver, world)

    @classmethod
    def resume(
        cls,
        folder: Path,
        last: Checkpoint,
        corpus: Corpus,
        validation: ValidationConfig,
        device: torch.device,
        save_every: float | None = None,
        world: World = SINGLE_PROCESS,
    ) -> "Run":
        """The run whose `last` checkpoint this is, exactly where it stopped."""
        if last.progress is None:
            raise CheckpointError(f"{folder}: holds a model, but nothing to go on from")
        run = cls.start(
            folder, corpus, last.text, last.model, last.train, validation, device, save_every,
            world=world,
        )  # fmt: skip
        try:
            run.state.restore(last.weights, last.progress, last.training_tensors)
        except CheckpointError as error:
            raise CheckpointError(f"{folder}: {error}; begin a new run") from error
        for position in (run.state.position, run.state.snapshot.position):
            if position.window >= run.batches.num_windows(position.epoch):
                raise CheckpointError(f"{folder}: the run stands beyond its text; begin a new run")
        if world.is_main:
            run.record = Record.reopen(folder / METRICS, last.progress)
            run._compare_best()
        return run

    def _compare_best(self) -> None:
        """Hold the record against the model that is there: a full disk may have lost it, and
        somebody may have lost the record."""
        record, step = self.record, self.state.step
        try:
            there = checkpoint.load(self.folder / BEST).figures
        except CharnnError:
            record.best_nats, record.best_step = None, 0
            # so that the end has a best model; a run that has just begun needs none
            record.validated = min(record.validated, max(0, step - 1))
            return
        nats, known = there.val_nats_per_char, record.best_nats
        lost = known is None if nats is not None else known is not None
        if there.step <= step and (lost or (nats is not None and nats > (known or nats))):
            record.best_nats, record.best_step = nats, there.step

    @property
    def finished(self) -> bool:
        """Whether all steps are made and validated, or patience has ended the run; of a world the
        first process knows."""
        patience = self.validation.patience
        return self.record.validated >= self.train.steps or 0 < patience <= self.record.stale

    def reports(self) -> Iterator[StepReport | Validation | Rollback | TrainingWarning]:
        """Train to the end or until `stopping`, and save: a report for each step, validation,
        rollback and failed save.

        `CharnnError` when the run cannot be saved at its beginning or at its end.
        """
        if not self.world.broadcast(lambda: self.finished):
            with (
                thread_count(self.threads),
                memory_explained(self.state.network.config, self.train),
            ):
                yield from self._reports()
            self.save()

    def _reports(self) -> Iterator[StepReport | Validation | Rollback | TrainingWarning]:
        if self.state.step == 0:
            self.save()  # from here on the folder can be resumed, whatever happens
        due, *_ = self._agreed()
        if due:  # the run was stopped between a step and its validation
            yield from self._validate()
        _, ending, _ = self._agreed()
        if ending:
            return
        every = max(1, self.train.steps // METRICS_LINES)
        pause = self.validation.val_every
        for report in train_steps(self.state, self.batches, self.train, pause):
            if self.world.is_main:
                self._write_down(report, every)
            yield report
            if isinstance(report, StepReport) and report.step != self.state.step:
                continue  # it was made together with others, and the state is further
            due, ending, saving = self._agreed()
            if due:
                yield from self._validate()
                _, ending, _ = self._agreed()
            if ending:
                return
            if saving:
                yield from self._try_to_save()

    def _write_down(self, report: StepReport | Rollback | TrainingWarning, every: int) -> None:
        if isinstance(report, Rollback):
            self.record.rollback(report)
        elif isinstance(report, StepReport):
            last = report.step == self.state.step
            if report.step % every == 0 or (last and self._due()):
                self.record.step(report)

    def _due(self) -> bool:
        """Whether a validation belongs here that has not been made."""
        step = self.state.step
        fixed = step % self.validation.val_every == 0 or step == self.train.steps
        return fixed and step > self.record.validated

    def _agreed(self) -> tuple[bool, bool, bool]:
        """Whether to validate, to end and to save now: the first process knows, but any may have
        been told to stop."""
        first = self.world.is_main
        due, finished = first and self._due(), first and self.finished
        saving, told = first and self.saver.due, self.stopping
        due, finished, saving, told = self.world.any(due, finished, saving, told)
        if told:  # and it is never unset: a signal may have come meanwhile
            self.stopping = True
        return due, finished or told, saving

    def save(self) -> None:
        """Write `last`: the model and all that is needed to go on; of a world, all together."""
        tensors = self.state.tensors()
        if not self.world.is_main:
            return
        figures = Figures(self.state.step, self.state.network.parameter_count())
        last = replace(
            self._checkpoint(figures),
            progress=self.state.progress(),
            training_tensors=tensors,
        )
        try:  # first, so that the record does not lack what `last` has done
            with explained(f"writing {self.record.path}", "check its folder and the free space"):
                self.record.sync()
        finally:  # but without it the model is still worth saving
            self.saver.save_last(last)

    def _try_to_save(self) -> Iterator[TrainingWarning]:
        try:
            self.save()
        except CharnnError as error:
            yield _again(error)

    def _validate(self) -> Iterator[Validation | TrainingWarning]:
        if not self.world.is_main:
            return
        score = None
        if len(self.corpus.validation) > 1:
            text = first_part(self.corpus.validation, self.validation.val_characters)
            try:
                score = evaluate(self.state.network, text, "lanes", between=self._stop_here)
            except _StoppedError:
                return
        nats = None if score is None else score.nats_per_char
        best = self.record.is_best(nats)
        if best:  # the model before its line: a line without the model would hide a lesser one
            try:
                parameters = self.state.network.parameter_count()
                self.saver.save_best(self._checkpoint(Figures(self.state.step, parameters, nats)))
            except CharnnError as error:
                yield _again(error)
        self.record.validation(self.state.step, nats)
        yield Validation(self.state.step, score, best, self.state.network)

    def _stop_here(self) -> None:
        if self.stopping:
            raise _StoppedError

    def _checkpoint(self, figures: Figures) -> Checkpoint:
        corpus = self.corpus
        records = None if self._known is None else self._known.count
        return Checkpoint(
            self.state.network.config,
            self.text,
            self.train,
            corpus.tokenizer,
            CorpusFacts(corpus.sha256, len(corpus.indices), corpus.split, records),
            figures,
            self.state.network.state_dict(),
            known=self._known,
        )

    @functools.cached_property
    def _known(self) -> BloomFilter | None:
        """The records that it learns from, if it does from records."""
        learned = self.corpus.train
        if not isinstance(learned, Records):
            return None
        return BloomFilter.from_records(learned, self.corpus.tokenizer.codes())
