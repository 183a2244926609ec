"""The Python face does what the commands do."""

from pathlib import Path
from typing import Any

import pytest

import charnn
from charnn.errors import CharnnError, SettingError
from tests.conftest import charnn as command


def test_train_load_sample_and_score(text_file: Path, tmp_path: Path) -> None:
    sizes: dict[str, Any] = {"hidden_size": 6, "embedding_size": 5, "batch_size": 3, "seq_len": 8}
    sizes["num_layers"] = 1
    best = charnn.train(text_file, out=tmp_path / "run", steps=4, seed=1, **sizes)
    assert best == tmp_path / "run" / "best.safetensors"
    model = charnn.load(tmp_path / "run")
    text = model.sample("steep"[:2], length=20, seed=3)
    assert text == "".join(charnn.load(best).stream("st", length=20, seed=3))
    assert len(text) == 20
    assert 0 < model.score("aein\nst").nats_per_char < 10


def test_the_face_and_the_command_make_the_same_checkpoint(
    text_file: Path, run_folder: Path, tmp_path: Path
) -> None:
    sizes: dict[str, Any] = {"hidden_size": 6, "embedding_size": 5, "batch_size": 3, "seq_len": 8}
    sizes["num_layers"] = 1
    best = charnn.train(text_file, out=tmp_path / "run", steps=4, seed=1, **sizes)
    assert best.read_bytes() == (run_folder / "best.safetensors").read_bytes()


def test_the_face_and_the_command_write_the_same_text(run_folder: Path) -> None:
    written = command("sample", run_folder, "--prime", "st", "--length", "20", "--seed", "3").stdout
    assert "st" + charnn.load(run_folder).sample("st", length=20, seed=3) + "\n" == written


def test_errors_are_charnn_errors(text_file: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="no setting called hiden_size"):
        charnn.train(text_file, out=tmp_path / "run", steps=1, hiden_size=3)  # type: ignore[call-arg]
    with pytest.raises(SettingError, match="no setting called vocabulary_size"):
        charnn.train(text_file, out=tmp_path / "run", steps=1, vocabulary_size=3)  # type: ignore[call-arg]
    with pytest.raises(CharnnError, match="no such file"):
        charnn.load(tmp_path / "none.safetensors")
    assert not (tmp_path / "run").exists()


def test_without_a_seed_each_text_is_another(run_folder: Path) -> None:
    model = charnn.load(run_folder)
    assert model.sample("st", length=60, seed=None) != model.sample("st", length=60)
    with pytest.raises(SettingError, match="lenght"):
        model.sample("st", lenght=3)  # type: ignore[call-arg]


def test_the_public_names_are_all_there() -> None:
    for name in charnn.__all__:
        assert getattr(charnn, name) is not None
    with pytest.raises(AttributeError, match="tarin"):
        charnn.tarin  # noqa: B018
