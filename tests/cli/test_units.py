"""Every figure names its unit: of a byte model nats per byte, and per character beside them."""

import json
import re
from pathlib import Path

import pytest

import charnn as package
from tests.conftest import TINY, charnn

TEXT = "straße größer über\n" * 60
RATIO = len(TEXT.encode()) / len(TEXT)
FIGURE = (
    r"(\d\.\d{4}) nats/byte, \d\.\d{4} bits/byte \((\d\.\d{4}) nats/char, \d\.\d{4} bits/char\)"
)


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What each command prints about a byte model of a text, and of records."""
    folder = tmp_path_factory.mktemp("units")
    (folder / "text.txt").write_text(TEXT)
    options = ["--tokenizer", "byte", "--steps", "2", *TINY]
    train: list[str | Path] = ["train", folder / "text.txt", *options]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        found = {"train": charnn(*train, "--out", "checkpoints/text").stderr}
        for name in ("info", "eval"):
            found[name] = charnn(name, "text").stdout
        few = ("--distance", "20", "--positions", "4")
        found["gradients"] = charnn("gradients", "text", *few).stdout
        found["runs"] = charnn("runs").stdout
        found["eval --json"] = charnn("eval", "text", "--json").stdout
        found["repr"] = repr(package.load("checkpoints/text"))
        found["--best-of"] = charnn("sample", "text", "--best-of", "2", "--length", "9").stderr
        found["--beam"] = charnn("sample", "text", "--beam", "2", "--length", "9").stderr
        charnn(*train, "--lines", "--out", "checkpoints/records")
        found["records"] = charnn("sample", "records", "-n", "3", "--max-tries", "3").stderr
    return found


@pytest.mark.parametrize("command", ["train", "info"])
def test_both_losses_of_a_byte_model_are_printed(printed: dict[str, str], command: str) -> None:
    (found,) = re.findall(FIGURE, printed[command])
    assert float(found[1]) == pytest.approx(float(found[0]) * RATIO, rel=0.02)


def test_eval_prints_both_losses(printed: dict[str, str]) -> None:
    result = json.loads(printed["eval --json"])
    assert result["bytes_per_char"] == pytest.approx(RATIO, rel=0.02)
    for figure, unit in ((1, "byte"), (result["bytes_per_char"], "char")):
        assert f"{result['nats_per_byte'] * figure:.4f} nats/{unit}" in printed["eval"]
        assert f"{result['bits_per_byte'] * figure:.4f} bits/{unit}" in printed["eval"]
    assert f"{result['characters']} bytes" in printed["eval"]


def test_runs_prints_both_losses(printed: dict[str, str]) -> None:
    assert re.search(r"\d\.\d{4} nats/byte \(\d\.\d{4} nats/char\)$", printed["runs"].strip())


@pytest.mark.parametrize("name", ["gradients", "repr", "--best-of", "--beam"])
def test_a_loss_per_byte_is_named_so(printed: dict[str, str], name: str) -> None:
    assert re.search(r"\d\.\d{4} nats/byte", printed[name])
    assert "nats/char" not in printed[name]


def test_lengths_of_records_are_bytes(printed: dict[str, str]) -> None:
    length = len(TEXT.splitlines()[0].encode())
    assert re.search(
        rf"mean length \d+\.\d bytes, in the corpus {length}\.0$", printed["records"], re.M
    )


def test_a_character_model_has_one_loss(run_folder: Path) -> None:
    for command in ("info", "eval"):
        shown = charnn(command, run_folder).stdout
        assert len(re.findall(r"nats/char", shown)) == 1
        assert "byte" not in shown
