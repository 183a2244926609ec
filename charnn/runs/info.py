"""run.json: how a run was started, and where its corpus is."""

import contextlib
import logging
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
from charnn.errors import (
    ChangedTextError,
    CharnnError,
    MovedTextError,
    SettingError,
    TextError,
    UnreadableTextError,
    short,
)
from charnn.files import explained, write_json
from charnn.runs.folder import RUN_INFO, json_object, read_run_info, set_aside
from charnn.runs.machine import machine_to_json, this_machine
from charnn.runs.signature import is_signed, sign
from charnn.text.corpus import Corpus, open_corpus
from charnn.text.sources import DEMO_NAME, STDIN_NAME
from charnn.version import __version__
from charnn.words import listed

log = logging.getLogger(__name__)

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
            **texts_to_json(corpus),
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
    info = json_object(folder / RUN_INFO, replaced=True) | changes
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
    fields = json_object(path, replaced=True).items()
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


def texts_to_json(corpus: Corpus) -> dict[str, Any]:
    """Return the fields of run.json that say where a corpus is, signed by the user."""
    texts, val = corpus.sources, corpus.val_sources
    return {"corpus": texts, "val": val, "signature": sign(texts, val)}


def texts_of_run(
    folder: Path, texts: Sequence[str] = (), val: Sequence[str] = ()
) -> tuple[Sequence[str], Sequence[str]]:
    """Return the texts that a run was trained on and validated on: the given ones, or those that
    run.json names.

    A run.json that this user did not write may name anything, so its paths are not used. Those
    that are used are logged first.

    Raises:
        TextError: no text is given, and run.json names none that may be opened.
    """
    info = read_run_info(folder)
    named, named_val = info.get("corpus", []), info.get("val", [])
    used = [*([] if texts else named), *([] if val else named_val)]
    kind = "validation text (`val`)" if texts else "text"
    if STDIN_NAME in used:
        raise MovedTextError(f"{folder}: was trained on standard input", f"name the {kind}")
    if not texts and not named:
        raise MovedTextError(f"{folder}: no {RUN_INFO} says where its corpus is")
    harmless = all(name == DEMO_NAME for name in used)
    if not harmless and not is_signed(info.get("signature"), named, named_val):
        raise MovedTextError(
            f"{folder}: made elsewhere, by somebody else or by an older charnn, so "
            f"{short(used[0])} is not opened unless you name it",
            f"check the path and name the {kind}",
        )
    if used and not harmless:
        log.info(f"reading {short(', '.join(used))}")
    return texts or named, val or named_val


def reopen_corpus(
    folder: Path, trained: Checkpoint, texts: Sequence[str] = (), val: Sequence[str] = ()
) -> Corpus:
    """Open the corpus that a checkpoint was trained on, from `texts_of_run`.

    Raises:
        TextError: the corpus is gone, or its content has changed.
    """
    given = bool(texts)
    texts, val = texts_of_run(folder, texts, val)
    texts = [] if list(texts) == [DEMO_NAME] else texts
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
        raise MovedTextError(f"the corpus of {folder} cannot be used: {problem}") from error
    if corpus.sha256 != trained.corpus.sha256:
        where = listed(corpus.sources)
        raise ChangedTextError(
            f"{where}: not the text that {folder} was trained on, but a changed or another one "
            f"(sha256 {corpus.sha256[:12]}…, the checkpoint says {trained.corpus.sha256[:12]}…)"
        )
    return corpus
