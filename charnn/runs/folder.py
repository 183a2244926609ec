"""A run folder: what lies in it, and which runs there are.

checkpoints/corpus/
  best.safetensors   the model of the best validation
  last.safetensors   the newest state, with all that is needed to go on
  metrics.jsonl      a line of figures for many steps and for each validation and rollback
  run.json           the command, the budget, the places, the versions and the machine
  .lock              held by the process that writes here

While `last` is replaced, and after a power cut, `last.previous.safetensors` may lie there too.
"""

import contextlib
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from charnn.errors import CharnnError
from charnn.files import is_leftover, locked, remove_leftovers

BEST, LAST, METRICS, RUN_INFO = "best.safetensors", "last.safetensors", "metrics.jsonl", "run.json"
PREVIOUS, LOCK = "last.previous.safetensors", ".lock"
RUNS = Path("checkpoints")


def is_run(folder: Path) -> bool:
    """Whether a folder holds a checkpoint."""
    return folder.is_dir() and any(folder.glob("*.safetensors"))


def best_checkpoint(folder: Path) -> Path:
    """The checkpoint of a run folder that one wants: the best, or the newest there is."""
    best = folder / BEST
    return best if best.exists() else max(folder.glob("*.safetensors"), key=_time)


@contextlib.contextmanager
def lock_run(folder: Path) -> Iterator[None]:
    """Be the only process that writes in a run folder; tidy up after one that was killed."""
    then = "wait until it ends, or name another --out"
    with locked(folder / LOCK, str(folder), then):
        remove_leftovers(folder)
        yield


def is_unstarted(folder: Path) -> bool:
    """Whether a folder is empty, or that of a run which was killed before its first save."""
    ours = {METRICS, RUN_INFO, LOCK}
    return folder.is_dir() and all(
        path.name in ours or is_leftover(path) for path in folder.iterdir()
    )


def restart_advice(folder: Path) -> str:
    """What to say of such a folder."""
    return (
        f"{folder}: a run that was stopped before its first save; begin it again: "
        f"`charnn train TEXT --out {folder}`"
    )


def newest(folder: Path) -> Path:
    """The file that a run goes on from: `last`, or what a power cut left of it.

    `CharnnError` when the folder holds neither.
    """
    if (folder / LAST).exists() or (folder / PREVIOUS).exists():
        return folder / LAST
    if folder.is_dir() and is_unstarted(folder):
        raise CharnnError(restart_advice(folder))
    raise CharnnError(f"{folder}: no {LAST} in it to go on from; begin anew with another --out")


def find_runs() -> list[Path]:
    """The run folders under `./checkpoints`, newest first."""
    newest = {path.parent: _time(path) for path in sorted(RUNS.glob("*/*.safetensors"), key=_time)}
    return sorted(newest, key=lambda folder: -newest[folder])


def run_name(corpus: Sequence[str]) -> str:
    """What a run on these texts is called: as the first of them, without its ending."""
    if not corpus:
        return "demo"
    if corpus[0] == "-":
        return "stdin"
    name = re.sub(r"(\.txt)?(\.gz|\.bz2|\.xz)?$", "", Path(corpus[0]).name)
    return "text" if name in ("", "..") or any(c in name for c in "*?[") else name


def runs_named(name: str) -> list[Path]:
    """The runs called `name`, `name`-2, `name`-3, …, newest first."""
    return [run for run in find_runs() if re.fullmatch(rf"{re.escape(name)}(-\d+)?", run.name)]


def unused_folder(name: str) -> Path:
    """checkpoints/<name>, with -2, -3, … when that exists."""
    folder, number = RUNS / name, 2
    while folder.exists():
        folder, number = RUNS / f"{name}-{number}", number + 1
    return folder


def read_run_info(folder: Path) -> dict[str, Any]:
    """What run.json says; empty where there is none."""
    try:
        about = json.loads((folder / RUN_INFO).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(about, dict):
        return {}
    places = [about.get("corpus", []), about.get("val", [])]
    lists = all(isinstance(part, list) for part in places)
    return about if lists and all(isinstance(path, str) for p in places for path in p) else {}


def _time(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:  # a link that leads nowhere, or a run that is being deleted
        return 0
