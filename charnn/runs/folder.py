"""A run folder: the files in it, and the runs there are.

checkpoints/corpus/
  best.safetensors   the model of the best validation
  last.safetensors   the newest state, with everything needed to resume
  metrics.jsonl      one line for many steps and for each validation and rollback
  run.json           command, budget, the corpus's place, versions and machine
  .lock              held by the process that writes here

While `last` is being replaced, and after a power cut, `last.previous.safetensors` may exist too. A
run that keeps earlier states has them as `last.000500.safetensors`, named after their steps. Files
that were found damaged end in `.damaged`; nothing reads them.
"""

import contextlib
import errno
import itertools
import json
import math
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from charnn.errors import CharnnError
from charnn.files import (
    explained,
    is_leftover,
    make_folder,
    open_regular,
    read_small,
    replacing,
)
from charnn.runs.lock import LOCK, is_lock_file

BEST, LAST, METRICS, RUN_INFO = "best.safetensors", "last.safetensors", "metrics.jsonl", "run.json"
PREVIOUS = "last.previous.safetensors"
RUNS = Path("checkpoints")
_UNREADABLE = (errno.EIO, errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE, errno.ENOMEM)
_STATE = re.compile(r"last\.(\d{6,19})\.safetensors")
_ENDING = re.compile(r"(?<=.)(\.[A-Za-z]\w{0,4})?(\.gz|\.bz2|\.xz)?$")  # also that of a packed file
_NOT_IN_NAMES = re.compile(r'[\x00-\x1f\x7f*?\[\]<>:"/\\|]')
_MAX_NAME = 200  # bytes; with a number it fits into a file system's 255


def exists(path: Path) -> bool:
    """Return True if something exists at a path, which may be too long for one."""
    try:
        return path.exists()
    except (OSError, ValueError):  # too long for a path, or with a NUL character
        return False


def is_run(folder: Path) -> bool:
    """Return True if a folder holds a checkpoint."""
    return bool(checkpoints_in(folder))


def checkpoints_in(folder: Path) -> list[Path]:
    """Return the checkpoint files in a folder."""
    return [path for path in folder.glob("*.safetensors") if path.is_file()]


def is_run_folder(folder: Path) -> bool:
    """Return whether a folder is that of a run, even if its checkpoints are missing."""
    names = (BEST, LAST, PREVIOUS, METRICS, RUN_INFO, LOCK)
    return any((folder / name).exists() for name in names) or bool(kept_states(folder))


def run_folders() -> list[Path]:
    """Return all run folders under `./checkpoints`, also damaged ones, by name."""
    return [path for path in sorted(RUNS.glob("*")) if path.is_dir() and is_run_folder(path)]


def best_checkpoint(folder: Path) -> Path:
    """Return the best checkpoint of a run folder, or the newest if there is no best one."""
    for name in (BEST, LAST):
        if (folder / name).exists():
            return folder / name
    return max(checkpoints_in(folder), key=modified)


def kept_state(folder: Path, step: int) -> Path:
    """Return the path of the state that was kept at `step`."""
    return folder / f"last.{step:06}.safetensors"


def kept_states(folder: Path) -> list[Path]:
    """Return the states that were kept, the one that was written first first."""
    if not folder.is_dir():
        return []
    named = (path for path in folder.iterdir() if _STATE.fullmatch(path.name))
    states = [path for path in named if not path.is_dir()]
    return sorted(states, key=lambda path: (modified(path), kept_step(path)))


def kept_step(state: Path) -> int:
    """Return the step after which a kept state is named."""
    return int(state.name.split(".")[1])


def is_state(path: Path) -> bool:
    """Return True if a checkpoint was saved to resume from, not because it is the best."""
    return path.name in (LAST, PREVIOUS) or bool(_STATE.fullmatch(path.name))


def run_and_state(path: Path) -> tuple[Path, Path | None]:
    """Return the run folder that a path names, and the kept state in it that it names, if any."""
    if is_state(path) and path.is_file():
        return path.parent, path if _STATE.fullmatch(path.name) else None
    return path, None


def set_aside(path: Path) -> Path:
    """Rename a damaged file, so that it is kept but not used; return its new path."""
    damaged = _unused_name(path)
    os.replace(path, damaged)
    return damaged


def copy_aside(path: Path) -> Path:
    """Copy a damaged file that is to be repaired; return the path of the copy."""
    damaged = _unused_name(path)
    with os.fdopen(open_regular(path), "rb") as source, replacing(damaged) as copy:
        shutil.copyfileobj(source, copy)
    return damaged


def _unused_name(path: Path) -> Path:
    numbers = itertools.chain([""], map("-{}".format, itertools.count(2)))
    names = (f"{path.name}.damaged{number}" for number in numbers)
    return next(name for name in map(path.with_name, names) if not os.path.lexists(name))


def is_unstarted(folder: Path) -> bool:
    """Return whether a folder is empty, or that of a run that was killed before its first save.

    Files are recognized by their content, not by their name: a run.json of somebody else, or a
    metrics.jsonl with lines in it, belongs to the user and is not to be replaced.
    """
    return folder.is_dir() and all(map(_is_expendable, folder.iterdir()))


def _is_expendable(path: Path) -> bool:
    """Return whether a run that saved nothing left this file."""
    if path.is_symlink() or not path.is_file():
        return False
    if path.name == RUN_INFO:
        versions = read_run_info(path.parent).get("versions")
        return isinstance(versions, dict) and "charnn" in versions
    if path.name == METRICS:
        return path.stat().st_size == 0
    return is_lock_file(path) if path.name == LOCK else is_leftover(path)


def restart_advice(folder: Path) -> str:
    """Return the message about a run folder without a checkpoint."""
    if not is_unstarted(folder):
        return (
            f"{folder}: holds no checkpoint that is a regular file; check the run folder, or start "
            "a new run with another `out`"
        )
    return (
        f"{folder}: the run was stopped before its first save; start it again with the same text "
        f"and `out={str(folder)!r}`"
    )


def is_resumable(folder: Path) -> bool:
    """Return True if a folder holds a state to resume from."""
    newest = (folder / LAST).exists() or (folder / PREVIOUS).exists()
    return newest or bool(kept_states(folder))


def last_checkpoint(folder: Path) -> Path:
    """Return the file that a run resumes from: `last`, even if only older states are there.

    Raises:
        CharnnError: the folder holds neither.
    """
    if is_resumable(folder):
        return folder / LAST
    if folder.is_dir() and is_unstarted(folder):
        raise CharnnError(restart_advice(folder))
    if folder.is_file():
        raise CharnnError(f"{folder}: a file, not a run to resume; name its run folder")
    if not exists(folder):
        raise CharnnError(f"{folder}: no such run to resume; check the name")
    raise CharnnError(f"{folder}: no {LAST} to resume from; start a new run with another `out`")


def run_name(corpus: Sequence[str]) -> str:
    """Return the default name of a run on these texts: that of the first one, without its ending.

    Characters that a folder cannot have on every system, or that a glob needs, become `_`. A glob
    without any other character is called after its folder.
    """
    if not corpus:
        return "demo"
    if corpus[0] == "-":
        return "stdin"
    path = Path(corpus[0]).absolute()
    is_folder = exists(path) and path.is_dir()
    for part in (path.name if is_folder else _ENDING.sub("", path.name), path.parent.name):
        if name := _NOT_IN_NAMES.sub("_", part).strip("_. "):
            return os.fsdecode(os.fsencode(name)[:_MAX_NAME])
    return "text"


def make_run_folder(out: Path | None, name: str) -> tuple[Path, list[Path]]:
    """Make the run folder `out`, or checkpoints/<name>, with -2, -3, … if that exists.

    Returns it, and the folders that were made, the innermost first. No other thread or process
    gets the same new folder.
    """
    if out is not None:
        return out, _make_folders(out)
    made = _make_folders(RUNS)
    for number in itertools.count(1):
        folder = RUNS / (name if number == 1 else f"{name}-{number}")
        with contextlib.suppress(FileExistsError):
            make_folder(folder)
            return folder, [folder, *made]
    raise AssertionError("unreachable")


def _make_folders(folder: Path) -> list[Path]:
    """Make a folder and its parents; return those that did not exist, the innermost first."""
    made: list[Path] = []
    for path in (*reversed(folder.parents), folder):
        if not path.is_dir():
            with contextlib.suppress(FileExistsError):  # a file, or made by another process
                make_folder(path)
                made.insert(0, path)
    return made


def read_run_info(folder: Path) -> dict[str, Any]:
    """Return the content of run.json; empty if there is none, or if it is damaged."""
    info = json_object(folder / RUN_INFO)
    places = [info.get("corpus", []), info.get("val", [])]
    lists = all(isinstance(part, list) for part in places)
    return info if lists and all(isinstance(path, str) for p in places for path in p) else {}


def json_object(path: Path, *, replaced: bool = False) -> dict[str, Any]:
    """Return the JSON object in a small file; empty if it is missing or damaged.

    Numbers that JSON cannot express are None. Where the file is to be replaced, an error of the
    disk is raised, because the content may be whole.
    """
    try:
        with explained(f"reading {path}", "check the disk"):
            data = read_small(path)
        value = json.loads(data, parse_float=_finite, parse_constant=_finite)
    except CharnnError as error:
        if replaced and getattr(error.__cause__, "errno", None) in _UNREADABLE:
            raise
        return {}
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) and _is_shallow(value) else {}


def _finite(text: str) -> float | None:
    return number if math.isfinite(number := float(text)) else None


def _is_shallow(value: Any, levels: int = 8) -> bool:
    """Return True if a JSON value is not nested too deeply to be written too."""
    if not isinstance(value, dict | list):
        return True
    values = value.values() if isinstance(value, dict) else value
    return levels > 0 and all(_is_shallow(inner, levels - 1) for inner in values)


def modified(path: Path) -> int:
    """Return when a file was modified, in nanoseconds."""
    try:
        return path.stat().st_mtime_ns
    except OSError:  # a dangling link, or a run that is being deleted
        return 0
