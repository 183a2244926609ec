"""A checkpoint is complete, contains no code, and is the same wherever it was written."""

import ast
import json
import pickle
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from charnn import checkpoint
from charnn.checkpoint import FORMAT, Checkpoint
from charnn.config import ValidationConfig
from charnn.errors import CheckpointError
from charnn.language_model import LanguageModel
from charnn.runs.context import RunContext
from charnn.runs.run import Run
from charnn.text.corpus import open_corpus
from charnn.text.tokenizer import CharTokenizer
from charnn.training.loop import SNAPSHOT_EVERY, train_steps
from charnn.training.plan import Plan
from charnn.training.reports import StepReport
from tests.attack.hostile import with_fields
from tests.conftest import TINY, charnn

PACKAGE = Path(__file__).parent.parent / "charnn"

# The checkpoints of one run in every format so far, written in an empty folder by:
#   printf '%.0sto be, or not to be: é → ü\n' $(seq 40) > text.txt
#   charnn train text.txt --out run --steps 1000 --seed 1 --hidden-size 8 --num-layers 1 \
#     --embedding-size 3 --batch-size 2 --seq-len 16 --learning-rate 0.03 --dropout 0 \
#     --val-every 30 --patience 1 --device cpu
# The run ends at step 330; its best and last checkpoints are format-N-best and format-N-last.
STORED = Path(__file__).parent / "data"
LINE = "to be, or not to be: é → ü\n"


def test_a_loaded_checkpoint_equals_the_saved_one(trained: Checkpoint, tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "copy.safetensors", trained)
    copy = checkpoint.load(tmp_path / "copy.safetensors")
    assert replace(copy, weights={}, tokenizer=trained.tokenizer) == replace(trained, weights={})
    assert copy.tokenizer.to_json() == trained.tokenizer.to_json()
    assert copy.weights.keys() == trained.weights.keys()
    assert all(np.array_equal(copy.weights[name], trained.weights[name]) for name in copy.weights)


def test_equal_checkpoints_have_equal_bytes(trained: Checkpoint, tmp_path: Path) -> None:
    for name in ("a", "b"):
        checkpoint.save(tmp_path / name, trained)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def metadata(path: Path) -> dict[str, str]:
    data = path.read_bytes()
    return json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]


def test_the_metadata_is_one_key_of_sorted_json_without_time_or_path(run_folder: Path) -> None:
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
def test_a_file_that_is_not_a_checkpoint_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="not a checkpoint"):
        checkpoint.load(path)


def test_the_safetensors_file_of_another_program_is_refused(tmp_path: Path) -> None:
    safetensors.torch.save_file({"a": torch.zeros(2)}, tmp_path / "x.safetensors")
    with pytest.raises(CheckpointError, match="not one that charnn wrote"):
        checkpoint.load(tmp_path / "x.safetensors")


def damaged(trained: Checkpoint, path: Path, **changes: object) -> Path:
    """Write the checkpoint with parts of its metadata replaced; return its path."""
    checkpoint.save(path, trained)
    about = json.loads(metadata(path)["charnn"]) | changes
    tensors = safetensors.torch.load_file(path)
    safetensors.torch.save_file(tensors, path, {"charnn": json.dumps(about, sort_keys=True)})
    return path


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"format": 2, "version": "9.1"}, "pip install charnn==9.1"),
        ({"model": {}}, "no value for the setting"),
        ({"model": []}, "not a JSON object"),
        ({"tokenizer": {"kind": "word"}}, "neither characters nor bytes"),
        ({"tokenizer": {"kind": "byte"}}, "the vocabulary has 256 symbols"),
        ({"corpus": {"sha256": "x"}}, "no value for the setting"),
        ({"crc32": 1}, "does not match its checksum"),
        ({"text": None}, "not a JSON object"),
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
    with pytest.raises(CheckpointError, match="sorted list of distinct characters"):
        CharTokenizer("ba")


def test_a_vocabulary_with_a_surrogate_is_refused() -> None:
    with pytest.raises(CheckpointError, match="surrogates"):
        CharTokenizer("a\ud800")


def stored(name: str) -> list[Path]:
    return sorted(STORED.glob(f"format-*-{name}.safetensors"))


def test_the_current_format_is_among_the_stored_files() -> None:
    names = {f"format-{FORMAT}-best.safetensors", f"format-{FORMAT}-last.safetensors"}
    assert names <= {path.name for path in STORED.iterdir()}


@pytest.mark.parametrize("path", [*stored("best"), *stored("last")], ids=lambda path: path.name)
def test_a_checkpoint_of_every_format_so_far_generates_the_text_it_learned(path: Path) -> None:
    loaded = checkpoint.load(path)
    model = LanguageModel(loaded, "cpu")
    step, nats = (300, 0.01156) if "best" in path.name else (330, 0.01507)
    assert loaded.figures.step == step
    assert loaded.figures.parameters == sum(array.size for array in loaded.weights.values())
    assert loaded.tokenizer.to_json()["characters"] == "".join(sorted(set(LINE)))
    assert model.sample("to be", temperature=0, length=40) == (LINE * 2)[5:45]
    assert model.score(LINE * 4).nats_per_char == pytest.approx(nats, rel=0.01)


@pytest.mark.parametrize("path", stored("last"), ids=lambda path: path.name)
def test_a_run_of_every_format_so_far_can_be_resumed(path: Path, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_bytes((LINE * 40).encode())
    last, text = checkpoint.load(path), str(tmp_path / "text.txt")
    corpus = open_corpus([text], last.text, tokenizer=last.tokenizer)
    assert corpus.sha256 == last.corpus.sha256
    context = RunContext(tmp_path, corpus, last.text, torch.device("cpu"))
    plan = Plan(last.model, last.train, ValidationConfig(val_every=30), "")
    run = Run.resume(context, plan, last)
    first = next(train_steps(run.state, run.batches, run.train))
    assert isinstance(first, StepReport)
    assert first.step == 331
    assert first.loss < 0.1  # the model has memorized the line
    run.state.roll_back()
    assert run.state.step == 330 - 330 % SNAPSHOT_EVERY


@pytest.mark.parametrize("path", stored("last"), ids=lambda path: path.name)
def test_a_newer_format_is_refused_with_the_version_that_reads_it(
    path: Path, tmp_path: Path
) -> None:
    newer = with_fields(path.read_bytes(), {}, format=FORMAT + 1, version="12.3")
    (tmp_path / "newer").write_bytes(newer)
    words = f"charnn 12.3 in format {FORMAT + 1}, but this charnn reads format {FORMAT}; `pip inst"
    with pytest.raises(CheckpointError, match=re.escape(words)):
        checkpoint.load(tmp_path / "newer")
