"""Signals end a run after its step, saved; a second one acts at once."""

import os
import pty
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from charnn import checkpoint
from charnn.cli.signals import StopOnSignal
from charnn.runs.opening import load_or_previous
from charnn.runs.run import Run
from charnn.training.distributed import SINGLE_PROCESS, World
from tests.conftest import TINY, exploding, process, stopped_run
from tests.conftest import charnn as command

SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


@pytest.fixture
def run() -> Run:
    return cast(Run, SimpleNamespace(stopping=False, world=SINGLE_PROCESS))


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_is_remembered_until_the_step_is_done(run: Run, number: signal.Signals) -> None:
    before = [signal.getsignal(s) for s in SIGNALS]
    with StopOnSignal(run) as stop:
        assert not run.stopping
        os.kill(os.getpid(), number)
        assert run.stopping
        assert stop.signal == number
    assert [signal.getsignal(s) for s in SIGNALS] == before


def test_a_second_interrupt_leaves_at_once(run: Run) -> None:
    with StopOnSignal(run):
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_a_process_of_a_team_outlives_the_second_signal(run: Run) -> None:
    run.world = World(0, 2)  # type: ignore[misc]  # torchrun passes on the interrupt that a terminal gave all of them
    with StopOnSignal(run):
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
    assert run.stopping


def test_a_signal_that_was_to_be_ignored_still_is(run: Run) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopOnSignal(run) as stop:
            os.kill(os.getpid(), signal.SIGHUP)
        assert not stop.signal
    finally:
        signal.signal(signal.SIGHUP, before)


def handles_signals(process: "subprocess.Popen[str]") -> bool:
    """Return True once the process has a handler of its own for SIGTERM."""
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    caught = next(line.split()[1] for line in lines if line.startswith("SigCgt"))
    return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc")
@pytest.mark.parametrize(
    "moments", [pytest.param(8, marks=pytest.mark.medium), pytest.param(40, marks=pytest.mark.slow)]
)
def test_a_signal_at_any_moment_of_the_start_is_obeyed(
    text_file: Path, tmp_path: Path, moments: int
) -> None:
    rng = random.Random(moments)
    for moment in range(moments):
        starting = process(
            "train", text_file, "--steps", "1000000", *TINY, "--out", tmp_path / str(moment)
        )
        while not handles_signals(starting):
            time.sleep(0.001)
        time.sleep(rng.random() * 3)
        numbers = rng.choice([[2], [15], [2, 15], [15, 2], [1], [2, 2]])
        for number in numbers:
            starting.send_signal(number)
            time.sleep(rng.choice([0, 0.01]))
        stdout, stderr = starting.communicate(timeout=60)
        assert starting.returncode in [128 + number for number in numbers], stderr
        assert "Traceback" not in stderr
        assert "Exception ignored" not in stderr
        assert stdout == ""
        assert "stopped" in stderr


@pytest.mark.medium
def test_a_signal_before_the_first_step_says_so(text_file: Path, tmp_path: Path) -> None:
    starting = process("train", text_file, "--steps", "9", *TINY, "--out", tmp_path / "run")
    while not handles_signals(starting):
        time.sleep(0.001)
    starting.send_signal(signal.SIGINT)
    assert starting.communicate(timeout=60) == ("", "stopped before training began\n")
    assert starting.returncode == 130
    assert not (tmp_path / "run").exists()


@pytest.mark.medium
def test_a_closed_terminal_saves_the_run(text_file: Path, tmp_path: Path) -> None:
    training = process(
        "train", text_file, "--steps", "100000", *TINY, "--val-every", "1000", "--out",
        tmp_path / "run",
    )  # fmt: skip
    assert training.stderr is not None
    for line in training.stderr:
        if "val" in line and "/100,000" in line:
            break
    training.send_signal(signal.SIGHUP)
    training.communicate(timeout=60)
    assert training.returncode == 129
    assert checkpoint.load(tmp_path / "run/last.safetensors").figures.step >= 1000


@pytest.mark.medium
def test_two_interrupts_in_a_row_damage_no_file(text_file: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    # Saves all the time, so that the second interrupt comes while a file is being written.
    training = process(
        "train", text_file, "--steps", "100000", *TINY, "--val-every", "50", "--save-every", "0",
        "--out", run,
    )  # fmt: skip
    assert training.stderr is not None
    for line in training.stderr:
        if "/100,000" in line:
            break
    for _ in range(2):
        training.send_signal(signal.SIGINT)
    rest = training.communicate(timeout=60)[1]
    assert training.returncode == 130
    assert "Traceback" not in rest
    load_or_previous(run / "last.safetensors")
    checkpoint.load(run / "best.safetensors")
    assert list(run.glob(".*.tmp")) == []
    resumed = process("train", "--out", run, "--resume")
    assert resumed.stderr is not None
    first_lines = [resumed.stderr.readline() for _ in range(2)]  # where the text is, then the run
    assert "from step" in first_lines[1]
    resumed.send_signal(signal.SIGKILL)
    resumed.communicate(timeout=60)


def test_rollbacks_are_told_and_written_down(text_file: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with exploding(lambda state, _: state.step == 3 and not state.rollbacks):
        result = command("train", text_file, "--steps", "5", *TINY, "--out", run, "--quiet")
    assert result.exit_code == 0
    assert "warning: step 4: loss inf, gradient norm 1; back to step 0" in result.stderr
    assert "rate halved" in result.stderr
    assert '"rollback_to": 0' in (run / "metrics.jsonl").read_text()
    assert checkpoint.load(run / "last.safetensors").figures.step == 5


def test_a_run_that_explodes_again_and_again_ends_with_an_error(
    text_file: Path, tmp_path: Path
) -> None:
    options = ("--steps", "3", "--learning-rate", "1e300", "--max-rollbacks", "2")
    result = command("train", text_file, *options, *TINY, "--out", tmp_path / "run")
    assert result.exit_code == 1
    assert result.stderr.count("warning: ") == 2
    assert "(after 2 rollbacks)" in result.stderr
    checkpoint.load(tmp_path / "run/last.safetensors")


def test_runs_tells_how_far_each_has_come(
    text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    command("train", text_file, "--steps", "4", *TINY, "--out", "checkpoints/whole", "-q")
    stopped_run(Path("checkpoints/part"), text_file, 3, steps=9, hidden_size=6)
    lines = dict(line.split(maxsplit=1) for line in command("runs").stdout.splitlines())
    assert " 4/4 " in lines["checkpoints/whole"]
    assert " 3/9 " in lines["checkpoints/part"]


@pytest.mark.medium
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_story_that_cannot_be_written_does_not_end_the_training(
    text_file: Path, tmp_path: Path
) -> None:
    with Path("/dev/full").open("w") as full:
        command_line = [sys.executable, "-m", "charnn", "train", str(text_file), *TINY]
        done = subprocess.run(
            [*command_line, "--steps", "20", "--out", str(tmp_path / "run")],
            stderr=full, stdout=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 0
    assert done.stdout == f"{tmp_path / 'run/best.safetensors'}\n"


@pytest.mark.medium
def test_a_terminal_that_is_gone_does_not_end_the_training(text_file: Path, tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    command_line = [sys.executable, "-m", "charnn", "train", str(text_file), *TINY]
    training = subprocess.Popen(
        [*command_line, "--steps", "1000", "--out", str(tmp_path / "run")],
        stderr=theirs, stdout=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    os.read(ours, 10)
    os.close(ours)
    assert training.wait(timeout=60) == 0
    assert checkpoint.load(tmp_path / "run/last.safetensors").figures.step == 1000
