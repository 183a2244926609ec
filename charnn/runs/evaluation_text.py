"""The text that a model is evaluated on: given texts, or the validation part of its own corpus."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from charnn.checkpoint import Checkpoint
from charnn.errors import SettingError, TextError, UnreadableTextError
from charnn.runs.info import reopen_corpus
from charnn.text.corpus import Corpus, open_corpus
from charnn.text.records import Text
from charnn.words import plural


@dataclass(frozen=True)
class EvaluationText:
    """A text to evaluate a model on, the corpus it is from, and notes for the user."""

    text: Text
    corpus: Corpus
    notes: tuple[str, ...] = ()


def evaluation_text(
    checkpoint: Checkpoint,
    folder: Path,
    texts: Sequence[str] = (),
    encoding: str | None = None,
    encoding_errors: str | None = None,
    skip_unknown: bool = False,
) -> EvaluationText:
    """Open `texts`, or without any the corpus of the run in `folder`, to evaluate a checkpoint.

    The model's own corpus counts with its validation part only, because the rest was trained on.

    Raises:
        TextError: the run has no validation part.
        SettingError: a setting has no effect on this text.
    """
    given = {"encoding": encoding, "encoding_errors": encoding_errors}
    changed: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if changed and checkpoint.text.tokenizer == "byte":
        name = next(iter(changed))
        raise SettingError(f"this model reads bytes, whatever they encode; leave `{name}` out")
    if not texts and (changed or skip_unknown):
        name = next(iter(changed), "skip_unknown")
        raise SettingError(f"`{name}` is for a text that you name; name one")
    if not texts:
        corpus = reopen_corpus(folder, checkpoint)
        if len(corpus.validation) == 0:
            raise TextError(f"{folder}: the run has no validation part; give a text")
        return EvaluationText(corpus.validation, corpus)
    config, tokenizer = replace(checkpoint.text, **changed), checkpoint.tokenizer
    try:
        corpus = open_corpus(
            texts, config, tokenizer=tokenizer, skip_unknown=skip_unknown,
            record_rules=checkpoint.corpus.record_rules,
        )  # fmt: skip
    except UnreadableTextError as error:  # the symbols are the model's
        raise error.limited_to(*given) from error
    text, notes = corpus.whole, []
    if corpus.sha256 == checkpoint.corpus.sha256:
        text = replace(corpus, split=checkpoint.corpus.train_characters).validation
        notes.append("this is the model's own corpus, so only its validation part is evaluated")
    if corpus.unknown:
        treatment = "skipped" if tokenizer.unknown_index is None else "read as the unknown symbol"
        count = plural(corpus.unknown, "character")
        notes.append(f"{count} outside the vocabulary {treatment}: {corpus.unknown_characters}")
    return EvaluationText(text, corpus, tuple(notes))
