"""What one sees of a run while it trains: a bar, a line at each validation, a short sample."""

import contextlib
import math
import shlex
import signal
import sys
import time
from types import FrameType
from typing import Any

import click
from tqdm import tqdm

from charnn.cli.options import tell
from charnn.config import SampleConfig
from charnn.folder import BEST
from charnn.model.evaluate import Score
from charnn.sampling.generate import stream
from charnn.text.corpus import Corpus
from charnn.text.sources import STDIN_NAME
from charnn.training.loop import StepReport
from charnn.training.run import Run, Validation

SAMPLE_LENGTH = 70
SMOOTHING = 0.98  # of the shown loss, which jumps from window to window


def tell_notes(corpus: Corpus, quiet: bool) -> None:
    """What was changed in the text, and what looks wrong with it."""
    for note in corpus.notes:
        tell(f"note: {note}", quiet)


class Stop:
    """Remembers SIGINT and SIGTERM until the step is done; a second one acts at once."""

    def __init__(self) -> None:
        self.signal = 0

    def __enter__(self) -> "Stop":
        self._before = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}
        for number in self._before:
            signal.signal(number, self._remember)
        return self

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self.signal = number
        signal.signal(number, self._before[signal.Signals(number)])

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


def follow(run: Run, quiet: bool) -> None:
    """Train `run` to its end while telling about it; print the path of its best checkpoint."""
    window = run.batches.batch_size * run.batches.seq_len
    with Stop() as stop, _bar(run, window, quiet) as bar:
        pace = Pace(run.state.step)
        for report in run.reports():
            if isinstance(report, Validation):
                if not quiet:
                    _write(bar, _line(report, run, pace, window))
                    _write(bar, _sample(report, run))
                if stop.signal:
                    break
                continue
            pace.take(report)
            bar.set_postfix_str(
                f"loss {pace.loss:.3f}, {pace.loss / math.log(2):.3f} bits/char", False
            )
            bar.update(window)
            if stop.signal:
                break
        if stop.signal:
            run.save()
    folder = shlex.quote(str(run.folder))
    if stop.signal and not run.finished:
        text = "TEXT " if STDIN_NAME in (*run.corpus.sources, *run.corpus.val_sources) else ""
        tell(f"stopped after step {run.state.step:,} and saved; go on with:", quiet)
        tell(f"  charnn train {text}--out {folder} --resume", quiet)
        sys.exit(128 + stop.signal)
    if run.state.step < run.train.steps:
        patience = f"no better validation in {run.train.patience}"
        tell(f"ended early, after step {run.state.step:,}: {patience}", quiet)
    tell(f"best: {_figure(run.best_nats)} at step {run.best_step:,}; next:", quiet)
    tell(f"  charnn sample {folder}", quiet)
    if run.best_nats is not None and STDIN_NAME not in run.corpus.sources:
        tell(f"  charnn eval {folder}", quiet)
    click.echo(run.folder / BEST)


def _write(bar: "tqdm[Any]", line: str) -> None:
    """A line above the bar; a reader of stderr that has gone away does not end the training."""
    with contextlib.suppress(BrokenPipeError):
        bar.write(line, file=sys.stderr)


class Pace:
    """The smoothed loss and the speed since the beginning."""

    def __init__(self, step: int) -> None:
        self._first, self._step, self._start = step, step, time.monotonic()
        self._sum = self._weight = 0.0

    def take(self, report: StepReport) -> None:
        """Count one step."""
        self._sum = SMOOTHING * self._sum + (1 - SMOOTHING) * report.loss
        self._weight = SMOOTHING * self._weight + (1 - SMOOTHING)
        self._step = report.step

    @property
    def loss(self) -> float:
        """Nats per character, averaged over about the last fifty steps."""
        return self._sum / self._weight if self._weight else math.nan

    @property
    def seconds_per_step(self) -> float:
        """Validations and saves included."""
        return (time.monotonic() - self._start) / max(1, self._step - self._first)


def _bar(run: Run, window: int, quiet: bool) -> "tqdm[Any]":
    return tqdm(
        total=run.train.steps * window,
        initial=run.state.step * window,
        unit="char",
        unit_scale=True,
        disable=quiet or not sys.stderr.isatty(),
        dynamic_ncols=True,
        bar_format="{percentage:3.0f}%|{bar}| {rate_fmt}, {remaining} left{postfix}",
        file=sys.stderr,
    )


def _line(report: Validation, run: Run, pace: Pace, window: int) -> str:
    """One aligned line, the same with and without a terminal."""
    steps = f"{run.train.steps:,}"
    best = " best" if report.best and report.score else ""
    left = (run.train.steps - report.step) * pace.seconds_per_step
    return (
        f"{report.step:>{len(steps)},}/{steps}  train {pace.loss:.4f}  val {_short(report.score)}"
        f"{best:<5}  {window / pace.seconds_per_step / 1000:.0f}k char/s  "
        f"{tqdm.format_interval(left)} left"
    )


def _short(score: Score | None) -> str:
    if score is None:
        return "not measured"
    return f"{score.nats_per_char:.4f} ({score.bits_per_char:.4f} bits)"


def _figure(nats: float | None) -> str:
    if nats is None:
        return "not measured"
    return f"{nats:.4f} nats/char, {nats / math.log(2):.4f} bits/char"


def _sample(report: Validation, run: Run) -> str:
    """A little of what the network would write now, on one line."""
    config = SampleConfig(length=SAMPLE_LENGTH, seed=run.train.seed)
    text = "".join(stream(report.network, run.corpus.tokenizer, config))
    return "  | " + "".join(c if c.isprintable() else " " for c in text)
