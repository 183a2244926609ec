"""A run whose schedule was fitted to its time while it trained is a run like any other."""

import math
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from charnn import checkpoint
from charnn.config import ModelConfig, TextConfig, TrainConfig, ValidationConfig
from charnn.runs.context import RunContext
from charnn.runs.reports import Replanned, Report
from charnn.runs.run import Run
from charnn.text.corpus import Corpus, open_corpus
from charnn.training.pace import Adjustment, Pace, TimeLimit
from charnn.training.plan import Plan
from charnn.training.reports import StepReport

TRAIN = TrainConfig(steps=12, batch_size=3, seq_len=7, learning_rate=0.01, seed=4)


@pytest.fixture
def corpus(text_file: Path) -> Corpus:
    return open_corpus([str(text_file)], TextConfig())


@pytest.fixture
def _six_steps_after_the_third(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Pace, "due", lambda self, step: step == 3)
    monkeypatch.setattr(Pace, "look", lambda self, step, steps, threads: Adjustment(6, threads))


def start(folder: Path, corpus: Corpus, minutes: float = 1.0) -> Run:
    folder.mkdir()
    model = ModelConfig(corpus.tokenizer.vocabulary_size, 6, 1, 5)
    limit = TimeLimit(time.monotonic() + 60 * minutes, 10**9)
    plan = Plan(model, TRAIN, ValidationConfig(2), "", limit=limit)
    return Run.start(RunContext(folder, corpus, TextConfig(), torch.device("cpu")), plan)


def train(run: Run, stop_at: float = math.inf) -> list[Report]:
    reports: list[Report] = []
    for report in run.reports():
        reports.append(report)
        if isinstance(report, StepReport) and report.step == stop_at:
            run.stopping = True
    return reports


@pytest.mark.usefixtures("_six_steps_after_the_third")
def test_a_replanned_run_ends_with_its_new_steps_and_a_complete_schedule(
    tmp_path: Path, corpus: Corpus
) -> None:
    run = start(tmp_path / "run", corpus)
    reports = train(run)
    steps = [report for report in reports if isinstance(report, StepReport)]
    assert [report.step for report in steps] == [1, 2, 3, 4, 5, 6]
    assert steps[-1].learning_rate == pytest.approx(TRAIN.learning_rate * TRAIN.final_rate)
    assert Replanned(3, 12, 6) in reports
    assert run.finished
    assert checkpoint.load(run.folder / "last.safetensors").train == run.train
    assert run.train.steps == 6


@pytest.mark.usefixtures("_six_steps_after_the_third")
@pytest.mark.parametrize("stop_at", [3, 4, 6])
def test_a_replanned_run_that_is_stopped_and_resumed_ends_with_the_same_bytes(
    tmp_path: Path, corpus: Corpus, stop_at: int
) -> None:
    train(start(tmp_path / "straight", corpus))
    train(start(tmp_path / "run", corpus), stop_at)
    last = checkpoint.load(tmp_path / "run" / "last.safetensors")
    if stop_at == 3:  # the run was stopped before it was replanned
        last = replace(last, train=checkpoint.load(tmp_path / "straight/last.safetensors").train)
    context = RunContext(tmp_path / "run", corpus, TextConfig(), torch.device("cpu"))
    train(Run.resume(context, Plan(last.model, last.train, ValidationConfig(2), ""), last))
    for name in ("best.safetensors", "last.safetensors"):
        straight = (tmp_path / "straight" / name).read_bytes()
        assert (tmp_path / "run" / name).read_bytes() == straight


def test_a_run_whose_time_is_over_ends_soon(
    tmp_path: Path, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("charnn.training.pace.CHECK_SECONDS", 0.0)
    run = start(tmp_path / "run", corpus, minutes=0.0)
    assert any(isinstance(report, Replanned) for report in train(run))
    assert run.state.step < TRAIN.steps
    assert run.finished
