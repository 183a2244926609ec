"""Several processes train one model as a single process would, and as safely."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from charnn import checkpoint
from charnn.config import ModelConfig, TextConfig, TrainConfig, ValidationConfig
from charnn.errors import SettingError, TextError
from charnn.runs.context import RunContext
from charnn.runs.run import Run
from charnn.runs.start import check_same_text
from charnn.text.corpus import open_corpus
from charnn.training.distributed import SINGLE_PROCESS, World, local_device
from charnn.training.plan import Plan
from tests.conftest import ENVIRONMENT, TINY
from tests.conftest import charnn as command

BEST, LAST = "best.safetensors", "last.safetensors"
TWELVE = [*TINY, "--batch-size", "12", "--quiet"]  # lanes
LOST = "another process of this run was lost"


def started(size: int, *arguments: str | Path) -> list[subprocess.Popen[str]]:
    """Start the command in `size` processes, as torchrun does."""
    return start_processes(size, [sys.executable, "-m", "charnn", *map(str, arguments)])


def start_processes(size: int, line: list[str]) -> list[subprocess.Popen[str]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(size)}
    pipe = subprocess.PIPE
    return [
        subprocess.Popen(
            line,
            stdout=pipe,
            stderr=pipe,
            text=True,
            env=ENVIRONMENT | address | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(size)
    ]


def ended(processes: list[subprocess.Popen[str]]) -> list[tuple[int, str, str]]:
    """Wait for all processes; return the exit code, stdout and stderr of each."""
    said = [process.communicate(timeout=60) for process in processes]
    return [(p.returncode, *text) for p, text in zip(processes, said, strict=True)]


def trained(size: int, *arguments: str | Path) -> str:
    """Train with `size` processes to the end; return what the main one printed on stderr."""
    results = ended(started(size, "train", *arguments))
    assert [code for code, _, _ in results] == [0] * size, results
    assert [said for _, *said in results[1:]] == [["", ""]] * (size - 1)
    return results[0][2]


def until_step(folder: Path, step: int) -> None:
    """Wait until a run has reached a step."""
    metrics = folder / "metrics.jsonl"
    for _ in range(2400):
        if metrics.exists() and f'"step": {step},' in metrics.read_text():
            return
        time.sleep(0.05)
    raise AssertionError(f"no step {step} within 2 minutes")


def steps_of(folder: Path) -> list[dict[str, float]]:
    """Return the metrics of all steps of a run."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if "loss" in line]


@pytest.mark.medium
@pytest.mark.parametrize("size", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_several_processes_train_the_model_that_one_trains_with_all_lanes(
    size: int, text_file: Path, tmp_path: Path
) -> None:
    budget = ("--steps", "6", "--clip", "0.1", "--precision", "fp32", *TWELVE)
    trained(size, text_file, *budget, "--out", tmp_path / "many")
    assert command("train", text_file, *budget, "--out", tmp_path / "one").exit_code == 0
    many, one = (steps_of(tmp_path / run) for run in ("many", "one"))
    assert len(one) == 6
    for ours, theirs in zip(many, one, strict=True):
        for figure in ("loss", "gradient_norm"):
            assert ours[figure] == pytest.approx(theirs[figure], 1e-5)
    shared, alone = (checkpoint.load(tmp_path / run / LAST) for run in ("many", "one"))
    for name, weight in alone.weights.items():  # Adam's root magnifies tiny gradients
        np.testing.assert_allclose(shared.weights[name], weight, atol=1e-3, rtol=0)
    states = [last.training_tensors["recurrent"] for last in (shared, alone)]
    np.testing.assert_allclose(states[0], states[1], atol=1e-3, rtol=0)


@pytest.mark.slow
def test_a_resumed_run_of_two_processes_equals_an_uninterrupted_one(
    text_file: Path, tmp_path: Path
) -> None:
    budget = ("--steps", "90", "--dropout", "0.2", *TWELVE)
    trained(2, text_file, *budget, "--out", tmp_path / "straight")
    out = ("--out", tmp_path / "stopped")
    processes = started(2, "train", text_file, *budget[:-1], *out)
    until_step(tmp_path / "stopped", 20)
    processes[1].send_signal(signal.SIGTERM)  # any of them
    (first, out_, said), (second, *nothing) = ended(processes)
    assert (first, second) == (143, 143), (said, nothing)
    assert (out_, nothing) == ("", ["", ""])
    assert f"torchrun --nproc-per-node 2 -m charnn train --out {out[1]} --resume" in said
    reached = checkpoint.load(tmp_path / "stopped" / LAST).progress
    assert reached is not None
    assert 20 <= reached.step < 90
    trained(2, "--resume", *out, "--quiet")
    for name in (BEST, LAST):
        expected = (tmp_path / "straight" / name).read_bytes()
        assert (tmp_path / "stopped" / name).read_bytes() == expected


@pytest.mark.medium
def test_a_lost_process_ends_the_run_which_any_number_of_processes_can_resume(
    text_file: Path, tmp_path: Path
) -> None:
    out = ("--out", tmp_path / "run")
    processes = started(2, "train", text_file, "--steps", "200", *TWELVE, "--save-every", "0", *out)
    until_step(tmp_path / "run", 20)
    processes[1].send_signal(signal.SIGKILL)
    (code, _, said), _ = ended(processes)
    assert code == 1
    assert said.count("\n") == 1
    assert LOST in said
    result = command("train", "--resume", *out)
    assert result.exit_code == 0
    assert "2 processes before, 1 now" in result.stderr
    said = trained(2, "--resume", *out, "--steps", "210")  # which were one just now
    assert "200 steps become 210" in said
    last = checkpoint.load(tmp_path / "run" / LAST)
    assert last.progress is not None
    assert last.progress.step == 210


@pytest.mark.medium
def test_targets_of_records_count_equally_on_all_processes(tmp_path: Path) -> None:
    """Records are about as long as the window: in some windows one process has no target."""
    text = tmp_path / "names.txt"
    text.write_text("".join("ab" * 2 + "c" * (n % 9) + "d" * (n // 9) + "\n" for n in range(90)))
    budget = [str(text), "--lines", "--steps", "12", "--precision", "fp32", *TWELVE]
    trained(2, *budget, "--out", tmp_path / "many")
    assert command("train", *budget, "--out", tmp_path / "one").exit_code == 0
    many, one = (steps_of(tmp_path / run) for run in ("many", "one"))
    assert len(one) == 12
    for ours, theirs in zip(many, one, strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], 1e-4)


def test_processes_cannot_share_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    for text in (["-"], ["text.txt", "--val", "-"]):
        result = command("train", *text, "--steps", "2")
        assert result.exit_code == 2
        assert "cannot share standard input" in result.stderr


def test_processes_with_different_texts_are_refused(
    text_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = open_corpus([str(text_file)], TextConfig())
    check_same_text(corpus, SINGLE_PROCESS)
    monkeypatch.setattr(World, "all_gather", lambda world, value: [value, "another"])
    with pytest.raises(TextError, match="different texts"):
        check_same_text(corpus, World(0, 2))


def test_lanes_that_cannot_be_shared_equally_are_refused(text_file: Path, tmp_path: Path) -> None:
    corpus, text = open_corpus([str(text_file)], TextConfig()), TextConfig()
    model = ModelConfig(corpus.tokenizer.vocabulary_size, 6, 1, 5)
    train, validation = TrainConfig(2, 3, 8, 1e-3, 1), ValidationConfig(1)
    context = RunContext(tmp_path, corpus, text, torch.device("cpu"), World(1, 2))
    with pytest.raises(SettingError, match="3 lanes cannot be shared equally by 2 processes"):
        Run.start(context, Plan(model, train, validation, ""))
    alone = replace(context, world=World())  # one process divides the lanes
    assert Run.start(alone, Plan(model, train, validation, "")).batches.batch_size == 3


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"RANK": "0", "WORLD_SIZE": "2"}, "MASTER_ADDR is not; start with torchrun"),
        ({"RANK": "2", "WORLD_SIZE": "2"}, "RANK=2 is not below WORLD_SIZE=2"),
        ({"RANK": "x", "WORLD_SIZE": "2"}, "RANK is set to 'x', which is not a number"),
        (
            {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "x"},
            "cannot connect 2 processes at 127.0.0.1:x",
        ),
        (
            {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"},
            "cannot connect 2 processes at 127.0.0.1:0 within 1 seconds",
        ),
        ({"RANK": "0", "WORLD_SIZE": "0"}, "WORLD_SIZE=0 must be at least 1"),
        ({"LOCAL_WORLD_SIZE": "0"}, "LOCAL_WORLD_SIZE=0 must be at least 1"),
        ({"LOCAL_RANK": "x"}, "LOCAL_RANK is set to 'x', which is not a number"),
        ({"WORLD_SIZE": "9" * 5000}, "which is not a number"),
        ({"RANK": "\u0665", "WORLD_SIZE": "9"}, "which is not a number"),
    ],
)
def test_an_environment_that_torchrun_would_not_make_is_refused(
    environment: dict[str, str], said: str, text_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("charnn.training.distributed.JOIN_SECONDS", 1)
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setitem(os.environ, name, value)
    result = command("train", text_file, "--steps", "2", *TINY)
    assert result.exit_code == 1
    assert said in result.stderr


def test_collectives_of_a_single_process_return_at_once() -> None:
    lanes = torch.arange(12).view(3, 4)
    assert torch.equal(SINGLE_PROCESS.shard(lanes), lanes)
    assert torch.equal(SINGLE_PROCESS.unshard(lanes), lanes)
    assert SINGLE_PROCESS.any(True, False) == (True, False)
    assert (
        SINGLE_PROCESS.mean(2.5),
        SINGLE_PROCESS.all_gather("x"),
        SINGLE_PROCESS.broadcast(lambda: 3),
    ) == (2.5, ["x"], 3)


def test_shards_together_are_all_lanes() -> None:
    lanes = torch.arange(24).view(2, 6, 2)
    shares = [World(rank, 3).shard(lanes) for rank in range(3)]
    assert torch.equal(torch.cat(shares, 1), lanes)


LOCAL_MAIN_FIRST = """
import sys, time
from pathlib import Path
from charnn.training.distributed import join_world

cache = Path(sys.argv[1])

def make():
    if world.is_local_main:
        time.sleep(0.5)
        cache.touch()
    return cache.exists()

with join_world("cpu") as (world, _):
    sys.exit(not world.local_main_first(make))
"""


@pytest.mark.medium
def test_the_local_main_process_has_finished_before_the_others_begin(tmp_path: Path) -> None:
    line = [sys.executable, "-c", LOCAL_MAIN_FIRST, str(tmp_path / "cache")]
    results = ended(start_processes(2, line))
    assert [code for code, _, _ in results] == [0, 0], results


def test_each_process_gets_a_gpu_of_its_own_and_all_are_of_one_model(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert local_device("auto") == "auto"
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(SettingError, match=r"this machine has 1 GPU; .*--nproc-per-node 1"):
        local_device("auto")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda number: "a GPU")
    assert local_device("cuda") == "cuda:1"
    assert local_device("cpu") == "cpu"
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    with pytest.raises(SettingError, match=r"several processes cannot share cuda:0"):
        local_device("cuda:0")
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda number: f"GPU {number}")
    with pytest.raises(SettingError, match="of different models"):
        local_device("auto")
