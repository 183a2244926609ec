"""The best model of a run: whether the file holds it, and where else it may be.

The file alone says how good it is. It may lack the best model because the disk was full when that
was to be saved, or because somebody deleted the file or brought back an older one.
"""

import logging
from dataclasses import replace
from pathlib import Path

from charnn.checkpoint import Checkpoint, load
from charnn.errors import CheckpointError, DamagedError, MissingCheckpointError
from charnn.facts import Figures, Validations
from charnn.files import explained
from charnn.runs.folder import set_aside
from charnn.runs.metrics import MetricsLog
from charnn.runs.saver import Saver

log = logging.getLogger(__name__)


def open_best(path: Path, last: Checkpoint) -> Checkpoint | None:
    """Load the best checkpoint of the run whose `last` this is; None if there is none.

    A file that is damaged or not of this run is renamed, so that nothing overwrites it.

    Raises:
        CheckpointError: the file cannot be read although it may be whole.
    """
    try:
        best = load(path)
        problem = best_problem(best, last)
    except MissingCheckpointError:
        return None
    except CheckpointError as error:
        if isinstance(error.__cause__, OSError) and not isinstance(error, DamagedError):
            why = error.__cause__.strerror
            raise CheckpointError(f"{path}: cannot be read ({why}); check the file") from error
        problem = str(error).removeprefix(f"{path}: ")
    if not problem:
        return best
    with explained(f"renaming {path}", "check the run folder"):
        kept = set_aside(path)
    log.warning(f"{path}: {problem}; it is kept as {kept.name}")
    return None


def best_problem(best: Checkpoint, last: Checkpoint) -> str:
    """Return why `best` cannot be the best model of the run whose `last` this is, or ""."""
    facts = [(c.model, c.text, c.corpus.sha256) for c in (best, last)]
    return "" if facts[0] == facts[1] else "a model of another run"


def is_best_lost(best: Figures | None, known: Validations) -> bool:
    """Return True if a validation found a better model than the saved one, if there is one."""
    if not known.best_step:
        return False
    if best is None or known.best_nats is None:  # without figures the newest is the best
        return best is None or best.step < known.best_step
    nats = best.val_nats_per_char
    return best.step != known.best_step and (nats is None or nats > known.best_nats)


def best_within(last: Checkpoint, known: Validations) -> Checkpoint | None:
    """Return the best model that `last` contains: one that could not be saved, or its own."""
    if last.run is not None and last.run.unsaved_best is not None:
        figures, weights = last.run.unsaved_best, last.best_weights
    elif known.best_step == last.figures.step > 0:
        nats, read = known.best_nats, last.run.validation.val_characters if last.run else 0
        full = nats if read >= last.corpus.characters - last.corpus.train_characters else None
        figures = replace(last.figures, val_nats_per_char=nats, full_val_nats_per_char=full)
        weights = last.weights
    else:
        return None
    return replace(
        last, figures=figures, weights=weights, progress=None, training_tensors={}, run=None,
        best_weights={},
    )  # fmt: skip


def reopen_best(path: Path, last: Checkpoint, saver: Saver, metrics: MetricsLog) -> None:
    """Tell the saver of a resumed run how good `best` is, and let it save a better model that
    `last` contains; let the last validation be repeated if there is neither."""
    known = metrics.validations()
    best, within = open_best(path, last), best_within(last, known)
    saver.best = None if best is None else best.figures
    if not is_best_lost(saver.best, known):
        return
    if within is not None and saver.is_better(within.figures.val_nats_per_char):
        saver.unsaved_best = within
        return
    there = "there is none" if best is None else f"this one is of step {best.figures.step:,}"
    log.warning(
        f"{path}: the best model of the run, of step {known.best_step:,}, is lost; {there}, "
        "until a validation is better"
    )
    if best is None:
        metrics.repeat_validation(last.figures.step)
