"""Control characters, colour, and how log records and settings are printed."""

import ast
import io
import logging
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from charnn.cli.main import options_by_setting
from charnn.cli.terminal import (
    logging_to_stderr,
    set_quiet,
    settings_as_options,
    status,
    use_color,
    visible,
)
from tests.conftest import TINY, charnn, words

ESCAPE = "\x1b]0;owned\x07\x1b[2J\x9b31m\r"


@given(st.text())
def test_visible_text_keeps_everything_but_control_characters(text: str) -> None:
    shown = visible(text)
    assert not any((ord(c) < 32 and c not in "\t\n") or 127 <= ord(c) < 160 for c in shown)
    harmless = [c for c in text if c in "\t\n" or ord(c) >= 160 or 32 <= ord(c) < 127]
    assert visible("".join(harmless)) == "".join(harmless)
    assert shown.count("\n") == text.count("\n")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model trained on escape sequences."""
    folder = tmp_path_factory.mktemp("escapes")
    (folder / "text.txt").write_text((words(60) + ESCAPE) * 12, newline="")
    result = charnn(
        "train", folder / "text.txt", *TINY, "--steps", "2", "--keep-newlines", "--out",
        folder / "run", "-q",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    return folder / "run"


def on_terminal(*arguments: str | Path) -> tuple[str, int]:
    """Return what a terminal gets on both streams, and the exit code."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "charnn", *map(str, arguments)]
    process = subprocess.Popen(command, stdout=theirs, stderr=theirs, stdin=theirs)
    os.close(theirs)
    data = b""
    while True:
        try:
            piece = os.read(ours, 4096)
        except OSError:  # Linux reports so that the other side is closed
            break
        if not piece:
            break
        data += piece
    os.close(ours)
    return data.decode(), process.wait()


def sample(run: Path, *options: str) -> tuple[str | Path, ...]:
    return ("sample", run, "--prime", ESCAPE, "--length", "80", "--seed", "1", *options)


@pytest.mark.medium
def test_generated_escape_sequences_are_shown_not_obeyed(run: Path) -> None:
    shown, code = on_terminal(*sample(run))
    assert code == 0
    assert "\u241b]0;owned\u2407\u241b[2J\\x9b31m\u240d" in shown
    assert "\x1b" not in shown


@pytest.mark.medium
def test_raw_sends_escape_sequences_unchanged(run: Path) -> None:
    shown, _ = on_terminal(*sample(run, "--raw"))
    assert ESCAPE in shown


def test_a_pipe_gets_the_exact_text(run: Path) -> None:
    assert charnn(*sample(run)).stdout.startswith(ESCAPE)


@pytest.mark.medium
def test_names_in_errors_are_shown_not_obeyed(tmp_path: Path) -> None:
    shown, code = on_terminal("sample", tmp_path / f"{ESCAPE}.safetensors")
    assert code == 1
    assert "\u241b]0;owned" in shown
    assert "\x1b" not in shown


@pytest.mark.medium
def test_samples_shown_while_training_are_harmless(run: Path, tmp_path: Path) -> None:
    text = run.parent / "text.txt"
    options = ("--steps", "3", "--keep-newlines", "--out", tmp_path / ESCAPE.replace("\r", ""))
    shown, code = on_terminal("train", text, *TINY, *options)
    assert code == 0
    assert "]0;owned\x07" not in shown
    assert "\x9b" not in shown


@pytest.mark.parametrize(
    ("message", "printed"),
    [
        ("give a smaller `seq_len`", "give a smaller --seq-len"),
        ("try `hidden_size=128`", "try --hidden-size 128"),
        ("try `tokenizer=\"byte\"`, or `encoding='utf-16'`",
         "try --tokenizer byte, or --encoding utf-16"),
        ("`force=True` to try anyway", "--force to try anyway"),
        ("`length=None` never ends", "--length inf never ends"),
        ("`stop='a b'`", "--stop 'a b'"),
        ("`encoding=NAME`", "--encoding NAME"),
        ("`num_samples=3` and `novel=True`", "--num-samples 3 and --novel"),
        ("`charnn runs` lists the runs", "`charnn runs` lists the runs"),
        ("`nonsense` and `pip install x==1`", "`nonsense` and `pip install x==1`"),
    ],
)  # fmt: skip
def test_settings_in_backticks_become_options(message: str, printed: str) -> None:
    assert settings_as_options(message, options_by_setting) == printed


@pytest.mark.medium
def test_every_setting_that_an_error_names_has_an_option() -> None:
    package = Path(__file__).parents[2] / "charnn"
    named = set()
    for path in package.rglob("*.py"):
        source = path.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Raise):
                raised = ast.get_source_segment(source, node) or ""
                named |= set(re.findall(r"`([a-z][a-z0-9_]*)(?:=[^`]*)?`", raised))
    only_in_python = {"text", "is_known", "properties"}
    assert named - options_by_setting().keys() <= only_in_python
    assert {"tokenizer", "seq_len", "force"} <= named


def test_log_records_are_printed_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger("charnn.runs.run")
    with logging_to_stderr(options_by_setting):
        logger.info("step 5 of %d", 9)
        logger.warning("the disk is full; try another `out`")
        logger.error("nothing left")
        status("plan: lstm")
        logger.debug("never shown")
    logger.warning("not shown by charnn")
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(
        "step 5 of 9\nnote: the disk is full; try another --out\nerror: nothing left\nplan: lstm\n"
    )
    assert "note: not shown" not in err


def test_quiet_prints_only_errors_and_ends_with_the_command(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logger = logging.getLogger("charnn.training")
    for quiet in (True, False):
        with logging_to_stderr(options_by_setting):
            if quiet:
                set_quiet()
            logger.warning("a note")
            status("a status")
            logger.error("bad")
    assert capsys.readouterr().err == "error: bad\nnote: a note\na status\nerror: bad\n"


def test_a_line_is_printed_above_a_progress_bar() -> None:
    code = (
        "from charnn.cli.terminal import STDERR, logging_to_stderr, status\n"
        "from tqdm import tqdm\n"
        "with logging_to_stderr(dict), tqdm(total=9, file=STDERR, ascii=True) as bar:\n"
        "    bar.update(3)\n"
        "    status('a line')\n"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, check=True)
    assert re.search(rb"\r *\ra line\n\r", done.stderr)


@pytest.mark.parametrize(
    ("terminal", "no_color", "force_color", "colored"),
    [
        (True, "", "", True), (False, "", "", False), (True, "1", "", False),
        (False, "", "1", True), (False, "1", "1", False), (True, "1", "1", False),
    ],
)  # fmt: skip
def test_color_is_for_terminals_unless_the_environment_decides(
    monkeypatch: pytest.MonkeyPatch,
    terminal: bool,
    no_color: str,
    force_color: str,
    colored: bool,
) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(stream, "isatty", lambda: terminal)
    monkeypatch.setenv("NO_COLOR", no_color)
    monkeypatch.setenv("FORCE_COLOR", force_color)
    assert use_color(stream) == colored
