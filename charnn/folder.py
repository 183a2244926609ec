"""A run folder: what lies in it, and which runs there are.

checkpoints/corpus/
  best.safetensors   the model of the best validation
  last.safetensors   the newest state, with all that is needed to go on
  metrics.jsonl      a line of figures for many steps and for each validation
  run.json           the command, the places, the versions and the machine
"""

import json
from pathlib import Path
from typing import Any

BEST, LAST, METRICS, ABOUT = "best.safetensors", "last.safetensors", "metrics.jsonl", "run.json"
RUNS = Path("checkpoints")


def is_run(folder: Path) -> bool:
    """Whether a folder holds a checkpoint."""
    return folder.is_dir() and any(folder.glob("*.safetensors"))


def best_of(folder: Path) -> Path:
    """The checkpoint of a run folder that one wants: the best, or the newest there is."""
    best = folder / BEST
    return best if best.exists() else max(folder.glob("*.safetensors"), key=_time)


def find_runs() -> list[Path]:
    """The run folders under `./checkpoints`, newest first."""
    newest = {path.parent: _time(path) for path in sorted(RUNS.glob("*/*.safetensors"), key=_time)}
    return sorted(newest, key=lambda folder: -newest[folder])


def free_folder(name: str) -> Path:
    """checkpoints/<name>, with -2, -3, … when that exists."""
    folder, number = RUNS / name, 2
    while folder.exists():
        folder, number = RUNS / f"{name}-{number}", number + 1
    return folder


def read_about(folder: Path) -> dict[str, Any]:
    """What run.json says; empty where there is none."""
    try:
        about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return about if isinstance(about, dict) else {}


def _time(path: Path) -> int:
    return path.stat().st_mtime_ns
