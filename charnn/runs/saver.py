"""When `best` and `last` are written, and what happens when they cannot be."""

import time
from dataclasses import replace
from pathlib import Path

from charnn.checkpoint import Checkpoint, check_finite, save
from charnn.errors import CharnnError
from charnn.runs.folder import BEST, LAST, PREVIOUS

SAVE_SECONDS = 60.0  # between two saves by default: the most work that can be lost
SAVE_SHARE = 1 / 200  # of the time may be spent on saving; otherwise saves become rarer


class Saver:
    """Writes the two checkpoints of a run; a `best` that cannot be written is tried again."""

    def __init__(self, folder: Path, every: float | None = None) -> None:
        """Save `last` every `every` seconds; None: each minute, or less often if saving is slow."""
        self.folder = folder
        self.seconds = 0.0  # spent on saving so far
        self.unsaved_best: Checkpoint | None = None
        self._every = every
        self._quickest = 0.0  # save of `last`: one that the disk held up does not count
        self._saved = time.monotonic()

    @property
    def due(self) -> bool:
        """True if it is time to save `last`."""
        every = self._every
        if every is None:
            every = max(SAVE_SECONDS, self._quickest / SAVE_SHARE)
        return time.monotonic() - self._saved >= every

    def save_best(self, best: Checkpoint) -> None:
        """Write `best`; if that fails, keep a copy of it for the next `save_last`."""
        self.unsaved_best = None
        try:
            self._save(BEST, best)
        except CharnnError:
            weights = {name: tensor.detach().clone() for name, tensor in best.weights.items()}
            self.unsaved_best = replace(best, weights=weights)
            raise

    def save_last(self, last: Checkpoint) -> None:
        """Write `last`, and the `best` that could not be written before."""
        try:
            seconds = self._save(LAST, last)
            self._quickest = min(self._quickest or seconds, seconds)
            if self.unsaved_best is not None:
                self.save_best(self.unsaved_best)
        finally:
            self._saved = time.monotonic()

    def _save(self, name: str, checkpoint: Checkpoint) -> float:
        """Write one checkpoint; return the seconds that it took."""
        start = time.monotonic()
        try:
            check_finite(checkpoint.weights)
            previous = self.folder / PREVIOUS if name == LAST else None
            save(self.folder / name, checkpoint, previous)
        finally:
            seconds = time.monotonic() - start
            self.seconds += seconds
        return seconds
