"""What the README shows can be typed."""

import re
import shlex
from pathlib import Path

import pytest

from tests.conftest import charnn, words
from tests.documented import ROOT, blocks, charnn_lines, document, images, shortened

README = document("README.md")


@pytest.mark.medium
def test_every_command_line_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = "Tpgd .\nROMEO:" + words(5000)  # with every character of the primes
    for name in ("corpus.txt", "other.txt", "names.txt", "data/tinyshakespeare.txt"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text(text.replace("i", "h"))
    lines = charnn_lines(README)
    assert {line[0] for line in lines} >= {"train", "sample", "eval", "info", "runs"}
    for line in lines:
        result = charnn(*shortened(line))
        assert result.exit_code == 0, f"charnn {shlex.join(line)}: {result.stderr}"


def test_the_python_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("corpus.txt").write_text("A steep hill.\n" * 200)
    (example,) = [block for kind, block in blocks(README) if kind == "python"]
    short = example.replace("minutes=5", "steps=2, hidden_size=6, batch_size=3, seq_len=8")
    assert short != example
    exec(compile(short, "README.md", "exec"), {})


def test_the_tree_names_what_is_there() -> None:
    tree = README.split("## The tree")[1]
    for name in re.findall(r"^ *([\w.]+/?) {2,}", tree, re.MULTILINE):
        assert (ROOT / name).exists() or (ROOT / "charnn" / name).exists(), name


def test_every_picture_is_there() -> None:
    assert images(README)
    for name in images(README):
        assert (ROOT / name).is_file(), name


def test_the_continuous_integration_runs_the_printed_command() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "<!-- tests -->" in script
    assert re.search(r"<!-- tests -->\n```sh\npython3 -m venv [^`]*pytest", README)
