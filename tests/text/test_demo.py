"""The demo text is there without a download, and is a text one can learn from."""

from charnn.config import TextConfig
from charnn.text.corpus import open_corpus
from charnn.text.demo import built_in_text
from charnn.text.sources import DEMO_NAME


def test_the_demo_text_is_long_and_the_same_every_time() -> None:
    text = built_in_text()
    assert len(text) > 300_000
    assert built_in_text() == text
    assert "for_stmt" in text


def test_without_a_name_the_corpus_is_the_demo_text() -> None:
    corpus = open_corpus([], TextConfig())
    assert corpus.tokenizer.decode(corpus.indices) == built_in_text()
    assert corpus.sources == (DEMO_NAME,)
