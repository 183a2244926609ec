"""When `best` and `last` are written, and what happens when they cannot be."""

import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from charnn.checkpoint import Checkpoint, check_weights, save
from charnn.errors import CharnnError, SettingError
from charnn.facts import Figures
from charnn.files import explained, link_or_copy
from charnn.runs.folder import BEST, LAST, PREVIOUS, kept_state, kept_states, kept_step

SAVE_SECONDS = 60.0  # between two saves by default: the most work that can be lost
SAVE_SHARE = 1 / 200  # of the time may be spent on saving; otherwise saves become rarer


class Saver:
    """Writes the checkpoints of a run; a `best` that cannot be written is tried again."""

    def __init__(
        self,
        folder: Path,
        every: float | None = None,
        keep: int = 0,
        check_folder: Callable[[], None] = lambda: None,
    ) -> None:
        """Save `last` every `every` seconds; None: each minute, or less often if saving is slow.

        The newest `keep` states are kept as files of their own too. `check_folder` is called before
        each save, and raises an error to prevent it.
        """
        if keep < 0:
            raise SettingError(f"`keep` must be at least 0, not {keep}")
        self.folder = folder
        self.seconds = 0.0  # spent on saving so far
        self.saved_step = -1  # of `last` in the file
        self.best: Figures | None = None  # those in the file; None: there is no file
        self.unsaved_best: Checkpoint | None = None
        self.last_has_best = False  # `last` contains a best model that could not be written
        self._every = every
        self._check_folder = check_folder
        self._keep = keep
        self._quickest = 0.0  # save of `last`: one that the disk held up does not count
        self._saved = time.monotonic()

    @property
    def due(self) -> bool:
        """True if it is time to save `last`."""
        every = self._every
        if every is None:
            every = max(SAVE_SECONDS, self._quickest / SAVE_SHARE)
        return time.monotonic() - self._saved >= every

    def is_better(self, nats: float | None) -> bool:
        """Return True if a model is better than the saved best one; any is without a figure."""
        best = self.unsaved_best.figures if self.unsaved_best else self.best
        known = None if best is None else best.val_nats_per_char
        return nats is None or (math.isfinite(nats) and (known is None or nats < known))

    def save_best(self, best: Checkpoint) -> None:
        """Write `best`; if that fails, keep a copy of it for the next `save_last`."""
        try:
            self._save(BEST, best)
        except CharnnError:
            if best is not self.unsaved_best:
                weights = {name: array.copy() for name, array in best.weights.items()}
                self.unsaved_best = replace(best, weights=weights)
            raise
        self.best, self.unsaved_best = best.figures, None

    def save_last(self, last: Checkpoint) -> None:
        """Write `last`, and before it the `best` that could not be written so far.

        If that fails again, `last` contains the best model too, so that no stop can lose it.
        """
        failure = None
        try:
            if self.unsaved_best is not None:
                try:
                    self.save_best(self.unsaved_best)
                except CharnnError as error:
                    failure, last = error, _with_best(last, self.unsaved_best)
            seconds = self._save(LAST, last)
            self.last_has_best = failure is not None
            self.saved_step = last.figures.step
            self._quickest = min(self._quickest or seconds, seconds)
            if self._keep:
                self._keep_state(last.figures.step)
        finally:
            self._saved = time.monotonic()
        if failure is not None:
            raise failure

    def _keep_state(self, step: int) -> None:
        """Give `last` a second name, after its step, and remove the oldest such states.

        Those of later steps, from before the run went back, stay until it has passed them.
        """
        kept = kept_state(self.folder, step)
        with explained(f"keeping {kept}", "check its folder and the free space"):
            link_or_copy(self.folder / LAST, kept)
            past = [path for path in kept_states(self.folder) if kept_step(path) <= step]
            for path in sorted(past, key=kept_step)[: -self._keep]:  # whatever the clock says
                path.unlink()

    def _save(self, name: str, checkpoint: Checkpoint) -> float:
        """Write one checkpoint; return the seconds that it took."""
        start = time.monotonic()
        try:
            check_weights(checkpoint.weights)
            self._check_folder()
            previous = self.folder / PREVIOUS if name == LAST else None
            save(self.folder / name, checkpoint, previous)
        finally:
            seconds = time.monotonic() - start
            self.seconds += seconds
        return seconds


def _with_best(last: Checkpoint, best: Checkpoint) -> Checkpoint:
    """Return `last` with the weights and figures of `best`."""
    run = last.run and replace(last.run, unsaved_best=best.figures)
    return replace(last, run=run, best_weights=best.weights)
