"""charnn from Python: train a model, resume a run, load a model."""

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, suppress
from pathlib import Path
from typing import Unpack

from charnn.arguments import flag, function, number, whole_number
from charnn.config import (
    DEFAULT_MINUTES,
    MAX_THREADS,
    TextConfig,
    TrainConfig,
    ValidationConfig,
)
from charnn.errors import CharnnError, SettingError, text_named_by
from charnn.files import AnyPath, named_path
from charnn.insight.curves import Curves, read_curves
from charnn.language_model import LanguageModel
from charnn.runs.find import find_run, require_checkpoint, require_run
from charnn.runs.folder import BEST
from charnn.runs.opening import open_model
from charnn.runs.reports import Replanned, Report
from charnn.runs.resume import ResumeRequest, resume_run
from charnn.runs.run import Run
from charnn.runs.start import RunRequest, start_run
from charnn.settings import TrainSettings
from charnn.torch_modes import default_torch_modes
from charnn.training.distributed import join_world
from charnn.training.plan import Budget, PlanRequest
from charnn.training.reports import Rollback, StepReport, TrainingWarning
from charnn.words import shown

log = logging.getLogger(__name__)

Paths = AnyPath | Sequence[AnyPath]


def load(
    path: AnyPath, device: str = "auto", *, precision: str = "fp32", exact: bool = False
) -> LanguageModel:
    """Load the model of a run (its best checkpoint) or in a .safetensors file.

    Args:
        path: a run's name, a run folder or a checkpoint file.
        device: "auto" (CUDA, then CPU), "cpu", "cuda", "cuda:1" or "mps".
        precision: of the products when text is generated: "fp32", "int8" (CPU) or "fp16" (GPU).
        exact: generate each text so that its seed always generates it again on the same machine,
            alone and among others; a single text takes several times as long.

    Raises:
        CheckpointError: the file is missing (then also a `FileNotFoundError`), damaged, or no
            checkpoint of charnn.

    Example:
        >>> model = charnn.load("checkpoints/corpus")
        >>> text = model.sample("st", length=80, seed=1)
    """
    place = require_checkpoint(path)
    loaded, note = open_model(place)
    if note:
        log.warning(note)
    return LanguageModel(loaded, device, precision=precision, exact=exact, folder=place.parent)


def curves(run: AnyPath) -> Curves:
    """Return the learning curves of a run: its logged steps and validations.

    Example:
        >>> found = charnn.curves("checkpoints/corpus")
        >>> step, nats_per_char = found.metrics.validations[-1]
    """
    folder = require_run(run)
    return read_curves(folder, folder.name)


def train(
    *corpus: AnyPath,
    out: AnyPath | None = None,
    minutes: float | None = None,
    epochs: float | None = None,
    steps: int | None = None,
    val: Paths = (),
    device: str = "auto",
    seed: int | None = None,
    threads: int = 0,
    init_from: AnyPath | None = None,
    save_every: float | None = None,
    keep: int = 0,
    force: bool = False,
    on_report: Callable[[Report], object] | None = None,
    progress: bool = False,
    **settings: Unpack[TrainSettings],
) -> Path:
    """Train a model on texts into a new run folder; return the path of its best checkpoint.

    Args:
        corpus: files, folders or globs; none: Python's language reference.
        out: the run folder; chosen under `./checkpoints` if it is left out.
        minutes, epochs, steps: the budget, one of the three; five minutes if none is given.
        val: a validation text of its own, instead of the last tenth of the corpus.
        device: "auto", "cpu", "cuda", "cuda:1" or "mps".
        seed: the random seed; drawn if it is left out.
        threads: CPU threads; 0 chooses.
        init_from: start with the weights of this run or checkpoint.
        save_every: minutes between two saves; chosen if it is left out.
        keep: the newest N saves stay as files of their own, such as `last.000500.safetensors`.
        force: train although the memory may not suffice.
        on_report: called with each `StepReport`, `Validation`, `Rollback`, `Replanned` and
            `TrainingWarning`.
        progress: show a progress bar (tqdm, in a terminal or a notebook).
        settings: see `TrainSettings`, such as `hidden_size=256`; what is left out is chosen.

    Raises:
        CharnnError: a setting, the text or the folder cannot be used; the message says why.

    What is chosen is logged by the logger "charnn" at level INFO, what is notable as a WARNING. An
    exception raised by `on_report`, or `KeyboardInterrupt`, stops the run, which is saved first.

    Example:
        >>> best = charnn.train("corpus.txt", steps=4, hidden_size=8, out="checkpoints/small")
        >>> best.name
        'best.safetensors'
    """
    text = {name: value for name, value in settings.items() if name in TextConfig.names()}
    given = {name: value for name, value in settings.items() if name not in text}
    if init_from is not None and "tokenizer" in text:
        raise SettingError("`tokenizer`: with `init_from` it is that run's; leave it out")
    if minutes is None and epochs is None and steps is None:
        minutes = DEFAULT_MINUTES
    request = RunRequest(
        PlanRequest(
            Budget(minutes, epochs, steps),
            given,
            None if seed is None else TrainConfig.checked("seed", seed),
            whole_number("threads", threads, 0, MAX_THREADS),
            flag("force", force),
        ),
        _names("corpus", corpus),
        _names("val", val),
        TextConfig.from_json(text),
        None if out is None else named_path(out),
        None if init_from is None else require_run(init_from),
        _seconds(save_every),
        "charnn.train in Python",
        whole_number("keep", keep, 0),
    )
    following = _following(on_report, progress)
    with join_world(device) as (world, where):
        return _finish(start_run(request, where, world), *following)


def resume(
    folder: AnyPath,
    *corpus: AnyPath,
    minutes: float | None = None,
    epochs: float | None = None,
    steps: int | None = None,
    val: Paths = (),
    device: str = "auto",
    threads: int = 0,
    save_every: float | None = None,
    keep: int = 0,
    patience: int | None = None,
    force: bool = False,
    on_report: Callable[[Report], object] | None = None,
    progress: bool = False,
) -> Path:
    """Resume a run exactly where it stopped; return the path of its best checkpoint.

    `folder` is the run's name or folder; the other arguments mean what they mean in `train`.
    `corpus` is needed only if the text has moved; a larger total budget (`minutes`, `epochs` or
    `steps`) extends the run.

    Raises:
        CharnnError: the folder has no run to resume, or the text is not the run's.

    Example:
        >>> best = charnn.resume("checkpoints/corpus", steps=8)
    """
    extended = any(value is not None for value in (minutes, epochs, steps))
    request = ResumeRequest(
        find_run(folder),
        _names("corpus", corpus),
        _names("val", val),
        Budget(minutes, epochs, steps) if extended else None,
        None if patience is None else ValidationConfig.checked("patience", patience),
        _seconds(save_every),
        whole_number("threads", threads, 0, MAX_THREADS),
        flag("force", force),
        whole_number("keep", keep, 0),
    )
    following = _following(on_report, progress)
    call = f'`charnn.resume({str(folder)!r}, "TEXT")`'
    with text_named_by(call), join_world(device) as (world, where):
        return _finish(resume_run(request, where, world), *following)


def _following(
    on_report: Callable[[Report], object] | None, progress: bool
) -> tuple[Callable[[Report], object], bool]:
    """Return the function to call with each report, and True if a progress bar is wanted."""
    call = (lambda _: None) if on_report is None else function("on_report", on_report)
    return call, flag("progress", progress)


def _finish(
    running: AbstractContextManager[Run],
    on_report: Callable[[Report], object],
    progress: bool,
) -> Path:
    """Train to the end; warnings are logged. An interrupted run is saved, so that it can be resumed
    where it was."""
    with running as run, closing(run.reports()) as reports:  # closed, it restores torch's threads
        try:
            for report in _with_bar(run, reports) if progress and run.world.is_main else reports:
                if isinstance(report, Rollback | Replanned | TrainingWarning):
                    log.warning(str(report))
                on_report(report)
        except CharnnError:  # training has failed, not `on_report`
            raise
        except BaseException:
            with suppress(CharnnError), default_torch_modes():
                run.save_interrupted()
            raise
        return run.folder / BEST


def _with_bar(run: Run, reports: Iterable[Report]) -> Iterator[Report]:
    """Yield the reports beside a progress bar of their steps."""
    from tqdm.auto import tqdm

    with tqdm(total=run.train.steps, initial=run.state.step, unit="step") as bar:
        for report in reports:
            if isinstance(report, StepReport):
                bar.set_postfix(loss=f"{report.loss:.3f}", refresh=False)
                bar.update(report.step - bar.n)
            elif isinstance(report, Rollback):
                bar.n = report.to
            elif isinstance(report, Replanned):
                bar.total = report.steps
            yield report


def _names(name: str, paths: Paths) -> tuple[str, ...]:
    """Return one path or several as text."""
    some = [paths] if isinstance(paths, str | os.PathLike) else paths
    if not isinstance(some, Iterable):
        raise SettingError(f"`{name}` must be a path or several, not {shown(paths)}")
    return tuple(str(named_path(path)) for path in some)


def _seconds(save_every: float | None) -> float | None:
    return None if save_every is None else 60 * number("save_every", save_every, low=0)
