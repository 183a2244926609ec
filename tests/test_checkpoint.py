"""A checkpoint is whole, plain and the same wherever it was made."""

import ast
import json
import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch

from charnn import checkpoint
from charnn.checkpoint import Checkpoint
from charnn.errors import CheckpointError
from charnn.text.tokenizer import CharTokenizer
from tests.conftest import TINY, charnn

PACKAGE = Path(__file__).parent.parent / "charnn"


def test_what_is_saved_is_what_is_loaded(trained: Checkpoint, tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "copy.safetensors", trained)
    copy = checkpoint.load(tmp_path / "copy.safetensors")
    assert replace(copy, weights={}, tokenizer=trained.tokenizer) == replace(trained, weights={})
    assert copy.tokenizer.to_json() == trained.tokenizer.to_json()
    assert copy.weights.keys() == trained.weights.keys()
    assert all(torch.equal(copy.weights[name], trained.weights[name]) for name in copy.weights)


def test_equal_checkpoints_are_equal_bytes(trained: Checkpoint, tmp_path: Path) -> None:
    for name in ("a", "b"):
        checkpoint.save(tmp_path / name, trained)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def metadata(path: Path) -> dict[str, str]:
    data = path.read_bytes()
    return json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]


def test_the_metadata_is_one_key_of_sorted_json_without_clock_or_place(run_folder: Path) -> None:
    for name in ("best", "last"):
        keys = metadata(run_folder / f"{name}.safetensors")
        assert list(keys) == ["charnn"]
        text = keys["charnn"]
        assert text == json.dumps(json.loads(text), sort_keys=True)
        about = json.loads((run_folder / "run.json").read_text())
        for place in (*about["corpus"], str(run_folder), about["command"], about["started"][:10]):
            assert place not in text
        assert "time" not in text
        assert "second" not in text


def test_no_pickle_is_read_or_written_anywhere() -> None:
    for path in PACKAGE.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            elif isinstance(node, ast.Attribute):
                names = [ast.unparse(node)]
            for name in names:
                assert name.split(".")[0] not in ("pickle", "dill", "joblib", "shelve", "marshal")
                assert name not in ("torch.load", "torch.save", "np.load", "np.save")


def test_training_sampling_and_evaluating_touch_no_pickle(
    text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a pickle was read or written")

    for name in ("load", "loads", "dump", "dumps", "Pickler", "Unpickler"):
        monkeypatch.setattr(pickle, name, refuse)
    for name in ("load", "save"):
        monkeypatch.setattr(torch, name, refuse)
    out = tmp_path / "run"
    train = charnn("train", text_file, "--steps", "2", *TINY, "--out", out)
    sample, measured = charnn("sample", out, "--length", "5"), charnn("eval", out)
    for result in (train, sample, measured, charnn("train", "--out", out, "--resume")):
        assert result.exit_code == 0, result.output
    for path in out.glob("*.safetensors"):
        assert path.read_bytes()[8:9] == b"{"  # a length, then JSON


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"\x80\x02}q\x00.", b"PK\x03\x04"])
def test_a_file_that_is_no_checkpoint_is_named_so(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="not a checkpoint"):
        checkpoint.load(path)


def test_another_programs_safetensors_are_told_apart(tmp_path: Path) -> None:
    safetensors.torch.save_file({"a": torch.zeros(2)}, tmp_path / "x.safetensors")
    with pytest.raises(CheckpointError, match="not one that charnn wrote"):
        checkpoint.load(tmp_path / "x.safetensors")


def damaged(trained: Checkpoint, path: Path, **changes: object) -> Path:
    """The checkpoint with parts of its metadata replaced."""
    checkpoint.save(path, trained)
    about = json.loads(metadata(path)["charnn"]) | changes
    tensors = safetensors.torch.load_file(path)
    safetensors.torch.save_file(tensors, path, {"charnn": json.dumps(about, sort_keys=True)})
    return path


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"format": 2, "version": "9.1"}, "pip install charnn==9.1"),
        ({"model": {}}, "lacks the setting"),
        ({"model": []}, "not a table"),
        ({"tokenizer": {"kind": "word"}}, "neither of characters nor of bytes"),
        ({"tokenizer": {"kind": "byte"}}, "the vocabulary has 256 symbols"),
        ({"corpus": {"sha256": "x"}}, "lacks the setting"),
        ({"crc32": 1}, "does not fit its checksum"),
        ({"text": None}, "not a table"),
    ],
)
def test_damaged_metadata_is_refused(
    trained: Checkpoint, tmp_path: Path, changes: dict[str, object], words: str
) -> None:
    with pytest.raises(CheckpointError, match=words):
        checkpoint.load(damaged(trained, tmp_path / "x.safetensors", **changes))


def test_weights_that_do_not_fit_the_sizes_are_named(trained: Checkpoint, tmp_path: Path) -> None:
    larger = replace(trained, model=replace(trained.model, hidden_size=9))
    checkpoint.save(tmp_path / "x.safetensors", larger)
    with pytest.raises(CheckpointError, match=r"do not fit.*head\.weight"):
        checkpoint.load(tmp_path / "x.safetensors")


def test_a_vocabulary_out_of_order_is_refused() -> None:
    with pytest.raises(CheckpointError, match="distinct characters in order"):
        CharTokenizer("ba")
