"""Progress of a run: a bar, a line for each validation, a short sample."""

import math
import shlex
import signal
import time
from typing import Any

from tqdm import tqdm

from charnn.checkpoint import load
from charnn.cli.bar import progress_bar
from charnn.cli.figures import measured_on
from charnn.cli.signals import StopOnSignal
from charnn.cli.terminal import STDERR, escaped, is_quiet, show_path, status
from charnn.config import SampleConfig
from charnn.errors import MissingCheckpointError, TrainingError
from charnn.facts import Figures
from charnn.model.evaluate import Score
from charnn.runs.folder import BEST
from charnn.runs.reports import Replanned, Validation
from charnn.runs.run import Run
from charnn.sampling.sampler import Sampler
from charnn.text.sources import STDIN_NAME
from charnn.training.reports import Rollback, StepReport, TrainingWarning
from charnn.words import loss, plural

SAMPLE_LENGTH, SAMPLE_RECORDS = 70, 8
SMOOTHING = 0.98  # of the shown loss, which jumps from window to window


def follow(run: Run) -> int:
    """Train `run` to its end and show its progress; print the path of its best checkpoint.

    Returns the exit code.
    """
    window = run.batches.symbols_per_window
    unit = run.corpus.tokenizer.unit
    with (
        StopOnSignal(run) as stop,
        progress_bar(run.train.steps * window, unit, initial=run.state.step * window) as bar,
    ):
        pace = Pace(run.state.step)
        for report in run.reports():
            match report:
                case StepReport():
                    pace.add(report)
                    nats, bits = pace.loss, pace.loss / math.log(2)
                    bar.set_postfix_str(f"loss {nats:.3f}, {bits:.3f} bits/{unit}", False)
                    bar.update(window)
                case Validation() if not is_quiet():
                    _write(bar, _validation_line(report, run, pace, window))
                    _write(bar, _sample_line(report, run))
                case Rollback():
                    bar.n = report.to * window
                    _write(bar, f"warning: {report}")
                case Replanned():
                    bar.total = report.steps * window
                    _write(bar, f"note: {report}")
                case TrainingWarning():
                    _write(bar, f"warning: {report}")
    number = stop.signal or (signal.SIGTERM if run.stopping else 0)  # another process got one
    if not run.world.is_main:
        return 128 + number if number else 0
    return _show_end(run, number)


def _show_end(run: Run, stopped_by: int) -> int:
    folder = shlex.quote(str(run.folder))
    if stopped_by and not run.finished:
        text = "TEXT " if STDIN_NAME in (*run.corpus.sources, *run.corpus.val_sources) else ""
        status(f"stopped after step {run.state.step:,} and saved; continue with:")
        size = run.world.size
        command = f"torchrun --nproc-per-node {size} -m charnn" if size > 1 else "charnn"
        status(f"  {command} train {text}--out {folder} --resume")
        return 128 + stopped_by
    if run.state.step < run.train.steps:
        patience = f"no better validation in {run.validation.patience}"
        status(f"stopped early, after step {run.state.step:,}: {patience}")
    try:
        figures = load(run.folder / BEST, weights=False).figures
    except MissingCheckpointError as error:
        raise TrainingError(
            f"{run.folder}: no validation gave a finite loss, so there is no best model; start a "
            "new run with a smaller `learning_rate`"
        ) from error
    status(f"best: {_figure(figures, run)}, at step {figures.step:,}; next:")
    status(f"  charnn sample {folder}")
    if figures.nats_per_char is not None and STDIN_NAME not in run.corpus.sources:
        status(f"  charnn eval {folder}")
    show_path(run.folder / BEST)
    return 0


def _write(bar: "tqdm[Any]", line: str) -> None:
    """Print a line above the bar."""
    bar.write(escaped(line), file=STDERR)


def duration(seconds: float) -> str:
    """Return a time in the unit that suits it."""
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return plural(round(seconds), "second")


class Pace:
    """The smoothed loss and the speed since the beginning."""

    def __init__(self, step: int) -> None:
        self._first, self._step, self._start = step, step, time.monotonic()
        self._sum = self._weight = 0.0

    def add(self, report: StepReport) -> None:
        """Add one step."""
        self._sum = SMOOTHING * self._sum + (1 - SMOOTHING) * report.loss
        self._weight = SMOOTHING * self._weight + (1 - SMOOTHING)
        self._step = report.step

    @property
    def loss(self) -> float:
        """Nats per character, averaged over about the last 50 steps."""
        return self._sum / self._weight if self._weight else math.nan

    @property
    def seconds_per_step(self) -> float:
        """Mean time of a step, with validations and saves."""
        return (time.monotonic() - self._start) / max(1, self._step - self._first)


def _validation_line(report: Validation, run: Run, pace: Pace, window: float) -> str:
    """Return one aligned line, the same with and without a terminal."""
    steps = f"{run.train.steps:,}"
    best = " best" if report.best and report.score else ""
    left = (run.train.steps - report.step) * pace.seconds_per_step
    return (
        f"{report.step:>{len(steps)},}/{steps}  train {pace.loss:.4f}  val {_short(report.score)}"
        f"{best:<5}  {window / pace.seconds_per_step / 1000:.0f}k {run.corpus.tokenizer.unit}/s  "
        f"{tqdm.format_interval(left)} left"
    )


def _short(score: Score | None) -> str:
    if score is None:
        return "not measured"
    return f"{score.nats_per_char:.4f} ({score.bits_per_char:.4f} bits)"


def _figure(figures: Figures, run: Run) -> str:
    """Return how good a model is, and on which text."""
    nats = figures.nats_per_char
    if nats is None:
        return "not measured, for want of a validation text"
    where = measured_on(figures.full_val_nats_per_char is not None, run.corpus.is_records)
    return f"{loss(nats, run.corpus.tokenizer.unit, run.corpus.bytes_per_char)} {where}"


def _sample_line(report: Validation, run: Run) -> str:
    """Return a short sample of the current network, on one line."""
    config = SampleConfig(length=SAMPLE_LENGTH, seed=run.train.seed)
    writer = Sampler(
        report.network.weights(), run.corpus.tokenizer, device=str(run.context.device),
        records=run.corpus.is_records,
    )  # fmt: skip
    if run.corpus.is_records:
        text = " | ".join(sample.text for sample in writer.samples(config, SAMPLE_RECORDS))
        return f"  | {''.join(c if c.isprintable() else ' ' for c in text[:SAMPLE_LENGTH])}"
    text = "".join(writer.stream(config))
    return "  | " + "".join(c if c.isprintable() else " " for c in text)
