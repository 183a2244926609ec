"""run.json: how a run was started, and where its corpus is."""

import contextlib
import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from charnn.checkpoint import Checkpoint
from charnn.config import ValidationConfig
from charnn.errors import CharnnError, SettingError, TextError, UnreadableTextError
from charnn.files import explained, write_json
from charnn.runs.folder import RUN_INFO, read_run_info, set_aside
from charnn.runs.machine import machine_to_json, this_machine
from charnn.text.corpus import Corpus, open_corpus
from charnn.text.sources import DEMO_NAME, STDIN_NAME
from charnn.version import __version__

# Fields of run.json that are needed later, and their types.
_KINDS = {
    "budget": dict, "validation": dict, "corpus": list, "val": list, "versions": dict,
    "machine": dict,
}  # fmt: skip


@dataclass(frozen=True)
class RunInfo:
    """The facts about a run that do not change what it learns."""

    command: str
    budget: Mapping[str, float]
    validation: ValidationConfig
    device: torch.device
    world_size: int = 1
    threads: int = 0  # 0: as many as torch is set to

    def to_json(self, corpus: Corpus) -> dict[str, Any]:
        """Return the content of run.json: also the corpus's place, versions, machine and time."""
        return {
            "command": self.command,
            "budget": dict(self.budget),
            "validation": self.validation.to_json(),
            "corpus": corpus.sources,
            "val": corpus.val_sources,
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "versions": versions(),
            "machine": machine_to_json(this_machine(self.device, self.threads, self.world_size)),
        }


def versions() -> dict[str, str]:
    """Return the versions of the software that computes."""
    return {
        "charnn": __version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }


def write_run_info(folder: Path, info: RunInfo, corpus: Corpus) -> None:
    """Write run.json."""
    write_json(folder / RUN_INFO, info.to_json(corpus))


def update_run_info(folder: Path, **changes: Any) -> None:
    """Replace some fields of run.json."""
    info = read_run_info(folder) | changes
    with explained(f"writing {folder / RUN_INFO}", "check the run folder"):
        write_json(folder / RUN_INFO, info)


def run_info_problem(folder: Path) -> str:
    """Return what is wrong with run.json, or ""."""
    path = folder / RUN_INFO
    if not path.exists():
        return "missing"
    info = _salvaged(path)
    wrong = [repr(name) for name in _KINDS if name not in info]
    if len(wrong) == len(_KINDS):
        return "damaged: not a JSON object that describes a run"
    return f"damaged: no valid {', '.join(wrong)}" if wrong else ""


def mend_run_info(folder: Path, last: Checkpoint, **known: Any) -> None:
    """Write a damaged or missing run.json anew, as far as `last` and `known` tell its content."""
    path = folder / RUN_INFO
    salvaged = _salvaged(path)
    recovered: dict[str, Any] = {
        "budget": {"steps": last.train.steps},
        "corpus": [],
        "val": [],
        "versions": {},
    }
    if last.run is not None:
        machine = last.run.machine
        recovered["versions"] = {"torch": machine.torch}
        recovered["machine"] = machine_to_json(machine)
        recovered["validation"] = last.run.validation.to_json()
    if path.exists():
        set_aside(path)
    write_json(path, recovered | salvaged | known)


def _salvaged(path: Path) -> dict[str, Any]:
    """Return the valid fields of a run.json."""
    try:
        info = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    fields = info.items() if isinstance(info, dict) else ()
    return {k: v for k, v in fields if _is_valid(k, v)}


def _is_valid(name: str, value: Any) -> bool:
    """Return True if a field of run.json has a value that can be used."""
    kind = _KINDS.get(name, str)
    if name == "validation":
        with contextlib.suppress(SettingError):
            return bool(ValidationConfig.from_json(value))
        return False
    strings = kind is not list or (isinstance(value, list) and all(type(v) is str for v in value))
    return isinstance(value, kind) and strings


def note_steps(folder: Path, steps: int) -> None:
    """Note in run.json that the budget now stands for this many steps, if that can be done."""
    budget = read_run_info(folder).get("budget")
    if isinstance(budget, dict):
        with contextlib.suppress(CharnnError):
            update_run_info(folder, budget=budget | {"steps": steps})


def reopen_corpus(
    folder: Path, trained: Checkpoint, texts: Sequence[str] = (), val: Sequence[str] = ()
) -> Corpus:
    """Open the corpus that a checkpoint was trained on: `texts`, or where run.json says it is.

    Raises:
        TextError: the corpus is gone, or its content has changed.
    """
    given, info = bool(texts), read_run_info(folder)
    val = val or info.get("val", [])
    if not texts:
        texts = info.get("corpus", [])
        if STDIN_NAME in (*texts, *val):
            raise TextError(f"{folder}: was trained on standard input; name the text")
        if not texts:
            raise TextError(f"{folder}: no {RUN_INFO} says where its corpus is; name the text")
        texts = [] if texts == [DEMO_NAME] else texts
    try:
        corpus = open_corpus(
            texts, trained.text, val=val, tokenizer=trained.tokenizer, skip_unknown=True,
            record_rules=trained.corpus.record_rules,
        )  # fmt: skip
    except CharnnError as error:
        if given and not isinstance(error, TextError):
            raise TextError(f"not the corpus of {folder}: {error}") from error
        problem: object = error
        if isinstance(error, UnreadableTextError):  # the settings are those of the run
            problem = f"{error.problem}; restore it as it was"
        raise TextError(f"the corpus of {folder} cannot be used: {problem}") from error
    if corpus.sha256 != trained.corpus.sha256:
        where = ", ".join(corpus.sources)
        raise TextError(
            f"{where}: not the text that {folder} was trained on (sha256 {corpus.sha256[:12]}…, "
            f"the checkpoint says {trained.corpus.sha256[:12]}…); name the right text"
        )
    return corpus
