"""Runs that lose power at any moment lose no completed save, and end with the same bytes."""

import importlib
import os
import stat
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture
def power_cuts(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(SCRIPTS)
    return importlib.import_module("power_cuts")


@pytest.mark.parametrize("tries", [3, pytest.param(70, marks=pytest.mark.slow)])
def test_a_run_that_loses_power_ends_with_the_bytes_of_an_undisturbed_one(
    power_cuts: ModuleType, tmp_path: Path, tries: int
) -> None:
    trials = power_cuts.Trials(tmp_path)
    problems = [trials.cut(seed) for seed in range(tries)]
    assert not any(problems), problems
    rows = trials.rows.values()
    assert sum(row.identical for row in rows) == sum(row.cuts for row in rows) >= tries


@pytest.mark.slow
@pytest.mark.parametrize("missing", ["of files", "of folders"])
def test_without_syncs_power_cuts_lose_runs(
    power_cuts: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    sync = power_cuts.Recorder._fsync

    def sync_the_others(recorder: Any, plain: Any, handle: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode) != (missing == "of folders"):
            sync(recorder, plain, handle)

    monkeypatch.setattr(power_cuts.Recorder, "_fsync", sync_the_others)
    trials = power_cuts.Trials(tmp_path)
    assert any(trials.cut(seed) for seed in range(20))
