"""Runs with the same seed have the same bytes, even if they are stopped and resumed."""

import errno
import functools
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from charnn import checkpoint, files
from charnn.checkpoint import Checkpoint
from charnn.config import ModelConfig, TextConfig, TrainConfig, ValidationConfig
from charnn.errors import CharnnError, CheckpointError
from charnn.model.evaluate import evaluate
from charnn.runs import saver
from charnn.runs.context import RunContext
from charnn.runs.folder import METRICS
from charnn.runs.reports import Validation
from charnn.runs.run import Run
from charnn.runs.saver import Saver
from charnn.text.corpus import Corpus, open_corpus
from charnn.training import loop
from charnn.training.plan import Plan
from charnn.training.reports import StepReport, TrainingWarning
from tests.conftest import exploding, several_steps_per_sync

TRAIN = TrainConfig(steps=6, batch_size=3, seq_len=7, learning_rate=0.01, seed=4)
VALIDATION, EVERY_STEP = ValidationConfig(val_every=2), ValidationConfig(val_every=1)
CPU = torch.device("cpu")
FILES = ("best.safetensors", "last.safetensors")


@pytest.fixture
def corpus(text_file: Path) -> Corpus:
    return open_corpus([str(text_file)], TextConfig())


def start_run(
    folder: Path,
    corpus: Corpus,
    train: TrainConfig = TRAIN,
    validation: ValidationConfig = VALIDATION,
    cell: str = "lstm",
) -> Run:
    folder.mkdir()
    symbols = corpus.tokenizer.vocabulary_size
    model = ModelConfig(symbols, 6, 2, 5, cell=cell, dropout=0.2)
    plan = Plan(model, train, validation, "")
    return Run.start(RunContext(folder, corpus, TextConfig(), CPU), plan)


def resume(run: Run) -> Run:
    """Resume the run in its folder from its last save."""
    last = checkpoint.load(run.folder / FILES[1])
    return Run.resume(run.context, Plan(last.model, last.train, run.validation, ""), last)


def finish(run: Run) -> None:
    for _ in run.reports():
        pass


def stop_at(run: Run, step: int) -> None:
    """Run until `step` is done, and save."""
    for report in run.reports():
        if isinstance(report, StepReport) and report.step == step:
            break
    run.save()


def assert_same_as_reference(folder: Path) -> None:
    """Assert that the folders `run` and `reference` have the same checkpoints and metrics."""
    for file in FILES:
        expected = (folder / "reference" / file).read_bytes()
        assert (folder / "run" / file).read_bytes() == expected
    assert metrics(folder / "run") == metrics(folder / "reference")


def metrics(folder: Path) -> list[dict[str, float]]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "time"} for line in lines]


def test_the_same_seed_gives_the_same_bytes_in_any_folder(tmp_path: Path, corpus: Corpus) -> None:
    for name in ("one", "two"):
        finish(start_run(tmp_path / name, corpus))
    for file in FILES:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
@pytest.mark.parametrize("stop", [1, 2, 3, 5, 6])
def test_a_stopped_and_resumed_run_ends_with_the_bytes_of_an_uninterrupted_one(
    tmp_path: Path, corpus: Corpus, cell: str, stop: int
) -> None:
    finish(start_run(tmp_path / "reference", corpus, cell=cell))
    run = start_run(tmp_path / "stopped", corpus, cell=cell)
    stop_at(run, stop)
    finish(resume(run))
    for file in FILES:
        reference = (tmp_path / "reference" / file).read_bytes()
        assert (tmp_path / "stopped" / file).read_bytes() == reference
    assert metrics(tmp_path / "stopped") == metrics(tmp_path / "reference")


def test_metrics_of_repeated_steps_are_not_logged_twice(tmp_path: Path, corpus: Corpus) -> None:
    run = start_run(tmp_path / "run", corpus)
    stop_at(run, 3)
    with (tmp_path / "run" / "metrics.jsonl").open("a") as file:
        file.write(
            '{"step": 4, "loss": 1.0}\n{"step": 5, "lo'
        )  # as if the machine had crashed here
    finish(resume(run))
    losses = [line["step"] for line in metrics(tmp_path / "run") if "loss" in line]
    assert losses == [1, 2, 3, 4, 5, 6]


def test_sampling_from_the_network_at_a_validation_changes_nothing(
    tmp_path: Path, corpus: Corpus
) -> None:
    for name in ("plain", "sampling"):
        for report in start_run(tmp_path / name, corpus).reports():
            if isinstance(report, Validation) and name == "sampling":
                from charnn.config import SampleConfig
                from charnn.sampling.sampler import Sampler

                sampler = Sampler(report.network.weights(), corpus.tokenizer)
                list(sampler.stream(SampleConfig(length=9, seed=1)))
    for file in FILES:
        assert (tmp_path / "plain" / file).read_bytes() == (
            tmp_path / "sampling" / file
        ).read_bytes()


def test_the_validation_interval_does_not_change_the_weights(
    tmp_path: Path, corpus: Corpus
) -> None:
    weights = []
    for every in (1, 6):
        run = start_run(
            tmp_path / str(every), corpus, validation=replace(VALIDATION, val_every=every)
        )
        finish(run)
        weights.append(checkpoint.load(tmp_path / str(every) / FILES[1]).weights)
    assert all(np.array_equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_best_is_the_model_with_the_lowest_validation_loss(tmp_path: Path, corpus: Corpus) -> None:
    run = start_run(
        tmp_path / "run", corpus, replace(TRAIN, steps=20, learning_rate=0.5), EVERY_STEP
    )
    scores = {}
    for report in run.reports():
        if isinstance(report, Validation) and report.score:
            scores[report.step] = report.score.nats_per_char
    best = checkpoint.load(tmp_path / "run" / FILES[0])
    assert best.figures.val_nats_per_char == min(scores.values())
    assert best.figures.step == min(scores, key=lambda step: scores[step])
    assert not best.training_tensors


@pytest.mark.parametrize("stopped", [False, True])
def test_the_best_model_is_measured_on_the_whole_validation_part_at_the_end(
    tmp_path: Path, corpus: Corpus, stopped: bool
) -> None:
    run = start_run(tmp_path / "run", corpus, validation=ValidationConfig(2, val_characters=50))
    if stopped:  # the measure is made up for when the run goes on
        stop_at(run, 4)
        run = resume(run)
    finish(run)
    best = checkpoint.load(tmp_path / "run" / "best.safetensors")
    whole = evaluate(best.network(), corpus.validation, "lanes").nats_per_char
    assert best.figures.full_val_nats_per_char == whole == best.figures.nats_per_char
    assert best.figures.val_nats_per_char != whole
    assert best.figures.step == run.metrics.best_step


def test_validations_that_read_everything_need_no_other_measure(
    tmp_path: Path, corpus: Corpus
) -> None:
    run = start_run(tmp_path / "run", corpus)
    stop_at(run, 3)
    figures = checkpoint.load(tmp_path / "run" / "best.safetensors").figures
    assert figures.full_val_nats_per_char == figures.val_nats_per_char is not None


def test_a_measure_that_would_take_long_is_left_out(
    tmp_path: Path, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("charnn.training.validations.ALWAYS_FULL", 0)
    run = start_run(tmp_path / "run", corpus, validation=ValidationConfig(2, val_characters=50))
    finish(run)
    figures = checkpoint.load(tmp_path / "run" / "best.safetensors").figures
    assert figures.full_val_nats_per_char is None
    assert figures.nats_per_char == figures.val_nats_per_char


def test_patience_stops_a_run_that_no_longer_improves(tmp_path: Path, corpus: Corpus) -> None:
    train, patient = replace(TRAIN, steps=500, learning_rate=2.0), replace(EVERY_STEP, patience=3)
    run = start_run(tmp_path / "run", corpus, train, patient)
    finish(run)
    assert run.state.step == run.metrics.best_step + 3 < 500
    assert resume(run).finished


def test_without_a_validation_part_the_last_model_is_the_best(
    tmp_path: Path, text_file: Path
) -> None:
    corpus = open_corpus([str(text_file)], TextConfig(val_fraction=0.0))
    run = start_run(tmp_path / "run", corpus)
    finish(run)
    best = checkpoint.load(tmp_path / "run" / FILES[0])
    assert best.figures.step == 6
    assert best.figures.val_nats_per_char is None


def test_a_model_without_training_state_cannot_be_resumed(tmp_path: Path, corpus: Corpus) -> None:
    run = start_run(tmp_path / "run", corpus)
    finish(run)
    best = checkpoint.load(tmp_path / "run" / FILES[0])
    with pytest.raises(CheckpointError, match="no training state to resume from"):
        Run.resume(run.context, Plan(best.model, best.train, VALIDATION, ""), best)


def test_a_run_saved_at_its_early_stop_makes_no_further_step(
    tmp_path: Path, corpus: Corpus
) -> None:
    train, patient = replace(TRAIN, steps=500, learning_rate=2.0), replace(EVERY_STEP, patience=3)
    reference = start_run(tmp_path / "reference", corpus, train, patient)
    for _ in reference.reports():
        pass
    run = start_run(tmp_path / "stopped", corpus, train, patient)
    stop_at(run, reference.state.step)
    finish(resume(run))
    for file in FILES:
        expected = (tmp_path / "reference" / file).read_bytes()
        assert (tmp_path / "stopped" / file).read_bytes() == expected


def test_a_run_can_be_resumed_from_its_save_before_the_first_step(
    tmp_path: Path, corpus: Corpus
) -> None:
    run = start_run(tmp_path / "run", corpus)
    next(run.reports())
    progress = checkpoint.load(tmp_path / "run" / FILES[1]).progress
    assert progress is not None
    assert progress.step == 0
    finish(resume(run))
    finish(start_run(tmp_path / "reference", corpus))
    for file in FILES:
        expected = (tmp_path / "reference" / file).read_bytes()
        assert (tmp_path / "run" / file).read_bytes() == expected


@pytest.mark.parametrize("damage", ["not utf-8", "a folder"])
def test_a_run_with_damaged_metrics_can_be_resumed_unless_they_are_a_folder(
    tmp_path: Path, corpus: Corpus, damage: str
) -> None:
    run = start_run(tmp_path / "run", corpus)
    stop_at(run, 3)
    path = tmp_path / "run" / "metrics.jsonl"
    path.unlink()
    if damage == "a folder":
        path.mkdir()
        with pytest.raises(CharnnError, match=r"metrics\.jsonl: not a regular file"):
            resume(run)
        return
    path.write_bytes(b"\xff\xfe\n")
    finish(resume(run))
    assert metrics(tmp_path / "run")[0]["step"] == 4


def test_the_validation_interval_does_not_change_the_tensors_of_the_last_checkpoint(
    tmp_path: Path, corpus: Corpus
) -> None:
    for name, every in (("each", 1), ("end", 6)):
        finish(start_run(tmp_path / name, corpus, validation=ValidationConfig(val_every=every)))
    lasts = [safetensors.torch.load_file(tmp_path / name / FILES[1]) for name in ("each", "end")]
    assert lasts[0].keys() == lasts[1].keys()
    assert all(torch.equal(tensor, lasts[1][name]) for name, tensor in lasts[0].items())


def test_saving_after_every_step_does_not_change_the_files(tmp_path: Path, corpus: Corpus) -> None:
    finish(start_run(tmp_path / "rarely", corpus))
    run = start_run(tmp_path / "often", corpus)
    for _ in run.reports():
        run.save()
    for file in FILES:
        assert (tmp_path / "often" / file).read_bytes() == (tmp_path / "rarely" / file).read_bytes()
    assert sorted(path.name for path in (tmp_path / "often").iterdir()) == [*FILES, METRICS]


def count_saves(run: Run) -> int:
    """Finish the run and return how often it saved `last`."""
    times = set()
    for _ in run.reports():
        times.add((run.folder / FILES[1]).stat().st_mtime_ns)
    return len(times)


def test_the_save_interval_is_kept(tmp_path: Path, corpus: Corpus) -> None:
    often, rarely = start_run(tmp_path / "often", corpus), start_run(tmp_path / "rarely", corpus)
    often.saver = Saver(often.folder, every=0.0)
    assert count_saves(often) >= 6
    assert count_saves(rarely) == 1  # at its start; the interval of a minute has not passed


def test_after_the_best_model_was_lost_the_next_validation_saves_one(
    tmp_path: Path, corpus: Corpus
) -> None:
    run = start_run(tmp_path / "run", corpus, validation=EVERY_STEP)
    stop_at(run, 3)
    (tmp_path / "run" / FILES[0]).unlink()  # as after a full disk and a power cut
    run = resume(run)
    next_one = next(report for report in run.reports() if isinstance(report, Validation))
    assert next_one.best
    assert (tmp_path / "run" / FILES[0]).exists()


def test_a_validation_loss_of_nan_is_never_the_best(tmp_path: Path, corpus: Corpus) -> None:
    run = start_run(tmp_path / "run", corpus, replace(TRAIN, steps=1, max_rollbacks=0))
    with torch.no_grad():
        run.state.network.head.bias[0] = float("nan")
    run.state.step = 1
    found = list(run._validate())
    assert [report.best for report in found if isinstance(report, Validation)] == [False]
    assert not (tmp_path / "run" / FILES[0]).exists()
    assert metrics(tmp_path / "run") == [{"step": 1, "val_nats_per_char": "nan"}]


def fill_disk(run: Run, name: str, monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Simulate a full disk for files called `name` until the returned list is cleared."""
    full = [True]
    real = files.os.fsync  # type: ignore[attr-defined]

    def failing(handle: int) -> None:
        target = Path(f"/proc/self/fd/{handle}").readlink()
        if full and name in target.name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(handle)

    monkeypatch.setattr(files.os, "fsync", failing)  # type: ignore[attr-defined]
    return full


proc = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs Linux's /proc")


@proc
@pytest.mark.parametrize("name", ["last", "best", "metrics"])
def test_a_full_disk_is_a_warning_and_failed_saves_are_made_up_for_later(
    tmp_path: Path, corpus: Corpus, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    finish(start_run(tmp_path / "reference", corpus))
    run = start_run(tmp_path / "run", corpus)
    run.saver = Saver(run.folder, every=0.0)
    reports = run.reports()
    next(reports)
    full = fill_disk(run, name, monkeypatch)
    warnings = []
    for report in reports:
        if isinstance(report, TrainingWarning):
            warnings.append(str(report))
        if len(warnings) == 3:
            full.clear()
    assert len(warnings) >= 3
    assert all("No space left" in warning and "continues" in warning for warning in warnings)
    assert_same_as_reference(tmp_path)


@proc
def test_a_run_whose_last_save_failed_ends_with_an_error(
    tmp_path: Path, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = start_run(tmp_path / "run", corpus)
    reports = run.reports()
    next(reports)
    fill_disk(run, "last", monkeypatch)
    with pytest.raises(CharnnError, match=r"saving .*last.*No space left on device"):
        list(reports)
    progress = checkpoint.load(tmp_path / "run" / FILES[1]).progress
    assert progress is not None
    assert progress.step == 0  # the successful save at the start is still there


@pytest.mark.parametrize("at", [2, 6])
def test_a_stopping_run_skips_its_validation_and_makes_it_up_when_resumed(
    tmp_path: Path, corpus: Corpus, at: int
) -> None:
    finish(start_run(tmp_path / "reference", corpus))
    run = start_run(tmp_path / "run", corpus)
    for report in run.reports():
        if isinstance(report, StepReport) and report.step == at:
            run.stopping = True  # before the validation of this step
    assert run.state.step == at
    assert run.metrics.validated < at
    finish(resume(run))
    assert_same_as_reference(tmp_path)


def test_a_run_killed_before_its_first_step_has_the_same_files_and_metrics(
    tmp_path: Path, corpus: Corpus
) -> None:
    finish(start_run(tmp_path / "reference", corpus, validation=EVERY_STEP))
    run = start_run(tmp_path / "run", corpus, validation=EVERY_STEP)
    run.save()
    finish(resume(run))
    assert_same_as_reference(tmp_path)


@pytest.mark.parametrize("stop", [2, 3, 4, 5])
@exploding(lambda state, rate: state.step == 3 and rate > 0.004)
def test_a_stopped_run_with_rollbacks_has_the_same_files_and_metrics(
    tmp_path: Path, corpus: Corpus, monkeypatch: pytest.MonkeyPatch, stop: int
) -> None:
    monkeypatch.setattr(loop, "SNAPSHOT_EVERY", 2)
    reference = start_run(tmp_path / "reference", corpus, validation=EVERY_STEP)
    finish(reference)
    assert reference.state.rollbacks > 0
    run = start_run(tmp_path / "run", corpus, validation=EVERY_STEP)
    for report in run.reports():
        if isinstance(report, StepReport) and report.step == stop:
            run.save()
            break
    reports = resume(run).reports()  # killed after three more reports, without a save
    for _, _ in zip(range(3), reports, strict=False):
        pass
    finish(resume(run))
    assert_same_as_reference(tmp_path)
    rollbacks = [line for line in metrics(tmp_path / "run") if "rollback_to" in line]
    assert [line["rollback_to"] for line in rollbacks] == [2] * reference.state.rollbacks


@exploding(lambda state, rate: state.step == 3 and rate > 0.004)
def test_a_run_with_several_steps_per_sync_has_the_same_files_and_metrics(
    tmp_path: Path, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run has validations, rollbacks, and a save between them."""
    monkeypatch.setattr(loop, "SNAPSHOT_EVERY", 4)
    validation = ValidationConfig(val_every=3)
    finish(start_run(tmp_path / "reference", corpus, validation=validation))
    with several_steps_per_sync():
        run = start_run(tmp_path / "run", corpus, validation=validation)
        run.saver = Saver(run.folder, every=0)
        for _ in zip(range(5), run.reports(), strict=False):
            pass
        finish(resume(run))
    assert_same_as_reference(tmp_path)


@proc
def test_models_are_saved_even_if_the_metrics_cannot_be_written(
    tmp_path: Path, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = start_run(tmp_path / "run", corpus, replace(TRAIN, steps=40))
    run.saver = Saver(run.folder, every=3600)
    reports = run.reports()
    next(reports)
    fill_disk(run, "metrics", monkeypatch)
    run.saver._saved -= 3601  # as if an hour had passed
    seen: list[object] = []
    with pytest.raises(CharnnError, match=r"metrics\.jsonl: No space left"):
        seen.extend(reports)
    assert sum(isinstance(report, TrainingWarning) for report in seen) == 1
    assert checkpoint.load(tmp_path / "run" / FILES[1]).figures.step == 40


def test_one_slow_save_does_not_lengthen_the_save_interval(
    tmp_path: Path, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, now = start_run(tmp_path / "run", corpus), [1000.0]
    monkeypatch.setattr(saver.time, "monotonic", lambda: now[0])  # type: ignore[attr-defined]
    real = checkpoint.save

    def save(path: Path, saved: Checkpoint, previous: Path | None, takes: list[float]) -> None:
        now[0] += takes.pop(0)
        real(path, saved, previous)

    takes = [0.5, 30.0]
    monkeypatch.setattr(saver, "save", functools.partial(save, takes=takes))
    run.saver = Saver(run.folder)
    for _ in range(2):
        run.save()
    now[0] += 99
    assert not run.saver.due
    now[0] += 2
    assert run.saver.due  # 0.5 s is a 200th of 100 s


@pytest.mark.parametrize("stop", [3, 6])
def test_losing_the_metrics_does_not_lose_the_best_model(
    tmp_path: Path, corpus: Corpus, stop: int
) -> None:
    run = start_run(tmp_path / "run", corpus, replace(TRAIN, learning_rate=2.0), EVERY_STEP)
    stop_at(run, stop)
    (tmp_path / "run" / METRICS).unlink()
    before = checkpoint.load(tmp_path / "run" / FILES[0]).figures
    run = resume(run)
    assert run.metrics.best_nats == before.val_nats_per_char
    finish(run)
    after = checkpoint.load(tmp_path / "run" / FILES[0]).figures
    assert after.val_nats_per_char is not None
    assert before.val_nats_per_char is not None
    assert after.val_nats_per_char <= before.val_nats_per_char


def test_resuming_a_finished_run_restores_a_lost_best_model(tmp_path: Path, corpus: Corpus) -> None:
    run = start_run(tmp_path / "run", corpus)
    finish(run)
    (tmp_path / "run" / FILES[0]).unlink()
    finish(resume(run))
    assert checkpoint.load(tmp_path / "run" / FILES[0]).figures.step == 6


@pytest.mark.parametrize(
    "line",
    [
        "[" * 100_000, '{"step": Infinity}', '{"step": "2", "val_nats_per_char": 1.0}', "3", "{}",
        '{"step": 1, "rollback_to": null}', '{"step": 1, "val_nats_per_char": []}',
        '{"step": 1, "val_nats_per_char": ' + "9" * 400 + "}",
    ],
)  # fmt: skip
def test_a_damaged_line_of_the_metrics_is_removed(
    tmp_path: Path, corpus: Corpus, line: str
) -> None:
    run = start_run(tmp_path / "run", corpus)
    stop_at(run, 3)
    expected = metrics(tmp_path / "run")
    path = tmp_path / "run" / METRICS
    path.write_text(line + "\n" + path.read_text())
    resume(run)
    assert metrics(tmp_path / "run") == expected


@proc
def test_lines_of_the_metrics_that_could_not_be_written_are_in_last_until_they_are(
    tmp_path: Path, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish(start_run(tmp_path / "reference", corpus))
    run = start_run(tmp_path / "run", corpus)
    reports = run.reports()
    next(reports)
    with monkeypatch.context() as patch:
        fill_disk(run, METRICS, patch)
        with pytest.raises(CharnnError, match=r"metrics\.jsonl: No space left"):
            list(reports)
    (tmp_path / "run" / METRICS).unlink()  # as a power cut may leave it
    finish(resume(run))
    assert_same_as_reference(tmp_path)
