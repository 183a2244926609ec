"""The checkpoint that a run folder offers: the best one, or the one before a damaged `last`."""

from pathlib import Path

from charnn.checkpoint import Checkpoint, load
from charnn.errors import DamagedError
from charnn.runs.folder import LAST, PREVIOUS, best_checkpoint, is_run


def open_model(path: Path) -> tuple[Checkpoint, str]:
    """Load the best checkpoint of a run folder, or a checkpoint file.

    Returns it with a note if an older one had to be read instead, or ''.
    """
    path = best_checkpoint(path) if is_run(path) else path
    loaded, read = load_or_previous(path)
    return loaded, "" if read == path else f"{path} could not be read; using the older {read}"


def load_or_previous(path: Path) -> tuple[Checkpoint, Path]:
    """Load a checkpoint; where it is a damaged `last`, load the one before it, if that is there.

    Returns the checkpoint and the path that was read.
    """
    previous = path.with_name(PREVIOUS)
    try:
        return load(path), path
    except DamagedError:
        if path.name != LAST or not previous.exists():
            raise
        return load(previous), previous
