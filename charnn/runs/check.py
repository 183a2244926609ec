"""Check a run folder or a checkpoint as a whole, and mend what can be mended.

A repair deletes nothing that could still be read: a damaged file is renamed, and a log that loses
its damaged lines is copied first. Each step leaves a folder that can be checked again.
"""

import contextlib
import functools
import logging
import os
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from charnn.checkpoint import Checkpoint, load
from charnn.errors import CharnnError, CheckpointError, DamagedError, MissingCheckpointError
from charnn.files import explained, is_leftover, link_or_copy
from charnn.model.network import tensors_of
from charnn.runs.best import best_problem, best_within, is_best_lost
from charnn.runs.folder import (
    BEST,
    LAST,
    METRICS,
    PREVIOUS,
    RUN_INFO,
    is_run_folder,
    is_unstarted,
    kept_states,
    restart_advice,
    set_aside,
)
from charnn.runs.info import mend_run_info, run_info_problem
from charnn.runs.lock import LOCK, lock_folder, lock_holder
from charnn.runs.metrics import damaged_lines, drop_damaged_lines
from charnn.runs.opening import older_state
from charnn.runs.saver import Saver
from charnn.training.state import TrainState
from charnn.words import plural

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Finding:
    """A problem of a file, and what a repair does about it."""

    path: Path
    problem: str
    mend: str = ""  # what a repair does, such as "remove it"; "" if it can do nothing
    repaired: bool = False

    def to_json(self) -> dict[str, str | bool]:
        """Return the finding as plain JSON values."""
        return {
            "path": str(self.path),
            "problem": self.problem,
            "repair": self.mend,
            "repaired": self.repaired,
        }

    def __str__(self) -> str:
        end = "repaired" if self.repaired else f"`repair=True` will {self.mend}"
        return f"{self.path}: {self.problem}" + (f"; {end}" if self.mend else "")


# A finding, and the function that mends it, if it can be mended.
_Found = tuple[Finding, Callable[[], object] | None]


def check(path: Path, repair: bool = False) -> list[Finding]:
    """Return what is wrong with a run folder or a checkpoint file; with `repair`, mend it.

    Without `repair` nothing is changed. Of a run that is training now only the checkpoints are
    checked, because its other files change.

    Raises:
        CharnnError: the path is neither, or the run is to be repaired but is in use.

    Example:
        >>> check(Path("checkpoints/corpus"))
        []
    """
    if not path.is_dir():
        return list(_check_file(path, repair))
    if not is_run_folder(path):
        raise CharnnError(f"{path}: not a run folder; name one that holds a {LAST}")
    with explained(f"checking {path}", "check the permissions of the folder"):
        lock = path / LOCK
        if lock.exists() and not lock.is_file():
            return [Finding(lock, "not a lock file, so the run cannot be used; move it away")]
        if is_unstarted(path):
            log.info(restart_advice(path))
            return []
        if not repair:
            if holder := lock_holder(path):
                log.info(f"{path}: in use by {holder}, so only its checkpoints are checked")
            return [finding for finding, _ in _check_folder(path, bool(holder))]
        with lock_folder(path):
            return [_mended(found, mend) for found, mend in _check_folder(path, False)]


def _mended(found: Finding, mend: Callable[[], object] | None) -> Finding:
    """Mend what was found, and return what became of it."""
    if mend is None:
        return found
    try:
        with explained("it could not be repaired", "check the folder and the free space"):
            mend()
    except CharnnError as error:
        return Finding(found.path, f"{found.problem}; {error}")
    return replace(found, repaired=True)


def _check_file(path: Path, repair: bool) -> Iterator[Finding]:
    try:
        load(path)
    except MissingCheckpointError:
        raise
    except CheckpointError as error:
        advice = "; only a whole run can be repaired, so name its folder" if repair else ""
        yield Finding(path, _without(path, error) + advice)


def _check_folder(folder: Path, in_use: bool) -> Iterator[_Found]:
    """Yield what is wrong, each with its mend, which is to be called before the next is drawn."""
    last = yield from _check_last(folder, in_use)
    for path in kept_states(folder):
        try:
            load(path)
        except CheckpointError as error:
            if in_use and not os.path.lexists(path):  # the run keeps newer ones now
                continue
            mend = f"rename it to {path.name}.damaged"
            yield Finding(path, _without(path, error), mend), functools.partial(set_aside, path)
    yield from _check_best(folder, last)
    if in_use:
        return
    yield from _check_metrics(folder, last)
    path = folder / RUN_INFO
    try:
        problem = run_info_problem(folder)
    except CharnnError as error:  # it may be whole
        yield Finding(path, _without(path, error)), None
        problem = ""
    if problem:
        if last is None or last.run is None:  # an older file knows too little
            yield Finding(path, f"{problem}; resume the run with its text to write it anew"), None
        else:
            mend = "write what is known anew; the text has to be named to resume the run"
            yield Finding(path, problem, mend), lambda: mend_run_info(folder, last)
    for path in sorted(filter(is_leftover, folder.iterdir())):
        yield Finding(path, "left by a process that was killed", "remove it"), path.unlink


def _check_last(folder: Path, in_use: bool) -> Generator[_Found, None, Checkpoint | None]:
    """Check the state that the run resumes from; return it, or an older one in its place."""
    path, previous = folder / LAST, folder / PREVIOUS
    try:
        last, source = load(path), path
        if problem := _state_problem(last):
            yield Finding(path, problem), None
    except DamagedError as error:
        problem = _without(path, error)
        if (found := older_state(folder)) is None:
            yield Finding(path, f"{problem}; there is no older state, so nothing can resume"), None
            return None
        last, source = found
        mend = f"restore it from {source.name}, of step {last.figures.step:,}"
        yield Finding(path, problem, mend), lambda: _restore(path, source)
    except CheckpointError as error:
        yield Finding(path, _without(path, error)), None
        return None
    if source != previous and previous.exists() and not in_use:
        found_previous = Finding(previous, "left by a save that was interrupted", "remove it")
        yield found_previous, lambda: _remove_previous(previous)
    return last


def _restore(path: Path, source: Path) -> None:
    """Let `last` be an older state; a damaged one is kept under another name."""
    with contextlib.suppress(FileNotFoundError):
        set_aside(path)
    link_or_copy(source, path)
    if source.name == PREVIOUS:
        source.unlink()


def _remove_previous(path: Path) -> None:
    try:
        load(path)
    except CheckpointError:
        set_aside(path)
    else:  # an older state than `last`, which is whole
        path.unlink()


def _state_problem(last: Checkpoint) -> str:
    """Return why a run cannot be resumed from a whole checkpoint, or ""."""
    recurrent = last.training_tensors.get("recurrent")
    if last.progress is None or recurrent is None or recurrent.ndim < 2:
        return "holds a model, but no training state to resume from"
    try:
        cpu = torch.device("cpu")
        state = TrainState.start(last.model, last.train, recurrent.shape[1], cpu)
        state.restore(tensors_of(last.weights), last.progress, tensors_of(last.training_tensors))
    except CheckpointError as error:
        return str(error)
    return ""


def _check_best(folder: Path, last: Checkpoint | None) -> Iterator[_Found]:
    """Check the best model: whether it is whole, of this run, and the best one that was found."""
    path, best, problem = folder / BEST, None, ""
    try:
        best = load(path)
        problem = "" if last is None else best_problem(best, last)
    except MissingCheckpointError:
        pass
    except CheckpointError as error:
        problem = _without(path, error)
    if problem:
        best, mend = None, f"rename it to {path.name}.damaged"
        yield Finding(path, problem, mend), lambda: set_aside(path)
    if last is None or last.run is None:  # an older file does not say how good the best model is
        return
    known, saver = last.run.validations, Saver(folder)
    saver.best = None if best is None else best.figures
    if not is_best_lost(saver.best, known):
        return
    there = "missing" if best is None else f"the model of step {best.figures.step:,}"
    problem = f"{there}, but the run found its best model at step {known.best_step:,}"
    within = best_within(last, known)
    if within is not None and saver.is_better(within.figures.val_nats_per_char):
        if within.figures.full_val_nats_per_char is None:
            problem += f"; {LAST} has that model, but only its loss on a sample of the text"
        yield Finding(path, problem, f"save it from {LAST}"), lambda: saver.save_best(within)
    else:
        lost = f"{problem}; that one is lost, and the run would have to find another"
        yield Finding(path, lost), None


def _check_metrics(folder: Path, last: Checkpoint | None) -> Iterator[_Found]:
    path = folder / METRICS
    if not path.exists():
        if last is not None and last.figures.step:
            yield (
                Finding(path, "missing, so the curves of the run are lost; it needs no repair"),
                None,
            )
        return
    if not path.is_file():
        yield Finding(path, "not a file; move it away"), None
        return
    _, damaged = damaged_lines(path)
    if damaged:
        mend = "remove them, and keep a copy of the file if it is more than a half line"
        found = Finding(path, plural(damaged, "damaged line"), mend)
        yield found, lambda: drop_damaged_lines(path)


def _without(path: Path, error: Exception) -> str:
    """Return an error's message without the path before it and the advice after it."""
    if isinstance(error, MissingCheckpointError):
        return "missing"
    message = str(error).removeprefix(f"{path}: ")
    for advice in ("; name a run folder", "; use another checkpoint"):
        message = message.removesuffix(advice)
    return message
