"""Which text a model is measured on: one that is named, or its own."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from charnn.cli.terminal import status
from charnn.errors import TextError

if TYPE_CHECKING:
    from charnn.checkpoint import Checkpoint
    from charnn.text.corpus import Corpus
    from charnn.text.records import Text


def measured_text(
    path: Path,
    loaded: "Checkpoint",
    texts: Sequence[str],
    encoding: str | None,
    skip_unknown: bool,
    quiet: bool,
) -> tuple["Text", "Corpus"]:
    """What of the named texts is measured, and the corpus; without texts the validation part of
    the run's own corpus. Of its own corpus always only that, because the rest was learned."""
    from charnn.runs.info import reopen_corpus
    from charnn.text.corpus import open_corpus

    if not texts:
        corpus = reopen_corpus(path.parent, loaded)
        if len(corpus.validation) == 0:
            raise TextError(f"{path}: the run has no validation part; name a text")
        return corpus.validation, corpus
    config = replace(loaded.text, encoding=encoding or loaded.text.encoding)
    corpus = open_corpus(texts, config, tokenizer=loaded.tokenizer, skip_unknown=skip_unknown)
    text = corpus.whole
    if corpus.sha256 == loaded.corpus.sha256:
        text = replace(corpus, split=loaded.corpus.train_characters).validation
        status("this is the model's own corpus: its validation part is measured", quiet)
    if corpus.unknown:
        how = (
            "skipped" if loaded.tokenizer.unknown_index is None else "scored as the unknown symbol"
        )
        status(f"{corpus.unknown:,} characters have no index, {how}: {corpus.unknown_characters}", quiet)
    return text, corpus
