"""What needs no torch runs where torch cannot be imported."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.medium

# Runs the command line in a process in which `import torch` fails.
WITHOUT_TORCH = """
import sys
class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "torch":
            raise ImportError("torch is imported")
sys.meta_path.insert(0, NoTorch())
from charnn.cli.main import main
main()
"""


def charnn(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a command where torch cannot be imported; it must succeed."""
    command = [sys.executable, "-c", WITHOUT_TORCH, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.parametrize(
    "command", [["--help"], ["train", "--help-all"], ["sample", "--help"], ["--version"]]
)
def test_help_needs_no_torch(command: list[str]) -> None:
    assert charnn(*command).stdout


@pytest.mark.parametrize("command", [["info"], ["info", "--json"], ["plot", "--text"]])
def test_commands_about_a_run_need_no_torch(command: list[str], run_folder: Path) -> None:
    assert charnn(*command, run_folder).stdout


def test_the_list_of_runs_needs_no_torch(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "one").symlink_to(run_folder)
    assert "one" in charnn("runs").stdout


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--temperature", "0"],
        ["--top-k", "3", "--top-p", "0.9", "--min-p", "0.1", "--typical", "0.9"],
        ["--no-repeat", "4", "--repetition-penalty", "1.2"],
        ["--stop", "t", "--keep-stop"],
        ["--format", "jsonl", "--logprobs", "3"],
        ["--format", "bytes"],
        ["--clamp", "0:1=0.5"],
        ["--raw"],
    ],
    ids=" ".join,
)
def test_one_text_needs_no_torch_and_is_the_one_written_with_it(
    options: list[str], run_folder: Path
) -> None:
    command = ["sample", run_folder, "--prime", "t", "--length", "30", "--seed", "1", *options]
    without = charnn(*command)
    usual = subprocess.run(
        [sys.executable, "-m", "charnn", *map(str, command)], capture_output=True, text=True
    )
    assert without.stdout == usual.stdout
    if "jsonl" in options:
        assert len(json.loads(without.stdout)["logprobs"]) == 30
