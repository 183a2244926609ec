"""A model is evaluated on any text, but only on the validation part of its own corpus."""

from pathlib import Path

import numpy as np
import pytest

from charnn.checkpoint import Checkpoint, load
from charnn.errors import TextError, VocabularyError
from charnn.runs.evaluation_text import evaluation_text
from charnn.text.records import indices_of
from tests.conftest import TINY, charnn


def test_without_texts_the_validation_part_of_the_runs_corpus_is_used(
    trained: Checkpoint, run_folder: Path
) -> None:
    chosen = evaluation_text(trained, run_folder)
    assert len(chosen.text) == trained.corpus.characters - trained.corpus.train_characters
    assert chosen.notes == ()


def test_only_the_validation_part_of_the_models_own_corpus_is_used(
    trained: Checkpoint, run_folder: Path, text_file: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy.txt"
    copy.write_bytes(text_file.read_bytes())
    chosen = evaluation_text(trained, tmp_path, [str(copy)])
    expected = evaluation_text(trained, run_folder)
    assert np.array_equal(indices_of(chosen.text), indices_of(expected.text))
    assert "own corpus" in chosen.notes[0]


def test_another_text_is_used_completely(trained: Checkpoint, tmp_path: Path) -> None:
    (tmp_path / "other.txt").write_text("nist it is")
    chosen = evaluation_text(trained, tmp_path, [str(tmp_path / "other.txt")])
    assert trained.tokenizer.decode(indices_of(chosen.text)) == "nist it is"
    assert chosen.notes == ()


def test_unknown_characters_are_an_error_or_skipped_with_a_note(
    trained: Checkpoint, tmp_path: Path
) -> None:
    (tmp_path / "strange.txt").write_text("É nist")
    texts = [str(tmp_path / "strange.txt")]
    with pytest.raises(VocabularyError):
        evaluation_text(trained, tmp_path, texts)
    chosen = evaluation_text(trained, tmp_path, texts, skip_unknown=True)
    assert trained.tokenizer.decode(indices_of(chosen.text)) == " nist"
    assert chosen.notes[0].startswith("1 character outside the vocabulary skipped: 'É'")


def test_a_run_without_a_validation_part_needs_a_text(tmp_path: Path, text_file: Path) -> None:
    options = ["--val-fraction", "0", "--steps", "1", *TINY]
    assert charnn("train", text_file, *options, "--out", tmp_path / "a", "-q").exit_code == 0
    with pytest.raises(TextError, match="no validation part; give a text"):
        evaluation_text(load(tmp_path / "a" / "last.safetensors"), tmp_path / "a")
