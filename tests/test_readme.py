"""What the README shows can be typed."""

import re
import shlex
from pathlib import Path

import pytest

from tests.conftest import TINY, charnn, words

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def charnn_lines() -> list[list[str]]:
    """Every `charnn …` of the README's shell blocks, in order, as words."""
    lines = []
    for kind, block in BLOCKS:
        if kind in ("sh", "console"):
            for part in re.split(r"&&|\n", block):
                match = re.match(r"^\s*(?:\$ )?(?:\.venv/bin/)?charnn (.*)$", part)
                if match:
                    lines.append(shlex.split(match[1].split(" | ")[0]))
    return lines


def shortened(arguments: list[str]) -> list[str]:
    """The same command with a budget of a few steps, and a tiny model where it trains anew."""
    if arguments[0] != "train":
        return arguments
    if "--resume" in arguments:
        return ["9" if word.isdigit() else word for word in arguments]
    kept, skip = [], False
    for word in arguments:
        if word in ("--minutes", "--epochs", "--steps", "--hidden-size", "--seed"):
            skip = True
        elif skip:
            skip = False
        else:
            kept.append(word)
    sizes = TINY[6:] if "--init-from" in arguments else TINY
    return [*kept, "--steps", "2", *sizes]


def test_every_command_line_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = "Tpgd .\nROMEO:" + words(3000)  # with every character of the primes
    for name in ("corpus.txt", "other.txt", "names.txt", "data/tinyshakespeare.txt"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text(text.replace("i", "h"))
    lines = charnn_lines()
    assert {line[0] for line in lines} >= {"train", "sample", "eval", "info", "runs"}
    for line in lines:
        result = charnn(*shortened(line))
        assert result.exit_code == 0, f"charnn {shlex.join(line)}: {result.stderr}"


def test_the_python_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("corpus.txt").write_text("A steep hill.\n" * 200)
    (example,) = [block for kind, block in BLOCKS if kind == "python"]
    short = example.replace("minutes=5", "steps=2, hidden_size=6, batch_size=3, seq_len=8")
    assert short != example
    exec(compile(short, "README.md", "exec"), {})


def test_the_tree_names_what_is_there() -> None:
    tree = README.split("## The tree")[1]
    for name in re.findall(r"^ *([\w.]+/?) {2,}", tree, re.MULTILINE):
        assert (ROOT / name).exists() or (ROOT / "charnn" / name).exists(), name


def test_the_continuous_integration_runs_the_printed_command() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "<!-- tests -->" in script
    assert re.search(r"<!-- tests -->\n```sh\npython3 -m venv .*pytest", README)
