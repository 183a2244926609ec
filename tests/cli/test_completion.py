"""A shell completes commands, options, the names of runs, and files."""

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ENVIRONMENT, charnn

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
# What bash does at a tab: the function that the script registered sets COMPREPLY; if that stays
# empty, `compopt -o default` lets readline complete files.
TAB = """
source "$1"; shift
compopt() { echo compopt "$@"; }
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
_charnn_completion charnn
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a run called novel1, a program called charnn, and bash's script for it."""
    monkeypatch.chdir(tmp_path)
    Path("checkpoints/novel1").mkdir(parents=True)
    Path("checkpoints/novel1/best.safetensors").touch()
    program = tmp_path / "charnn"
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m charnn "$@"\n')
    program.chmod(0o755)
    script = charnn("completion", "bash")
    assert script.exit_code == 0
    Path("charnn.bash").write_text(script.stdout)
    return tmp_path


def completed(desk: Path, *words: str) -> list[str]:
    """Return what bash offers for the last of the words."""
    command = ["bash", "--norc", "-c", TAB, "bash", str(desk / "charnn.bash"), "charnn", *words]
    root = Path(__file__).parents[2]
    paths = {"PATH": f"{desk}:{ENVIRONMENT['PATH']}", "PYTHONPATH": str(root)}
    done = subprocess.run(
        command, env=ENVIRONMENT | paths, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    return done.stdout.split("\n")[:-1]


@pytest.mark.medium
def test_commands_and_options_are_completed(desk: Path) -> None:
    assert completed(desk, "tr") == ["train"]
    assert completed(desk, "sample", "--temp") == ["--temperature"]
    assert completed(desk, "train", "--cell", "g") == ["gru"]


@pytest.mark.parametrize("command", ["sample", "eval", "info", "inspect", "gradients", "plot"])
def test_names_of_runs_are_completed(desk: Path, command: str) -> None:
    assert completed(desk, command, "nov")[-1] == "novel1"


@pytest.mark.parametrize(
    "words",
    [
        ("train", "te"),
        ("train", "--val", "te"),
        ("sample", "checkpoints/no"),
        ("sample", "--prime-file", "te"),
        ("eval", "novel1", "te"),
        ("plot", "--out", "te"),
    ],
)
def test_files_are_left_to_bash(desk: Path, words: tuple[str, ...]) -> None:
    assert completed(desk, *words) == ["compopt -o default", ""]


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_have_a_script(shell: str) -> None:
    assert "_CHARNN_COMPLETE" in charnn("completion", shell).stdout


def test_an_unknown_shell_is_refused() -> None:
    assert charnn("completion", "tcsh").exit_code == 2
