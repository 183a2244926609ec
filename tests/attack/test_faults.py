"""Runs whose system calls fail at random, many at once, end with the bytes of undisturbed runs."""

import importlib
from pathlib import Path
from types import ModuleType

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(SCRIPTS)
    return importlib.import_module("faults")


@pytest.mark.parametrize("tries", [4, pytest.param(100, marks=pytest.mark.slow)])
def test_a_run_whose_calls_fail_at_random_ends_with_the_bytes_of_an_undisturbed_one(
    faults: ModuleType, tmp_path: Path, tries: int
) -> None:
    trials = faults.Trials(tmp_path)
    problems = [trials.run(faults.PROBABILITIES[seed % 4], seed) for seed in range(tries)]
    assert not any(problems), problems
    rows = trials.rows.values()
    assert sum(row.identical for row in rows) == tries
    assert sum(row.faults for row in rows) >= tries
