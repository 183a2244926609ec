"""Where a run writes, what it reads, and where it is computed."""

from dataclasses import dataclass
from pathlib import Path

import torch

from charnn.config import TextConfig
from charnn.runs.lock import FolderLock
from charnn.text.corpus import Corpus
from charnn.training.distributed import SINGLE_PROCESS, World


@dataclass(frozen=True)
class RunContext:
    """Folder, text and device of a run."""

    folder: Path
    corpus: Corpus
    text: TextConfig
    device: torch.device
    world: World = SINGLE_PROCESS
    save_every: float | None = None  # seconds between saves; None: chosen
    keep: int = 0  # the newest states that are kept beside `last`
    lock: FolderLock | None = None  # of the folder; None if the caller knows that it is alone

    def check_folder(self) -> None:
        """Raise `CharnnError` if the folder is no longer the one that was locked."""
        if self.lock is not None:
            self.lock.check()
