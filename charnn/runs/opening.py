"""The checkpoint that a run folder offers: the best one, or the one before a damaged `last`."""

from pathlib import Path

from charnn.checkpoint import Checkpoint, load
from charnn.errors import DamagedError, MissingCheckpointError
from charnn.runs.find import closest_run
from charnn.runs.folder import BEST, LAST, PREVIOUS, best_checkpoint, is_run, kept_states


def open_model(path: Path) -> tuple[Checkpoint, str]:
    """Load the best checkpoint of a run folder, or a checkpoint file.

    Returns it with a note if an older one had to be read instead, or ''.
    """
    path = best_checkpoint(path) if is_run(path) else path
    try:
        loaded, read = load_or_previous(path)
    except MissingCheckpointError as error:
        if (like := closest_run(path)) is None:
            raise
        raise MissingCheckpointError(f"{path}: no such file; did you mean {like}?") from error
    except DamagedError as error:
        last = path.with_name(LAST)
        if path.name != BEST or not last.exists():
            raise
        raise DamagedError(f"{error}; try {last}") from error
    return loaded, "" if read == path else f"{path} could not be read; using the older {read}"


def load_or_previous(path: Path) -> tuple[Checkpoint, Path]:
    """Load a checkpoint; where it is a damaged `last`, load the newest older state there is.

    Returns the checkpoint and the path that was read.
    """
    try:
        return load(path), path
    except DamagedError:
        if path.name == LAST and (found := older_state(path.parent)) is not None:
            return found
        raise


def older_state(folder: Path) -> tuple[Checkpoint, Path] | None:
    """Return the newest whole state beside `last`, and its path; None if there is none."""
    for path in (folder / PREVIOUS, *reversed(kept_states(folder))):
        try:
            return load(path), path
        except DamagedError:
            continue
    return None
