"""Which checkpoint a command is about: a run's name, a run folder, a file, or the newest run."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from charnn.cli.terminal import LOGGER, status
from charnn.errors import CheckpointError, MissingCheckpointError
from charnn.runs import find
from charnn.runs.find import (
    checkpoint_at,
    closest_run,
    find_checkpoint,
    find_runs,
    require_checkpoint,
    shown,
)
from charnn.runs.folder import BEST, RUNS, best_checkpoint, exists

if TYPE_CHECKING:
    from charnn.checkpoint import Checkpoint


def split_checkpoint(
    arguments: Sequence[str], *, paths: bool = True
) -> tuple[Path, tuple[str, ...]]:
    """Return the checkpoint that the arguments begin with, and the other arguments.

    If they do not begin with one, it is that of the newest run. With `paths`, the others are paths
    of texts: one that exists is no run's name, and one that does not may be a misspelt run.
    """
    for other in arguments[1:]:
        if _checkpoint_or_text(other) if paths else other and checkpoint_at(Path(other)):
            raise click.UsageError(
                "expected one checkpoint, as the first argument; "
                f"move {other} there or leave it out"
            )
    if not arguments:
        return _newest(), ()
    first = arguments[0]
    if found := _checkpoint_or_text(first) if paths else find_checkpoint(first):
        return _reported(found, first), tuple(arguments[1:])
    if not exists(Path(first)) and (like := closest_run(first)):
        if paths:
            what = f"no checkpoint or text named {shown(first)}"
            raise CheckpointError(f"{what}; did you mean {like}?")
        LOGGER.warning(f"{shown(first)} is read as a text; did you mean the run {like}?")
    return _newest(first), tuple(arguments)


def one_checkpoint(arguments: Sequence[str], hint: str = "") -> Path:
    """Return the checkpoint of a command that takes nothing else; `hint` ends an error."""
    if len(arguments) > 1:
        raise click.UsageError(f"expected one checkpoint, not {len(arguments)} arguments{hint}")
    if not arguments:
        return _newest()
    name = arguments[0]
    if found := find_checkpoint(name):
        return _reported(found, name)
    if not closest_run(name) and not find_runs():
        raise no_runs(name)
    return require_checkpoint(name, f"`charnn runs` lists the runs{hint}")


def open_checkpoint(path: Path) -> "Checkpoint":
    """Open a run folder or a checkpoint file, with a note if only an older one could be read."""
    from charnn.runs.opening import open_model

    try:
        loaded, note = open_model(path)
    except MissingCheckpointError as error:
        if closest_run(path):
            raise
        message = f"{path}: no such file; `charnn runs` lists the runs"
        raise CheckpointError(message) from error
    if note:
        LOGGER.warning(note)
    return loaded


def named_run(name: str) -> Path:
    """Return the folder of the run called `name`, or the path of a checkpoint file, which may be
    missing, as opening it reports."""
    path = find.find_run(name)
    if exists(path) or path.suffix == ".safetensors":
        return path
    if not find_runs():
        raise no_runs(name, "run")
    raise CheckpointError(f"no run named {shown(name)}; `charnn runs` lists the runs")


def run_argument(path: Path) -> str:
    """Return the argument that names a checkpoint in a command, quoted for a shell."""
    return shlex.quote(str(path.parent if path.name == BEST else path))


def names_checkpoint(argument: str) -> bool:
    """Return True if an argument, which may also be the path of a text, names a checkpoint."""
    return _checkpoint_or_text(argument) is not None


def newest_run(named: str = "", kind: str = "run") -> Path:
    """Return the folder of the newest run, and report it; `named` is what was none."""
    if (run := find.newest_run()) is None:
        raise no_runs(named, kind)
    newer = find_runs()[0]
    why = "" if newer == run else f" (the newer {newer} was not validated yet)"
    status(f"{kind}: {best_checkpoint(run) if kind == 'checkpoint' else run}{why}")
    return run


def _checkpoint_or_text(argument: str) -> Path | None:
    """Return the checkpoint that an argument stands for, which may also be the path of a text."""
    return checkpoint_at(Path(argument)) if exists(Path(argument)) else find_checkpoint(argument)


def _newest(named: str = "") -> Path:
    """Return the best checkpoint of the newest run; `named` is what was no checkpoint."""
    return best_checkpoint(newest_run(named, "checkpoint"))


def no_runs(named: str, kind: str = "checkpoint") -> CheckpointError:
    """Return the error that there is no run yet; `named` is what was none."""
    what = f"no {kind} named {shown(named)}" if named else f"no {kind} given"
    return CheckpointError(f"{what}, and ./{RUNS} is empty; start with `charnn train TEXT`")


def _reported(path: Path, name: str) -> Path:
    """Return `path`, the checkpoint found for `name`; report it unless `name` is its path."""
    if not path.is_relative_to(name):
        status(f"checkpoint: {path}")
    return path
