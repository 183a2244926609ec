"""Where a run came from: run.json is written here, and leads back to the corpus."""

import platform
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from charnn.checkpoint import Checkpoint
from charnn.config import ValidationConfig
from charnn.device import fast_bfloat16
from charnn.errors import CharnnError, TextError
from charnn.files import explained, write_json
from charnn.runs.folder import RUN_INFO, read_run_info
from charnn.text.corpus import Corpus, open_corpus
from charnn.text.sources import DEMO_NAME, STDIN_NAME
from charnn.version import __version__


def write_run_info(
    folder: Path,
    corpus: Corpus,
    command: str,
    budget: Mapping[str, float],
    validation: ValidationConfig,
    device: torch.device,
    processes: int = 1,
    threads: int = 0,
) -> None:
    """Write what may differ between runs that learn the same: command, budget, validations,
    places, versions, machine, time."""
    about = {
        "command": command,
        "budget": budget,
        "validation": validation.to_json(),
        "corpus": corpus.sources,
        "val": corpus.val_sources,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {
            "charnn": __version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        "machine": {
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
            "processor": platform.processor() or platform.machine(),
            "system": sys.platform,
            "threads": threads or torch.get_num_threads(),
            "processes": processes,
            "bfloat16": fast_bfloat16(device),
        },
    }
    write_json(folder / RUN_INFO, about)


def update_run_info(folder: Path, **changes: Any) -> None:
    """Write down what is another now."""
    about = read_run_info(folder) | changes
    with explained(f"writing {folder / RUN_INFO}", "check the run folder"):
        write_json(folder / RUN_INFO, about)


def reopen_corpus(
    folder: Path, trained: Checkpoint, texts: Sequence[str] = (), val: Sequence[str] = ()
) -> Corpus:
    """The corpus that the checkpoint was trained on: from `texts`, or where run.json says it lay.

    `TextError` when it is gone, or when its content is another.
    """
    given, about = bool(texts), read_run_info(folder)
    val = val or about.get("val", [])
    if not texts:
        texts = about.get("corpus", [])
        if STDIN_NAME in (*texts, *val):
            raise TextError(f"{folder}: was trained on standard input; name the text")
        if not texts:
            raise TextError(f"{folder}: no {RUN_INFO} tells where its corpus is; name the text")
        texts = [] if texts == [DEMO_NAME] else texts
    try:
        corpus = open_corpus(
            texts, trained.text, val=val, tokenizer=trained.tokenizer, skip_unknown=True
        )
    except CharnnError as error:
        if given and not isinstance(error, TextError):
            raise TextError(f"not the corpus of {folder}: {error}") from error
        raise TextError(f"the corpus of {folder} cannot be used: {error}") from error
    if corpus.sha256 != trained.corpus.sha256:
        where = ", ".join(corpus.sources)
        raise TextError(
            f"{where}: not the text that {folder} was trained on (sha256 {corpus.sha256[:12]}…, "
            f"the checkpoint says {trained.corpus.sha256[:12]}…); name the right text"
        )
    return corpus
