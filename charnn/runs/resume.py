"""The run in a folder, resumed where it stopped."""

import contextlib
import functools
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from charnn.checkpoint import Checkpoint, load
from charnn.config import TrainConfig, ValidationConfig
from charnn.errors import ChangedTextError, DamagedError, SettingError, TextError
from charnn.files import explained, link_or_copy
from charnn.runs.context import RunContext
from charnn.runs.folder import (
    LAST,
    PREVIOUS,
    RUN_INFO,
    kept_state,
    last_checkpoint,
    read_run_info,
    run_and_state,
    set_aside,
)
from charnn.runs.info import (
    mend_run_info,
    reopen_corpus,
    run_info_problem,
    texts_of_run,
    texts_to_json,
    update_run_info,
)
from charnn.runs.lock import lock_run
from charnn.runs.machine import differences, machine_before, this_machine, threads_before
from charnn.runs.opening import load_or_previous
from charnn.runs.run import Run
from charnn.text.corpus import Corpus
from charnn.text.records import mean_record_length
from charnn.torch_modes import default_torch_modes
from charnn.training.distributed import SINGLE_PROCESS, World
from charnn.training.memory import available_per_process, check_memory, memory_explained
from charnn.training.optimizer import learning_rate
from charnn.training.plan import (
    Budget,
    Plan,
    check_precision,
    epoch_steps,
)
from charnn.training.validations import plan_validation
from charnn.words import plural

log = logging.getLogger(__name__)

MAX_STEPS = 10**12


@dataclass(frozen=True)
class ResumeRequest:
    """The changes that a user asks of a resumed run; everything else is as it was."""

    folder: Path  # or a state that was kept in it, to go back to
    corpus: tuple[str, ...] = ()  # only where the text has moved
    val: tuple[str, ...] = ()
    budget: Budget | None = None  # a larger total budget extends the run
    patience: int | None = None
    save_every: float | None = None  # seconds
    threads: int = 0  # 0: as many as the run had
    force: bool = False  # try it although the memory may not suffice
    keep: int = 0  # the newest states that are kept beside `last`


@contextlib.contextmanager
def resume_run(
    request: ResumeRequest, device: torch.device, world: World = SINGLE_PROCESS
) -> Iterator[Run]:
    """Yield the run in a folder, locked within the block, exactly where it stopped.

    Logs what may make the rest of the run differ from an uninterrupted one.
    """
    folder, state = run_and_state(request.folder)
    if state is None:
        last_checkpoint(folder)  # raises before a lock file is made in somebody's folder
    with lock_run(folder) if world.is_main else contextlib.nullcontext() as lock:
        last = world.broadcast(lambda: load(state) if state else _open_last(folder))
        texts, val = world.broadcast(lambda: texts_of_run(folder, request.corpus, request.val))
        reopen = functools.partial(_reopen_corpus, folder, last, texts, val)
        corpus = world.local_main_first(reopen)
        del reopen
        info = read_run_info(folder)
        before = machine_before(last, info)
        threads = request.threads or threads_before(before)
        now = this_machine(device, threads, world.size)
        for note in differences(before, now, device, last):
            log.warning(note)
        train = _extended(last, info, request.budget, corpus)
        plan = Plan(last.model, train, _validation(request, info, last, corpus), "", threads)
        if train.precision == "fp16":
            check_precision("fp16", plan.model.cell, device)
        context = RunContext(
            folder, corpus, last.text, device, world, request.save_every, request.keep, lock
        )
        run = _make_run(request, context, plan, last)
        if world.is_main and (problem := run_info_problem(folder)):
            log.warning(f"{folder / RUN_INFO}: {problem}; writing anew what is known")
            with explained(f"writing {folder / RUN_INFO}", "check the run folder"):
                mend_run_info(folder, last, **_known_info(run))
        del last  # or its tensors would stay in memory while the run trains
        _update_info(request, run, plan)
        log.info(f"run: {folder}, from step {run.state.step:,} of {run.train.steps:,}")
        if run.finished:
            log.info(f"{folder}: finished already, after {plural(run.state.step, 'step')}")
        yield run


def _reopen_corpus(
    folder: Path, last: Checkpoint, texts: Sequence[str], val: Sequence[str]
) -> Corpus:
    try:
        return reopen_corpus(folder, last, texts, val)
    except ChangedTextError as error:  # naming the same text again would not help
        raise TextError(
            f"{error.problem}; restore it, name the original text, or start a new run with "
            f"`init_from={str(folder)!r}`"
        ) from error


@default_torch_modes()
def _make_run(request: ResumeRequest, context: RunContext, plan: Plan, last: Checkpoint) -> Run:
    """Return the run; one whose schedule or validations change is saved with them."""
    extended = plan.train != last.train
    changed = extended or (last.run is not None and plan.validation != last.run.validation)
    if extended:
        log.warning(_extension_note(last, plan.train))
        last = replace(last, train=plan.train)
    if not request.force:
        lanes = max(1, plan.train.batch_size // context.world.size)
        share, available = (
            replace(plan.train, batch_size=lanes),
            available_per_process(context.device),
        )
        check_memory(plan.model, share, available, context.device.type == "cpu")
    folder, state = run_and_state(request.folder)
    if state is not None and context.world.is_main:  # now that the request has proven possible
        _go_back(folder, state)
    with memory_explained(plan.model, plan.train):
        run = Run.resume(context, plan, last)
    if extended and run.finished:
        more = 2 * plan.validation.patience
        log.warning(f"stopped early by `patience`; use `patience={more}` to continue")
    if changed:
        run.save()  # with the longer schedule, before run.json has the longer budget
    return run


def _known_info(run: Run) -> dict[str, Any]:
    """Return the fields of run.json that a resumed run knows."""
    return {"validation": run.validation.to_json(), **texts_to_json(run.corpus)}


def _update_info(request: ResumeRequest, run: Run, plan: Plan) -> None:
    """Note in run.json what the request has changed."""
    changes: dict[str, Any] = {}
    if request.budget is not None:
        changes["budget"] = request.budget.to_json() | {"steps": plan.train.steps}
    if request.corpus:
        changes |= texts_to_json(run.corpus)
    if request.patience is not None:
        changes["validation"] = plan.validation.to_json()
    if changes and run.world.is_main:
        update_run_info(run.folder, **changes)


def _go_back(folder: Path, state: Path) -> None:
    """Let `last` be a state that was kept before; the newest one is kept too, under its step."""
    with explained(f"going back to {state}", "check the run folder and the free space"):
        try:
            newest = kept_state(folder, load(folder / LAST).figures.step)
            if not newest.exists():
                link_or_copy(folder / LAST, newest)
            log.info(f"going back; the newest state is kept as {newest.name}")
        except DamagedError:  # or gone: then there is nothing to keep
            if (folder / LAST).exists():
                set_aside(folder / LAST)
        link_or_copy(state, folder / LAST)
        (folder / PREVIOUS).unlink(missing_ok=True)


def _open_last(folder: Path) -> Checkpoint:
    """Load the checkpoint to resume from; afterwards `last` is whole and the only one."""
    path = last_checkpoint(folder)
    last, read = load_or_previous(path)
    with explained(f"tidying up {folder}", "check the run folder"):
        if read != path:
            log.warning(f"{path} could not be read; resuming from the one before it")
            with contextlib.suppress(FileNotFoundError):
                set_aside(path)
            link_or_copy(read, path)
        path.with_name(PREVIOUS).unlink(missing_ok=True)
    return last


def _validation(
    request: ResumeRequest, info: Mapping[str, Any], last: Checkpoint, corpus: Corpus
) -> ValidationConfig:
    """Return when to validate: as before, or if nothing says that, as a new run would."""
    if last.run is not None:
        validation = last.run.validation
    elif "validation" in info:  # an older checkpoint
        validation = ValidationConfig.from_json(info["validation"])
    else:
        validation = plan_validation(last.train, len(corpus.validation), {})
        log.warning(
            f"nothing says when the run validated; now every {plural(validation.val_every, 'step')}"
            ", so another model may become the best one"
        )
    if request.patience is not None:
        validation = replace(validation, patience=request.patience)
    return validation


def _extended(
    last: Checkpoint, info: Mapping[str, Any], budget: Budget | None, corpus: Corpus
) -> TrainConfig:
    """Return the training settings with the steps of a larger budget."""
    if budget is None:
        return last.train
    if budget.steps is not None:
        steps = budget.steps
    elif budget.epochs is not None:
        length = mean_record_length(corpus.train)
        steps = epoch_steps(budget.epochs, last.train, len(corpus.train), length)
    else:
        before = info.get("budget")
        minutes = before.get("minutes") if isinstance(before, dict) else None
        planned = before.get("steps") if isinstance(before, dict) else None
        if not (isinstance(minutes, int | float) and minutes > 0 and isinstance(planned, int)):
            raise SettingError(
                f"this run's budget is {plural(last.train.steps, 'step')}, not minutes; extend it "
                "with `steps` or `epochs`"
            )
        steps = round(min(planned, MAX_STEPS) * min((budget.minutes or 0) / minutes, 1e6))
    if steps < last.train.steps:
        raise SettingError(
            f"this run has {plural(last.train.steps, 'step')} and can be made longer, not shorter "
            f"({steps:,}); start a new run with another `out`"
        )
    return replace(last.train, steps=steps)


def _extension_note(last: Checkpoint, train: TrainConfig) -> str:
    step = 0 if last.progress is None else last.progress.step
    before, after = (
        learning_rate(min(step, config.steps - 1), config) for config in (last.train, train)
    )
    return (
        f"{last.train.steps:,} steps become {train.steps:,}: the schedule is stretched over them, "
        f"so the learning rate goes from {before:.2g} to {after:.2g} here; the result is not that "
        "of a run planned for this length"
    )
