"""Training reaches the entropy of a source, and trained weights help on a related text."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import charnn
from charnn.checkpoint import load
from charnn.config import TextConfig
from charnn.model.evaluate import evaluate
from charnn.text.corpus import open_corpus
from charnn.text.records import indices_of
from tests.conftest import words

SYMBOLS = "abcde"


def markov_text(characters: int) -> tuple[str, NDArray[np.float64]]:
    """Draw a text from a Markov chain of order 2; return it and the probabilities [5, 5, 5]."""
    chance = np.random.default_rng(0)
    chain = chance.dirichlet(np.full(5, 0.4), size=(5, 5))
    cumulated = chain.cumsum(-1)
    a = b = 0
    indices = []
    for uniform in chance.random(characters).tolist():
        a, b = b, min(4, int(np.searchsorted(cumulated[a, b], uniform)))
        indices.append(b)
    return "".join(SYMBOLS[i] for i in indices), chain


@pytest.mark.medium
@pytest.mark.parametrize(
    "cell", ["lstm", *(pytest.param(cell, marks=pytest.mark.slow) for cell in ("gru", "rnn"))]
)
def test_a_markov_source_is_learned_to_its_entropy(cell: str, tmp_path: Path) -> None:
    text, chain = markov_text(120_000)
    path = tmp_path / "markov.txt"
    path.write_text(text)
    sizes: dict[str, Any] = {"cell": cell, "hidden_size": 32, "embedding_size": 8, "dropout": 0.0}
    lanes: dict[str, Any] = {"batch_size": 16, "seq_len": 32, "learning_rate": 0.01}
    best = charnn.train(path, out=tmp_path / "run", steps=500, seed=1, **sizes, **lanes)
    model = charnn.load(best)
    corpus = open_corpus([str(path)], TextConfig(), tokenizer=model.tokenizer)
    score = evaluate(model.network, corpus.validation, "stream")
    v = indices_of(corpus.validation).astype(int)
    # The nats of the source itself on the same targets, without the first, which has only one
    # character before it; it does not matter among twelve thousand.
    true = -np.log(chain[v[:-2], v[1:-1], v[2:]]).sum() / (len(v) - 2)
    assert 0.998 * true < score.nats_per_char < 1.02 * true


@pytest.mark.medium
def test_starting_from_a_related_text_beats_starting_from_scratch(tmp_path: Path) -> None:
    """Both texts are of one invented language, but one letter is replaced by another."""
    related, text = tmp_path / "related.txt", tmp_path / "text.txt"
    related.write_text(words(20_000, seed=1))
    text.write_text(words(6_000, seed=2).replace("t", "T"))
    sizes: dict[str, Any] = {"hidden_size": 32, "embedding_size": 8, "batch_size": 8, "seed": 1}
    before = charnn.train(related, out=tmp_path / "before", steps=250, **sizes)
    scratch = charnn.train(text, out=tmp_path / "scratch", steps=40, **sizes)
    del sizes["hidden_size"], sizes["embedding_size"]
    tuned = charnn.train(text, out=tmp_path / "tuned", init_from=before, steps=40, **sizes)
    losses = [load(best).figures.val_nats_per_char for best in (tuned, scratch)]
    assert losses[0] < losses[1] - 0.05  # type: ignore[operator]
