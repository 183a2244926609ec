"""The text that a model is evaluated on: given texts, or the validation part of its own corpus."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from charnn.checkpoint import Checkpoint
from charnn.errors import SettingError, TextError
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
    skip_unknown: bool = False,
) -> EvaluationText:
    """Open `texts`, or without any the corpus of the run in `folder`, to evaluate a checkpoint.

    The model's own corpus counts with its validation part only, because the rest was trained on.

    Raises:
        TextError: the run has no validation part.
        SettingError: a setting has no effect on this text.
    """
    if encoding is not None and checkpoint.text.tokenizer == "byte":
        raise SettingError("this model reads bytes, whatever they encode; leave `encoding` out")
    if not texts and (encoding is not None or skip_unknown):
        raise SettingError("`encoding` and `skip_unknown` are for a text that you name; name one")
    if not texts:
        corpus = reopen_corpus(folder, checkpoint)
        if len(corpus.validation) == 0:
            raise TextError(f"{folder}: the run has no validation part; give a text")
        return EvaluationText(corpus.validation, corpus)
    config = replace(checkpoint.text, encoding=encoding or checkpoint.text.encoding)
    tokenizer = checkpoint.tokenizer
    corpus = open_corpus(
        texts, config, tokenizer=tokenizer, skip_unknown=skip_unknown,
        record_rules=checkpoint.corpus.record_rules,
    )  # fmt: skip
    text, notes = corpus.whole, []
    if corpus.sha256 == checkpoint.corpus.sha256:
        text = replace(corpus, split=checkpoint.corpus.train_characters).validation
        notes.append("this is the model's own corpus, so only its validation part is evaluated")
    if corpus.unknown:
        treatment = "skipped" if tokenizer.unknown_index is None else "read as the unknown symbol"
        count = plural(corpus.unknown, "character")
        notes.append(f"{count} outside the vocabulary {treatment}: {corpus.unknown_characters}")
    return EvaluationText(text, corpus, tuple(notes))
