"""Which checkpoint a command is about: a run's name, a run folder, a file, or the newest run."""

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from charnn.cli.terminal import LOGGER, status
from charnn.errors import CheckpointError, MissingCheckpointError
from charnn.runs.folder import RUN_INFO, RUNS, best_checkpoint, find_runs, is_run, restart_advice

if TYPE_CHECKING:
    from charnn.checkpoint import Checkpoint

ALIKE = 0.8  # difflib's ratio from which on a name is suggested: `novl` for `novel`, not for `poem`


def find_checkpoint(name: str) -> Path | None:
    """Return the checkpoint that `name` stands for, or None.

    That is a .safetensors file, a run folder, or the name of a run under ./checkpoints, in this
    order. A .safetensors file may be missing, which opening it reports.
    """
    return _at(Path(name)) or (_at(RUNS / name) if _is_name(name) else None)


def split_checkpoint(
    arguments: Sequence[str], *, paths: bool = True
) -> tuple[Path, tuple[str, ...]]:
    """Return the checkpoint that the arguments begin with, and the other arguments.

    If they do not begin with one, it is that of the newest run. With `paths`, the others are paths
    of texts: one that exists is no run's name, and one that does not may be a misspelt run.
    """
    for other in arguments[1:]:
        if _checkpoint_or_text(other) if paths else _at(Path(other)):
            raise click.UsageError(f"expected one checkpoint, as the first argument: {other}")
    if not arguments:
        return _newest(), ()
    first = arguments[0]
    if found := _checkpoint_or_text(first) if paths else find_checkpoint(first):
        return _reported(found, first), tuple(arguments[1:])
    if paths and not _exists(Path(first)) and (like := _alike(first)):
        raise CheckpointError(f"no checkpoint or text named {first}; did you mean {like}?")
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
    like = _alike(name)
    if not like and not find_runs():
        raise _no_runs(name)
    advice = f"did you mean {like}?" if like else f"`charnn runs` lists the runs{hint}"
    raise CheckpointError(f"no checkpoint named {name}; {advice}")


def run_called(name: str) -> Path:
    """Return the folder of the run called `name`; any other path is returned as it is."""
    path = Path(name)
    if _exists(path):
        return path
    if _is_name(name) and _exists(RUNS / name):
        return RUNS / name
    if like := _alike(name):
        raise CheckpointError(f"no run named {name}; did you mean {like}?")
    return path


def open_checkpoint(path: Path) -> "Checkpoint":
    """Open a run folder or a checkpoint file, with a note if only an older one could be read."""
    from charnn.runs.opening import open_model

    try:
        loaded, note = open_model(path)
    except MissingCheckpointError as error:
        like = _alike(str(path))
        advice = f"did you mean {like}?" if like else "`charnn runs` lists the runs"
        raise CheckpointError(f"{path}: no such file; {advice}") from error
    if note:
        LOGGER.warning(note)
    return loaded


def names_checkpoint(argument: str) -> bool:
    """Return True if an argument, which may also be the path of a text, names a checkpoint."""
    return _checkpoint_or_text(argument) is not None


def newest_run() -> Path:
    """Return the folder of the newest run."""
    runs = find_runs()
    if not runs:
        raise _no_runs("", "run")
    status(f"run: {runs[0]}")
    return runs[0]


def _checkpoint_or_text(argument: str) -> Path | None:
    """Return the checkpoint that an argument stands for, which may also be the path of a text."""
    return _at(Path(argument)) if _exists(Path(argument)) else find_checkpoint(argument)


def _newest(named: str = "") -> Path:
    """Return the best checkpoint of the newest run; `named` is what was no checkpoint."""
    runs = find_runs()
    if not runs:
        raise _no_runs(named)
    path = best_checkpoint(runs[0])
    status(f"checkpoint: {path}")
    return path


def _no_runs(named: str, kind: str = "checkpoint") -> CheckpointError:
    what = f"no {kind} named {named}" if named else f"no {kind} given"
    return CheckpointError(f"{what}, and ./{RUNS} is empty; start with `charnn train TEXT`")


def _reported(path: Path, name: str) -> Path:
    """Return `path`, the checkpoint found for `name`; report it unless `name` is its path."""
    if not path.is_relative_to(name):
        status(f"checkpoint: {path}")
    return path


def _at(path: Path) -> Path | None:
    """Return the checkpoint that a path stands for, or None."""
    if path.suffix == ".safetensors":
        return path
    if not _exists(path):  # also an argument too long for a path, such as a text to inspect
        return None
    if (path / RUN_INFO).exists() and not is_run(path):
        raise CheckpointError(restart_advice(path))
    return best_checkpoint(path) if is_run(path) else None


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # too long for a path, or with a NUL character
        return False


def _is_name(name: str) -> bool:
    return name not in ("", ".", "..") and Path(name).name == name


def _alike(name: str) -> Path | None:
    """Return the checkpoint or run whose path, or name under ./checkpoints, is most like `name`."""
    for path in [RUNS / name, Path(name)] if _is_name(name) else [Path(name)]:
        if (like := _mended(path)) and (like.suffix == ".safetensors" or is_run(like)):
            return Path(like.name) if like.parent == RUNS else like
    return None


def _mended(path: Path) -> Path | None:
    """Return the existing path that is most like `path` in each of its parts, or None."""
    found = Path(path.anchor)
    for part in path.relative_to(path.anchor).parts:
        if _exists(found / part):
            found /= part
            continue
        try:
            names = [entry.name for entry in found.iterdir()]
        except OSError:  # no folder, or one that may not be read
            return None
        if not (close := difflib.get_close_matches(part, names, 1, ALIKE)):
            return None
        found /= close[0]
    return found
