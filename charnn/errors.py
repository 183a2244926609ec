"""What a user is shown as one line: what was met, where, and what to type next."""

import re


class CharnnError(Exception):
    """Something the user can mend; the command line prints it as one line and exits with 1."""


class SettingError(CharnnError):
    """A setting outside its limits, or settings that do not fit each other."""


class TextError(CharnnError):
    """A text that is missing, empty, too short, or cannot be read as asked."""


class MissingTextError(TextError, FileNotFoundError):
    """A text that is not there."""


class VocabularyError(CharnnError):
    """Characters that a model has no index for."""


class CheckpointError(CharnnError):
    """A file that is no checkpoint, or a checkpoint that does not fit its use."""


class DamagedError(CheckpointError):
    """A checkpoint that is not there or not whole, so that an older one is worth a look."""


class MissingCheckpointError(DamagedError, FileNotFoundError):
    """A checkpoint that is not there."""


class TrainingError(CharnnError):
    """Training that cannot go on, such as a loss that is not a number."""


def is_out_of_memory(error: Exception) -> bool:
    """Whether an allocator has refused; torch has no class of its own for the CPU's."""
    said = "out of memory|can't allocate memory|bad allocation"
    return isinstance(error, MemoryError) or bool(re.search(said, str(error)))
