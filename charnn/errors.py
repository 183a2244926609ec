"""Errors that a user can fix: each message is one line that says what was met, where, and what to
do next.

A message names a setting in backticks as a Python argument, such as `seq_len` or
`hidden_size=128`; the command line prints it as the option of that name.
"""

import contextlib
import re
from collections.abc import Iterator, Mapping


class CharnnError(Exception):
    """Base of the errors that a user can fix; the command line prints it and exits with code 1."""


class SettingError(CharnnError):
    """A setting outside its limits, or settings that do not go together."""


class TextError(CharnnError):
    """A text that is missing, empty, too short or unreadable."""


class UnreadableTextError(TextError):
    """A text that its settings cannot decode; `problem` is the message without its advice.

    `remedies` are the settings that make it readable, and how to write each.
    """

    def __init__(self, problem: str, remedies: Mapping[str, str]) -> None:
        self.problem, self.remedies = problem, remedies
        *some, last = remedies.values() or ["saving it as plain text first"]
        super().__init__(f"{problem}; try {', '.join(some)}{' or ' if some else ''}{last}")

    def limited_to(self, *settings: str) -> "UnreadableTextError":
        """Return the error where only these settings can be given."""
        remedies = {name: how for name, how in self.remedies.items() if name in settings}
        return UnreadableTextError(self.problem, remedies)


class MissingTextError(TextError, FileNotFoundError):
    """A text that is not there."""


class MovedTextError(TextError):
    """The text of a run that is not where the run says, or is another one now."""

    def __init__(self, problem: str, advice: str = "name the text") -> None:
        self.problem, self.advice = problem, advice
        super().__init__(f"{problem}{' Otherwise' if problem.endswith('?') else ';'} {advice}")


class ChangedTextError(MovedTextError):
    """A text that is not, or no longer, the one that a run was trained on."""


@contextlib.contextmanager
def text_named_by(call: str) -> Iterator[None]:
    """Let a `MovedTextError` in the block say with which `call` to name the text."""
    try:
        yield
    except MovedTextError as error:
        raise MovedTextError(error.problem, f"{error.advice}: {call}") from error


class VocabularyError(CharnnError):
    """A text with characters that a model's vocabulary does not contain."""


class CheckpointError(CharnnError):
    """A file that is not a checkpoint, or a checkpoint that does not fit its use."""


class DamagedError(CheckpointError):
    """A checkpoint that is missing or damaged, so that an older copy is worth trying."""


class MissingCheckpointError(DamagedError, FileNotFoundError):
    """A checkpoint that is not there."""


class TrainingError(CharnnError):
    """Training that cannot continue, for example because the loss is not finite."""


def is_out_of_memory(error: Exception) -> bool:
    """Return True if `error` says that memory could not be allocated.

    PyTorch raises a plain `RuntimeError` on a CPU, which only its message tells apart.
    """
    messages = "out of memory|can(?:no|')t allocate memory|bad allocation"
    return isinstance(error, MemoryError) or bool(re.search(messages, str(error), re.IGNORECASE))


def short(text: object) -> str:
    """Return a text, or an error's message, as a short printable line, whatever it contains."""
    line = "".join(c if c.isprintable() else "\ufffd" for c in str(text))
    return line if len(line) <= 300 else f"{line[:300]}…"
