"""A run in its folder: training with validations, the best and the last checkpoint, metrics."""

import contextlib
import logging
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from charnn import checkpoint
from charnn.checkpoint import Checkpoint
from charnn.config import TrainConfig, ValidationConfig
from charnn.device import thread_count
from charnn.errors import CharnnError, CheckpointError, SettingError
from charnn.facts import Figures, RunFacts
from charnn.files import explained
from charnn.model.network import arrays_of, tensors_of
from charnn.runs.best import reopen_best
from charnn.runs.context import RunContext
from charnn.runs.examiner import Examiner, StoppedError
from charnn.runs.folder import BEST, METRICS
from charnn.runs.info import note_steps
from charnn.runs.machine import this_machine
from charnn.runs.metrics import MetricsLog
from charnn.runs.packer import Packer
from charnn.runs.reports import Replanned, Report, Validation
from charnn.runs.saver import Saver
from charnn.text.batches import Batches, RecordBatches, batches_of
from charnn.text.corpus import Corpus
from charnn.torch_modes import in_default_torch_modes
from charnn.training.distributed import World
from charnn.training.loop import train_steps
from charnn.training.memory import memory_explained
from charnn.training.optimizer import replan
from charnn.training.pace import Pace, TimeLimit
from charnn.training.plan import Plan
from charnn.training.reports import Rollback, StepReport, TrainingWarning
from charnn.training.state import TrainState

log = logging.getLogger(__name__)

METRICS_LINES = 1000  # steps of a run that are logged, about


class _Decision(NamedTuple):
    validate: bool
    end: bool
    save: bool
    adjust: bool  # look at the pace


@dataclass
class Run:
    """A run in its folder, which the caller has locked: iterate over `reports()`.

    After `save()` at any step the run can be resumed there.
    """

    context: RunContext
    train: TrainConfig
    validation: ValidationConfig
    threads: int  # CPU threads to train with; 0: as many as torch is set to
    state: TrainState
    batches: Batches | RecordBatches
    metrics: MetricsLog
    saver: Saver
    limit: TimeLimit | None = None  # when it should end
    stopping: bool = field(default=False, init=False)  # set it to end after this step, saved
    pace: Pace | None = field(default=None, init=False)  # of a run with a limit

    def __post_init__(self) -> None:
        self._packer = Packer(self.context.corpus, self.context.text)
        self._examiner = Examiner(self.context, lambda: self.stopping)

    @property
    def folder(self) -> Path:
        """The run folder."""
        return self.context.folder

    @property
    def corpus(self) -> Corpus:
        """The text that the run learns."""
        return self.context.corpus

    @property
    def world(self) -> World:
        """The processes that share the run."""
        return self.context.world

    @classmethod
    def start(
        cls, context: RunContext, plan: Plan, weights: Mapping[str, Tensor] | None = None
    ) -> "Run":
        """Make a new run; its weights are drawn from the seed unless they are given."""
        train, world = plan.train, context.world
        batches = batches_of(context.corpus.train, train.batch_size, train.seq_len, train.seed)
        lanes = batches.batch_size
        if lanes % world.size:
            raise SettingError(
                f"{lanes} lanes cannot be shared equally by {world.size} processes; use a number "
                "of processes that divides them, or start a run with another `batch_size`"
            )
        state = TrainState.start(plan.model, train, lanes, context.device, weights, world)
        check = context.check_folder
        metrics = MetricsLog(context.folder / METRICS, check)
        saver = Saver(context.folder, context.save_every, context.keep, check)
        return cls(
            context,
            train,
            plan.validation,
            plan.threads,
            state,
            batches,
            metrics,
            saver,
            plan.limit,
        )

    @classmethod
    def resume(cls, context: RunContext, plan: Plan, last: Checkpoint) -> "Run":
        """Make the run whose `last` checkpoint this is, exactly where it stopped."""
        folder = context.folder
        if last.progress is None:
            raise CheckpointError(
                f"{folder}: holds a model, but no training state to resume from; start a new run "
                "with `init_from`"
            )
        run = cls.start(context, plan)
        try:
            run.state.restore(
                tensors_of(last.weights), last.progress, tensors_of(last.training_tensors)
            )
        except CheckpointError as error:
            raise CheckpointError(f"{folder}: {error}; start a new run") from error
        for position in (run.state.position, run.state.snapshot.position):
            if position.window >= run.batches.num_windows(position.epoch):
                raise CheckpointError(f"{folder}: the run is beyond its text; start a new run")
        if context.world.is_main:
            run.saver.saved_step = last.progress.step
            known = None if last.run is None else last.run.validations
            run.saver.last_has_best = last.run is not None and last.run.unsaved_best is not None
            lines = () if last.run is None else last.run.unsynced_metrics
            context.check_folder()
            run.metrics.reopen(last.progress, known, lines)
            reopen_best(folder / BEST, last, run.saver, run.metrics)
        return run

    @property
    def finished(self) -> bool:
        """True if all steps are made and validated, or if patience has ended the run.

        Only rank 0 knows.
        """
        patience = self.validation.patience
        return self.metrics.validated >= self.train.steps or 0 < patience <= self.metrics.stale

    def reports(self) -> Generator[Report, None, None]:
        """Train to the end or until `stopping`, and save.

        Yields a report for each step, validation, rollback and failed save.

        Raises:
            CharnnError: the run cannot be saved at its beginning or at its end.
        """
        deterministic = self.train.deterministic and self.context.device.type == "cuda"
        return in_default_torch_modes(self._all_reports(), deterministic)

    def _all_reports(self) -> Generator[Report, None, None]:
        finished = self.world.broadcast(lambda: self.finished)
        if not finished:
            with (
                thread_count(self.threads),
                memory_explained(self.state.network.config, self.train),
            ):
                yield from self._reports()
        if not finished or self.world.broadcast(lambda: self._unwritten):
            self.save()
        if self.world.is_main and self.finished:
            with thread_count(self.threads):
                yield from self._measure_best()

    @property
    def _unwritten(self) -> bool:
        """True if `last` holds what belongs to other files."""
        best_is_missing = self.saver.unsaved_best is not None
        return best_is_missing or self.saver.last_has_best or bool(self.metrics.unsynced)

    def _reports(self) -> Iterator[Report]:
        if self.state.step == 0:
            self.save()  # from here on the folder can be resumed, whatever happens
        if self._agree().validate:  # the run was stopped between a step and its validation
            yield from self._validate()
        if self._agree().end:
            return
        if self.limit is not None:
            self.pace = Pace(self.limit, self.state.step)
        while (yield from self._train()):
            pass

    def _train(self) -> Generator[Report, None, bool]:
        """Train until the run ends or its schedule changes; return True if it goes on."""
        log_every = max(1, self.train.steps // METRICS_LINES)
        for report in train_steps(self.state, self.batches, self.train, self.validation.val_every):
            if self.world.is_main:
                self._log(report, log_every)
            yield report
            if isinstance(report, StepReport) and report.step != self.state.step:
                continue  # made together with later steps, so the state is ahead
            decision = self._agree()
            if decision.validate:
                with self._pause():
                    yield from self._validate()
                decision = self._agree()
            if decision.end:
                return False
            if decision.save:
                with self._pause():
                    yield from self._try_to_save()
            if decision.adjust and (yield from self._adjust()):
                return True
        return False

    def _pause(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext() if self.pace is None else self.pace.pause()

    def _adjust(self) -> Generator[Report, None, bool]:
        """Fit steps and threads to the time that is left; return True if the schedule changed."""
        assert self.pace is not None
        look, step = self.pace.look, self.state.step
        adjustment = self.world.broadcast(lambda: look(step, self.train.steps, self.threads))
        if adjustment.note:
            yield TrainingWarning(adjustment.note)
        if adjustment.threads != self.threads:
            self.threads = adjustment.threads
            torch.set_num_threads(self.threads)
        before = self.train.steps
        if adjustment.steps == before:
            return False
        self.train = replan(self.train, step, adjustment.steps)
        if self.world.is_main and (self.context.lock is None or self.context.lock.is_intact()):
            note_steps(self.folder, self.train.steps)
        yield Replanned(step, before, self.train.steps)
        return True

    def _log(self, report: StepReport | Rollback | TrainingWarning, every: int) -> None:
        if isinstance(report, Rollback):
            self.metrics.rollback(report)
        elif isinstance(report, StepReport):
            last = report.step == self.state.step
            if report.step % every == 0 or (last and self._validation_due()):
                self.metrics.step(report)

    def _validation_due(self) -> bool:
        step = self.state.step
        scheduled = step % self.validation.val_every == 0 or step == self.train.steps
        return scheduled and step > self.metrics.validated

    def _agree(self) -> "_Decision":
        """Return what to do now, the same in every process.

        Rank 0 decides, but any process may have been told to stop.
        """
        main = self.world.is_main
        validate, finished = main and self._validation_due(), main and self.finished
        save, stopping = main and self.saver.due, self.stopping
        adjust = main and self.pace is not None and self.pace.due(self.state.step)
        validate, finished, save, stopping, adjust = self.world.any(
            validate, finished, save, stopping, adjust
        )
        if stopping:  # never unset it: a signal may have arrived meanwhile
            self.stopping = True
        return _Decision(validate, finished or stopping, save, adjust)

    def save(self) -> None:
        """Write `last`: the model and everything needed to resume. All processes call it."""
        tensors = self.state.tensors()
        if not self.world.is_main:
            return
        machine = this_machine(self.context.device, self.threads, self.world.size)
        last = replace(
            self._packed(),
            progress=self.state.progress(),
            training_tensors=arrays_of(tensors),
            run=RunFacts(self.validation, self.metrics.validations(), machine),
        )
        problem = None
        try:  # the log first, so that it never lacks what `last` has done
            with explained(f"writing {self.metrics.path}", "check its folder and the free space"):
                self.metrics.sync()
        except CharnnError as error:  # but the model is still worth saving, with the missing lines
            problem, last = error, _with_lines(last, self.metrics.unsynced)
        self.saver.save_last(last)
        if problem is not None:
            raise problem

    def save_interrupted(self) -> None:
        """Save after an exception that may have come in the middle of a step.

        The state then returns to its last snapshot first. Where `last` is newer than that, or a
        validation has been made since, `last` stays as it is.
        """
        snapshot = self.state.snapshot
        if self.world.size > 1:  # the others have not stopped here
            return
        if self.state.mid_step:
            if snapshot.step < self.metrics.validated:
                return
            self.state.load_snapshot(snapshot)
        if self.state.step > self.saver.saved_step:
            self.save()
            log.info(f"{self.folder}: saved after step {self.state.step:,}, to be resumed")

    def _try_to_save(self) -> Iterator[TrainingWarning]:
        try:
            self.save()
        except CharnnError as error:
            yield _will_retry(error)

    def _validate(self) -> Iterator[Validation | TrainingWarning]:
        if not self.world.is_main:
            return
        try:
            score = self._examiner.score(self.state.network, self.validation.val_characters)
        except StoppedError:
            return
        nats = None if score is None else score.nats_per_char
        best = self.saver.is_better(nats)
        if best:
            try:
                self.saver.save_best(self._packed(nats))
            except CharnnError as error:
                yield _will_retry(error)
        self.metrics.validation(self.state.step, nats)
        yield Validation(self.state.step, score, best, self.state.network)

    def _figures(self, nats: float | None = None) -> Figures:
        """Return those of the present model, whose validation gave `nats`."""
        full = nats if self.validation.val_characters >= len(self.corpus.validation) else None
        return Figures(self.state.step, self.state.network.parameter_count(), nats, full)

    def _packed(self, nats: float | None = None) -> Checkpoint:
        """Return the checkpoint of the present model, whose validation gave `nats`."""
        return self._packer.pack(self.state.network, self.train, self._figures(nats))

    def _measure_best(self) -> Iterator[TrainingWarning]:
        """Measure the best model on the whole validation part, and note the result in `best`."""
        try:
            best = self._examiner.on_whole_text(checkpoint.load(self.folder / BEST), self.train)
            if best is not None:
                self.saver.save_best(best)
        except StoppedError:
            return
        except CharnnError as error:
            yield TrainingWarning(f"the best model is not measured on all of its text: {error}")


def _with_lines(last: Checkpoint, lines: Iterable[str]) -> Checkpoint:
    """Return `last` with lines of the metrics that could not be written."""
    return replace(last, run=last.run and replace(last.run, unsynced_metrics=tuple(lines)))


def _will_retry(error: CharnnError) -> TrainingWarning:
    return TrainingWarning(f"{error}; training continues and will try again")
