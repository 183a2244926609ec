"""Which run or checkpoint a name stands for, and which runs there are."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from charnn.errors import CheckpointError, MissingCheckpointError
from charnn.files import AnyPath, named_path
from charnn.runs.folder import (
    RUN_INFO,
    RUNS,
    best_checkpoint,
    checkpoints_in,
    exists,
    is_run,
    is_state,
    modified,
    read_run_info,
    restart_advice,
    run_name,
)
from charnn.words import closest

_MAX_NAME = 100  # characters of a wrong name in a message


def find_checkpoint(name: str | Path) -> Path | None:
    """Return the checkpoint that `name` stands for, or None.

    That is a .safetensors file, a run folder, or the name of a run under ./checkpoints, in this
    order. A .safetensors file may be missing, which opening it reports.
    """
    if not str(name):  # which Path takes for the current folder
        return None
    return checkpoint_at(Path(name)) or (checkpoint_at(RUNS / name) if _is_name(name) else None)


def checkpoint_at(path: Path) -> Path | None:
    """Return the checkpoint that a path stands for, or None."""
    if not exists(path):  # also an argument too long for a path, such as a text to inspect
        return path if path.suffix == ".safetensors" else None
    if path.is_dir() and (path / RUN_INFO).exists() and not is_run(path):
        raise CheckpointError(restart_advice(path))
    if path.suffix == ".safetensors" and not path.is_dir():
        return path
    return best_checkpoint(path) if is_run(path) else None


def require_checkpoint(name: AnyPath, advice: str = "") -> Path:
    """Return the checkpoint that `name` stands for; `advice` ends the error if nothing is like it.

    Raises:
        MissingCheckpointError: there is none.
    """
    named_path(name)
    name = os.fspath(name)
    if found := find_checkpoint(name):
        return found
    if exists(Path(name)):
        if runs := runs_in(Path(name)):
            raise CheckpointError(
                f"{shown(name)}: a folder of runs; name one of them, such as {runs[0]}"
            )
        raise CheckpointError(
            f"{shown(name)}: neither a run folder nor a checkpoint of charnn; name one of these"
        )
    raise MissingCheckpointError(_not_found("checkpoint", name, advice))


def find_run(name: AnyPath) -> Path:
    """Return the folder of the run called `name`; any other path is returned as it is.

    Raises:
        MissingCheckpointError: there is no such path, but one that is like it.
    """
    path, name = named_path(name), os.fspath(name)
    if exists(path):
        return path
    if _is_name(name) and exists(RUNS / name):
        return RUNS / name
    if closest_run(name):
        raise MissingCheckpointError(_not_found("run", name))
    return path


def require_run(name: AnyPath) -> Path:
    """Return the folder of the run called `name`, or a path that exists.

    Raises:
        MissingCheckpointError: there is neither.
    """
    if exists(path := find_run(name)):
        return path
    raise MissingCheckpointError(_not_found("run", os.fspath(name)))


def _not_found(kind: str, name: str | Path, advice: str = "") -> str:
    like = closest_run(name)
    advice = f"did you mean {like}?" if like else advice or "check the name"
    return f"no {kind} named {shown(name)}; {advice}"


def shown(name: str | Path) -> str:
    """Return a name for a message, shortened if it is a very long one."""
    name = str(name)
    return name if len(name) <= _MAX_NAME else f"{name[:_MAX_NAME]}…"


def _is_name(name: str | Path) -> bool:
    return str(name) not in ("", ".", "..") and Path(name).name == str(name)


def closest_run(name: str | Path) -> Path | None:
    """Return the checkpoint or run whose path, or name under ./checkpoints, is most like `name`."""
    for path in [RUNS / name, Path(name)] if _is_name(name) else [Path(name)]:
        if (like := _mended(path)) and (like.suffix == ".safetensors" or is_run(like)):
            return Path(like.name) if like.parent == RUNS else like
    return None


def _mended(path: Path) -> Path | None:
    """Return the existing path that is most like `path` in each of its parts, or None."""
    found = Path(path.anchor)
    for part in path.relative_to(path.anchor).parts:
        if exists(found / part):
            found /= part
            continue
        try:
            names = [entry.name for entry in found.iterdir()]
        except OSError:  # no folder, or one that may not be read
            return None
        if (like := closest(part, names)) is None:
            return None
        found /= like
    return found


def find_runs() -> list[Path]:
    """Return the run folders under `./checkpoints`, newest first."""
    return runs_in(RUNS)


def runs_in(parent: Path) -> list[Path]:
    """Return the run folders in a folder, newest first."""
    folders = (path for path in parent.glob("*") if is_run(path))
    newest = {folder: max(map(modified, checkpoints_in(folder))) for folder in sorted(folders)}
    return sorted(newest, key=lambda folder: -newest[folder])


def newest_run() -> Path | None:
    """Return the newest run that has a model worth reading, or else the newest one.

    A run that was stopped before its first validation has only saved where to resume.
    """
    runs = find_runs()
    useful = (run for run in runs if any(not is_state(path) for path in checkpoints_in(run)))
    return next(useful, runs[0] if runs else None)


def runs_of(corpus: Sequence[str]) -> list[Path]:
    """Return the runs on these texts, newest first: those whose run.json names just these files,
    or else those called as a run on them would be, with or without a number."""
    runs, places = find_runs(), [str(Path(path).absolute()) for path in corpus]
    same = [run for run in runs if read_run_info(run).get("corpus") == places]
    name = re.escape(run_name(corpus))
    return same or [run for run in runs if re.fullmatch(rf"{name}(-\d+)?", run.name)]
