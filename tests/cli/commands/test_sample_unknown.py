"""A prime is read as `eval` and `inspect` read a text, with the unknown symbol."""

import json
from pathlib import Path

import pytest

import charnn as library
from tests.attack.checks import no_traceback, one_line_error
from tests.conftest import TINY, charnn


@pytest.fixture(scope="module")
def rare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with an unknown symbol."""
    folder = tmp_path_factory.mktemp("rare")
    (folder / "text.txt").write_text("one two nine " * 100 + "qx")
    charnn(
        "train", folder / "text.txt", "--out", folder / "run", "--min-count", "5", "--steps", "2",
        *TINY,
    )  # fmt: skip
    return folder / "run"


@pytest.mark.parametrize("kind", ["text", "jsonl"])
def test_a_prime_with_unknown_characters_is_read_with_the_unknown_symbol(
    rare: Path, kind: str
) -> None:
    options = ("sample", rare, "--length", "5", "--seed", "1", "--format", kind)
    result = no_traceback(*options, "--prime", "né né")
    assert result.exit_code == 0, result.stderr
    assert "note: 2 characters of the prime read as the unknown symbol" in result.stderr
    shown = json.loads(result.stdout)["prime"] if kind == "jsonl" else result.stdout[:5]
    assert shown == "né né"


def test_a_prime_file_is_read_in_the_same_way(rare: Path, tmp_path: Path) -> None:
    (tmp_path / "prime.txt").write_text("né", encoding="utf-8")
    result = no_traceback("sample", rare, "--length", "5", "--prime-file", tmp_path / "prime.txt")
    assert result.exit_code == 0
    assert "1 character of the prime" in result.stderr


def test_python_reads_such_a_prime_too(rare: Path) -> None:
    model = library.load(rare, device="cpu")
    assert model.sample("né", length=5, seed=1) == model.sample("nq", length=5, seed=1)


def test_a_model_without_an_unknown_symbol_refuses_it(run_folder: Path) -> None:
    assert "not in the model's vocabulary: 'é'" in one_line_error(
        "sample", run_folder, "--prime", "né"
    )
