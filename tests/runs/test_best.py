"""`best` is the best model that a run has found, whatever happened to the files beside it."""

import os
import shutil
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from charnn import checkpoint
from charnn.checkpoint import Checkpoint
from charnn.config import TextConfig, ValidationConfig
from charnn.errors import CharnnError
from charnn.runs import saver
from charnn.runs.folder import BEST, LAST, METRICS
from charnn.runs.reports import Report, Validation
from charnn.runs.run import Run
from charnn.text.corpus import Corpus, open_corpus
from charnn.training.plan import Plan
from charnn.training.reports import TrainingWarning
from tests.conftest import warned
from tests.runs.test_run import EVERY_STEP, TRAIN, finish, resume, start_run, stop_at

UNSTEADY = replace(TRAIN, learning_rate=1.0, final_rate=1.0, seed=3)
BEST_STEP = 2  # of a run with these settings and six steps


@pytest.fixture
def corpus(text_file: Path) -> Corpus:
    return open_corpus([str(text_file)], TextConfig())


@pytest.fixture
def reference(tmp_path: Path, corpus: Corpus) -> Run:
    """A finished run whose best model is neither its first nor its last one."""
    run = start_run(tmp_path / "reference", corpus, UNSTEADY, EVERY_STEP)
    finish(run)
    assert run.metrics.best_step == BEST_STEP
    return run


def contents(run: Run) -> list[bytes]:
    return [(run.folder / name).read_bytes() for name in (BEST, LAST)]


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The names of the checkpoints that cannot be written."""
    refused: set[str] = set()
    real = checkpoint.save

    def save(path: Path, saved: Checkpoint, previous: Path | None = None) -> None:
        if path.name in refused:
            raise CharnnError(f"saving {path}: Permission denied")
        real(path, saved, previous)

    monkeypatch.setattr(saver, "save", save)
    return refused


def test_a_best_model_that_cannot_be_saved_is_saved_as_soon_as_it_can(
    tmp_path: Path, corpus: Corpus, reference: Run, disk: set[str]
) -> None:
    run = start_run(tmp_path / "run", corpus, UNSTEADY, EVERY_STEP)
    warnings = 0
    for report in run.reports():
        disk |= {BEST} if run.state.step < 5 else set()
        disk -= {BEST} if run.state.step >= 5 else set()
        warnings += isinstance(report, TrainingWarning)
    assert warnings
    assert contents(run) == contents(reference)


@pytest.mark.parametrize("stop", [3, 4, 5, 6])
def test_a_run_that_is_stopped_before_its_best_model_could_be_saved_has_it_when_resumed(
    tmp_path: Path, corpus: Corpus, reference: Run, disk: set[str], stop: int
) -> None:
    run = start_run(tmp_path / "run", corpus, UNSTEADY, EVERY_STEP)
    reports = run.reports()
    next(reports)
    disk.add(BEST)
    with pytest.raises(CharnnError, match="Permission denied"):
        stop_after(reports, run, stop)
    assert run.state.step == stop
    with pytest.raises(CharnnError, match="Permission denied"):
        finish(resume(run))  # in vain, but what is missing is still remembered
    disk.clear()
    run = resume(run)
    finish(run)
    assert contents(run) == contents(reference)


def stop_after(reports: Iterable[Report], run: Run, step: int) -> None:
    for report in reports:
        run.stopping = isinstance(report, Validation) and report.step == step


def delete(path: Path) -> None:
    path.unlink()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def overwrite(path: Path) -> None:
    path.write_bytes(b"\xff\x00" * 99 + b'\n{"step": 1, "val_nats_per_char": 99.0}\n')


@pytest.mark.parametrize("damage", [delete, cut, overwrite])
@pytest.mark.parametrize("stop", [1, 3, 5, 6])
def test_a_run_without_whole_metrics_ends_with_the_bytes_of_one_that_has_them(
    tmp_path: Path, corpus: Corpus, reference: Run, damage: Callable[[Path], None], stop: int
) -> None:
    run = start_run(tmp_path / "run", corpus, UNSTEADY, EVERY_STEP)
    stop_at(run, stop)
    damage(run.folder / METRICS)
    run = resume(run)
    finish(run)
    assert contents(run) == contents(reference)


def test_a_patient_run_without_its_metrics_stops_where_it_would_have_stopped(
    tmp_path: Path, corpus: Corpus
) -> None:
    train, patient = replace(UNSTEADY, steps=50), ValidationConfig(val_every=1, patience=4)
    reference = start_run(tmp_path / "reference", corpus, train, patient)
    finish(reference)
    assert reference.state.step < 50
    run = start_run(tmp_path / "run", corpus, train, patient)
    stop_at(run, reference.state.step - 2)
    (run.folder / METRICS).unlink()
    with warned("lines are missing"):
        run = resume(run)
    finish(run)
    assert contents(run) == contents(reference)


@pytest.mark.parametrize("damage", [delete, cut, overwrite])
def test_a_best_model_that_was_lost_is_made_again_if_it_is_the_newest_one(
    tmp_path: Path, corpus: Corpus, damage: Callable[[Path], None]
) -> None:
    reference = start_run(tmp_path / "reference", corpus)
    finish(reference)
    assert reference.metrics.best_step == 6
    shutil.copytree(reference.folder, tmp_path / "run")
    damage(tmp_path / "run" / BEST)
    context = replace(reference.context, folder=tmp_path / "run")
    run = Run.start(context, plan_of(reference))
    run = resume(run)
    finish(run)
    assert contents(run) == contents(reference)
    kept = tmp_path / "run" / f"{BEST}.damaged"
    assert kept.exists() == (damage is not delete)


def plan_of(run: Run) -> Plan:
    return Plan(run.state.network.config, run.train, run.validation, "")


def test_a_best_model_that_is_lost_for_good_is_reported_and_changes_nothing_else(
    tmp_path: Path, corpus: Corpus, reference: Run
) -> None:
    run = start_run(tmp_path / "run", corpus, UNSTEADY, EVERY_STEP)
    stop_at(run, 5)
    (run.folder / BEST).unlink()
    with warned(f"best model of the run, of step {BEST_STEP}, is lost"):
        run = resume(run)
    scores = [r.score for r in run.reports() if isinstance(r, Validation)]
    best = checkpoint.load(run.folder / BEST).figures
    assert best.val_nats_per_char == min(score.nats_per_char for score in scores if score)
    assert contents(run)[1] == contents(reference)[1]


def test_an_older_best_model_that_came_back_is_replaced_only_by_a_better_one(
    tmp_path: Path, corpus: Corpus
) -> None:
    run = start_run(tmp_path / "run", corpus, replace(TRAIN, learning_rate=0.003), EVERY_STEP)
    for report in run.reports():
        if isinstance(report, Validation) and report.step == 2:
            shutil.copyfile(run.folder / BEST, tmp_path / "old")
    newest = contents(run)
    os.replace(tmp_path / "old", run.folder / BEST)
    run = resume(run)
    finish(run)
    assert contents(run) == newest


def test_a_better_model_from_after_the_save_is_not_replaced_by_a_worse_one(
    tmp_path: Path, corpus: Corpus, reference: Run
) -> None:
    """The run is killed after its best model, and the rest of it turns out worse."""
    run = start_run(tmp_path / "run", corpus, UNSTEADY, EVERY_STEP)
    stop_at(run, 1)
    shutil.copyfile(reference.folder / BEST, run.folder / BEST)
    last = checkpoint.load(run.folder / LAST)
    checkpoint.save(run.folder / LAST, replace(last, train=replace(last.train, clip=1e-9)))
    run = resume(run)
    finish(run)
    assert contents(run)[0] == contents(reference)[0]


def test_an_older_checkpoint_without_metrics_keeps_its_best_model(
    tmp_path: Path, corpus: Corpus, reference: Run
) -> None:
    run = start_run(tmp_path / "run", corpus, UNSTEADY, EVERY_STEP)
    stop_at(run, 5)
    last = checkpoint.load(run.folder / LAST)
    checkpoint.save(run.folder / LAST, replace(last, run=None))
    (run.folder / METRICS).unlink()
    run = resume(run)
    finish(run)
    assert contents(run)[0] == contents(reference)[0]


def test_a_model_of_another_run_is_kept_aside_and_not_taken_for_the_best(
    tmp_path: Path, corpus: Corpus, reference: Run, run_folder: Path
) -> None:
    run = start_run(tmp_path / "run", corpus, UNSTEADY, EVERY_STEP)
    stop_at(run, 1)
    shutil.copyfile(run_folder / BEST, run.folder / BEST)
    with warned(r"a model of another run; it is kept as best\.safetensors\.damaged"):
        run = resume(run)
    finish(run)
    assert contents(run) == contents(reference)
    kept = run.folder / f"{BEST}.damaged"
    assert kept.read_bytes() == (run_folder / BEST).read_bytes()
