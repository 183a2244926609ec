"""The checkpoint that a run folder offers: the best one, or the one before a damaged `last`."""

from pathlib import Path

from charnn.checkpoint import Checkpoint, load
from charnn.errors import DamagedError
from charnn.runs.folder import LAST, PREVIOUS, best_checkpoint, is_run


def open_model(path: Path) -> tuple[Checkpoint, str]:
    """The checkpoint in a run folder (the best one) or in a file, or the one before a damaged
    `last`; and what there is to say about that, or nothing."""
    path = best_checkpoint(path) if is_run(path) else path
    loaded, read = load_or_previous(path)
    return loaded, "" if read == path else f"{path} could not be read; this is {read}, an older one"


def load_or_previous(path: Path) -> tuple[Checkpoint, Path]:
    """As `load`; where `path` is a `last` that cannot be read, the one before it, if it is there.

    The path that was read comes along.
    """
    previous = path.with_name(PREVIOUS)
    try:
        return load(path), path
    except DamagedError:
        if path.name != LAST or not previous.exists():
            raise
        return load(previous), previous
