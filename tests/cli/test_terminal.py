"""A terminal gets no control character raw; a pipe and a file get the exact text."""

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from charnn.cli.terminal import visible
from tests.conftest import TINY, charnn, words

ESCAPE = "\x1b]0;owned\x07\x1b[2J\x9b31m\r"


@given(st.text())
def test_what_is_visible_keeps_all_but_control_characters(text: str) -> None:
    shown = visible(text)
    assert not any((ord(c) < 32 and c not in "\t\n") or 127 <= ord(c) < 160 for c in shown)
    harmless = [c for c in text if c in "\t\n" or ord(c) >= 160 or 32 <= ord(c) < 127]
    assert visible("".join(harmless)) == "".join(harmless)
    assert shown.count("\n") == text.count("\n")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that has read escape sequences."""
    folder = tmp_path_factory.mktemp("escapes")
    (folder / "text.txt").write_text((words(60) + ESCAPE) * 12, newline="")
    result = charnn(
        "train", folder / "text.txt", *TINY, "--steps", "2", "--keep-newlines", "--out",
        folder / "run", "-q",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    return folder / "run"


def on_terminal(*arguments: str | Path) -> tuple[str, int]:
    """What a terminal gets on both streams, and the exit code."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "charnn", *map(str, arguments)]
    process = subprocess.Popen(command, stdout=theirs, stderr=theirs, stdin=theirs)
    os.close(theirs)
    data = b""
    while True:
        try:
            piece = os.read(ours, 4096)
        except OSError:  # Linux's way of saying that the other side is closed
            break
        if not piece:
            break
        data += piece
    os.close(ours)
    return data.decode(), process.wait()


def sample(run: Path, *options: str) -> tuple[str | Path, ...]:
    return ("sample", run, "--prime", ESCAPE, "--length", "80", "--seed", "1", *options)


def test_generated_escape_sequences_are_shown_and_not_obeyed(run: Path) -> None:
    shown, code = on_terminal(*sample(run))
    assert code == 0
    assert "\u241b]0;owned\u2407\u241b[2J\\x9b31m\u240d" in shown
    assert "\x1b" not in shown


def test_raw_sends_them_as_they_are(run: Path) -> None:
    shown, _ = on_terminal(*sample(run, "--raw"))
    assert ESCAPE in shown


def test_a_pipe_gets_the_exact_text(run: Path) -> None:
    assert charnn(*sample(run)).stdout.startswith(ESCAPE)


def test_names_in_errors_are_shown_and_not_obeyed(tmp_path: Path) -> None:
    shown, code = on_terminal("sample", tmp_path / f"{ESCAPE}.safetensors")
    assert code == 1
    assert "\u241b]0;owned" in shown
    assert "\x1b" not in shown


def test_a_sample_in_the_story_of_training_is_harmless(run: Path, tmp_path: Path) -> None:
    text = run.parent / "text.txt"
    options = ("--steps", "3", "--keep-newlines", "--out", tmp_path / ESCAPE.replace("\r", ""))
    shown, code = on_terminal("train", text, *TINY, *options)
    assert code == 0
    assert "]0;owned\x07" not in shown
    assert "\x9b" not in shown
