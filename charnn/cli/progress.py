"""What one sees of a run while it trains: a bar, a line at each validation, a short sample."""

import math
import shlex
import signal
import sys
import time
from types import FrameType
from typing import Any

from tqdm import tqdm

from charnn.cli.terminal import STDERR, for_stream, show, status
from charnn.config import SampleConfig
from charnn.model.evaluate import Score
from charnn.runs.folder import BEST
from charnn.runs.run import Run, Validation
from charnn.sampling.sampler import Sampler, stream
from charnn.text.corpus import Corpus
from charnn.text.sources import STDIN_NAME
from charnn.training.cudnn import Card, unmet_conditions
from charnn.training.loop import Rollback, StepReport, TrainingWarning
from charnn.training.plan import Plan, reading

SAMPLE_LENGTH, SAMPLE_RECORDS = 70, 8
TOGETHER = 2.0  # seconds
SMOOTHING = 0.98  # of the shown loss, which jumps from window to window


def tell_notes(corpus: Corpus, quiet: bool) -> None:
    """What was changed in the text, and what looks wrong with it."""
    for note in corpus.notes:
        status(f"note: {note}", quiet)


def tell_plan(run: Run, plan: Plan, asked: int | None, drawn: bool, quiet: bool) -> None:
    """What was chosen, and what of the user's wishes could not be had."""
    lanes, usual = run.batches.batch_size, reading(len(run.corpus.train), run.train.precision).lanes
    if run.corpus.is_records and asked is None:
        usual = lanes  # as many as there are records, or fewer
    if lanes < (wanted := asked or usual):
        room = f"{lanes} lane{'s' * (lanes > 1)} of {run.batches.seq_len}"
        status(f"note: the text has room for {room} characters, not for {wanted}", quiet)
    if drawn:
        status(f"seed: {run.train.seed}", quiet)
    if run.state.recurrent.device.type == "cuda":
        status(f"device: {_kernel(run)}", quiet)
    status(f"plan: {plan.why}", quiet)
    status(f"run: {run.folder}", quiet)


def _kernel(run: Run) -> str:
    """Which card, in which numbers, and whether cuDNN's fast kernel is taken."""
    card = Card.of(run.state.recurrent.device)
    why = unmet_conditions(run.state.network.config, run.train, card, run.world.size)
    kernel = f"without its persistent kernel: {'; '.join(why)}" if why else "its persistent kernel"
    several = f", {run.world.size} processes" if run.world.size > 1 else ""
    return f"{card.name}, {run.train.precision}, cuDNN {kernel}{several}"


class Stop:
    """Lets a run end, saved, after its step at SIGINT, SIGTERM or SIGHUP; a second one acts at
    once. One that was to be ignored (`nohup`) still is. Of a world, the signals of the first seconds
    are one, because torchrun passes on what a terminal has sent already."""

    def __init__(self, run: Run) -> None:
        self.signal = 0
        self._run = run

    def __enter__(self) -> "Stop":
        wanted = [getattr(signal, name, None) for name in ("SIGINT", "SIGTERM", "SIGHUP")]
        handlers = {s: signal.getsignal(s) for s in wanted if s is not None}  # Windows lacks one
        self._before = {s: h for s, h in handlers.items() if h is not signal.SIG_IGN}
        for number in self._before:
            signal.signal(number, self._remember)
        return self

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self._run.stopping = True
        again, now = self.signal != 0, time.monotonic()
        if not again:
            self.signal, self._told = number, now
        if self._run.world.size > 1 and now - self._told < TOGETHER:
            return
        self.__exit__()
        if again:
            signal.raise_signal(number)

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


def follow(run: Run, quiet: bool) -> int:
    """Train `run` to its end while telling about it; print the path of its best checkpoint, and
    return the exit code."""
    window = run.batches.symbols_per_window
    with Stop(run) as stop, _bar(run, window, quiet) as bar:
        pace = Pace(run.state.step)
        for report in run.reports():
            match report:
                case StepReport():
                    pace.take(report)
                    nats, bits = pace.loss, pace.loss / math.log(2)
                    bar.set_postfix_str(f"loss {nats:.3f}, {bits:.3f} bits/char", False)
                    bar.update(window)
                case Validation() if not quiet:
                    _write(bar, _line(report, run, pace, window))
                    _write(bar, _sample(report, run))
                case Rollback():
                    bar.n = report.to * window
                    _write(bar, f"warning: {report}")
                case TrainingWarning():
                    _write(bar, f"warning: {report}")
    told = stop.signal or (signal.SIGTERM if run.stopping else 0)  # another process was told
    if not run.world.is_main:
        return 128 + told if told else 0
    return _tell_end(run, told, quiet)


def _tell_end(run: Run, stopped: int, quiet: bool) -> int:
    folder = shlex.quote(str(run.folder))
    if stopped and not run.finished:
        text = "TEXT " if STDIN_NAME in (*run.corpus.sources, *run.corpus.val_sources) else ""
        status(f"stopped after step {run.state.step:,} and saved; go on with:", quiet)
        size = run.world.size
        command = f"torchrun --nproc-per-node {size} -m charnn" if size > 1 else "charnn"
        status(f"  {command} train {text}--out {folder} --resume", quiet)
        return 128 + stopped
    best = run.record
    if run.state.step < run.train.steps:
        patience = f"no better validation in {run.validation.patience}"
        status(f"ended early, after step {run.state.step:,}: {patience}", quiet)
    status(f"best: {_figure(best.best_nats)} at step {best.best_step:,}; next:", quiet)
    status(f"  charnn sample {folder}", quiet)
    if best.best_nats is not None and STDIN_NAME not in run.corpus.sources:
        status(f"  charnn eval {folder}", quiet)
    show(str(run.folder / BEST))
    return 0


def _write(bar: "tqdm[Any]", line: str) -> None:
    """A line above the bar."""
    bar.write(for_stream(line, sys.stderr), file=STDERR)


def spoken(seconds: float) -> str:
    """A time in the unit that suits it."""
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} seconds"


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


def _bar(run: Run, window: float, quiet: bool) -> "tqdm[Any]":
    return tqdm(
        total=run.train.steps * window,
        initial=run.state.step * window,
        unit="char",
        unit_scale=True,
        disable=quiet or not sys.stderr.isatty(),
        dynamic_ncols=True,
        bar_format="{percentage:3.0f}%|{bar}| {rate_fmt}, {remaining} left{postfix}",
        file=STDERR,
    )


def _line(report: Validation, run: Run, pace: Pace, window: float) -> str:
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
    if run.corpus.is_records:
        writer = Sampler(report.network, run.corpus.tokenizer, records=True)
        text = " | ".join(sample.text for sample in writer.samples(config, SAMPLE_RECORDS))
        return f"  | {''.join(c if c.isprintable() else ' ' for c in text[:SAMPLE_LENGTH])}"
    text = "".join(stream(report.network, run.corpus.tokenizer, config))
    return "  | " + "".join(c if c.isprintable() else " " for c in text)
