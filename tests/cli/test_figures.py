"""A figure is printed with the text, and the protocol, that it was measured by."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from charnn import checkpoint
from charnn.runs.check import check
from charnn.runs.folder import BEST, LAST
from tests.conftest import charnn


@pytest.fixture
def run(run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of a run, under ./checkpoints."""
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copytree(run_folder, "checkpoints/corpus"))


def on_a_sample(run: Path) -> None:
    """Let a run know only the loss on a sample of its validation text."""
    best = checkpoint.load(run / BEST)
    figures = replace(best.figures, full_val_nats_per_char=None)
    checkpoint.save(run / BEST, replace(best, figures=figures))


def test_a_figure_on_a_sample_is_marked(run: Path) -> None:
    assert "~" not in charnn("runs").stdout
    assert json.loads(charnn("runs", "--json").stdout)[0]["on_sample"] is False
    on_a_sample(run)
    assert " ~" in charnn("runs").stdout
    assert json.loads(charnn("runs", "--json").stdout)[0]["on_sample"] is True


def test_info_explains_what_a_figure_was_measured_on(run: Path) -> None:
    how = "read in parallel lanes; `charnn eval` reads it in one pass"
    assert f"on the whole validation text, {how}" in charnn("info", run).stdout
    on_a_sample(run)
    assert f"on a sample of the validation text, {how}" in charnn("info", run).stdout


def test_a_run_without_its_best_model_is_not_called_unvalidated(run: Path) -> None:
    (run / BEST).unlink()
    shown = charnn("runs").stdout
    assert "best missing; `charnn check checkpoints/corpus`" in shown
    assert "not validated" not in shown
    assert json.loads(charnn("runs", "--json").stdout)[0]["problem"] == f"{BEST} is missing"


def test_a_repair_says_that_it_has_only_the_loss_on_a_sample(run: Path) -> None:
    last = checkpoint.load(run / LAST)
    assert last.run is not None
    few = replace(last.run, validation=replace(last.run.validation, val_characters=30))
    known = replace(few.validations, best_step=last.figures.step)
    checkpoint.save(run / LAST, replace(last, run=replace(few, validations=known)))
    (run / BEST).unlink()
    (found,) = check(run, repair=True)
    assert found.repaired
    assert "only its loss on a sample of the text" in str(found)
    assert checkpoint.load(run / BEST).figures.full_val_nats_per_char is None
