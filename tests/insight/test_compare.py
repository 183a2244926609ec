"""Trials of RNN, GRU and LSTM differ only in the cell, and write nothing to disk."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from charnn.config import TextConfig
from charnn.insight import compare
from charnn.insight.compare import Trial, plan_trial, run_trial
from charnn.insight.gradients import measure_reach
from charnn.model.cells import CELLS
from charnn.model.network import CharNetwork
from charnn.text.corpus import open_corpus
from charnn.text.records import indices_of
from tests.conftest import charnn

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {"hidden_size": 6, "embedding_size": 5, "batch_size": 3, "seq_len": 8}
    monkeypatch.setattr(compare, "SETTINGS", compare.SETTINGS | sizes)


def test_plans_differ_only_in_cell_and_steps(text_file: Path) -> None:
    corpus = open_corpus([str(text_file)], TextConfig())
    plans = [plan_trial(cell, corpus, 0.005, 7, CPU) for cell in CELLS]
    models = [plan.model.to_json() | {"cell": ""} for plan in plans]
    trains = [plan.train.to_json() | {"steps": 0} for plan in plans]
    assert models == [models[0]] * 3
    assert trains == [trains[0]] * 3


def test_a_trial_measures_the_new_model_of_its_seed_and_the_trained_model(text_file: Path) -> None:
    corpus = open_corpus([str(text_file)], TextConfig())
    plan = plan_trial("lstm", corpus, 0.005, 7, CPU)
    *reports, found = run_trial(corpus, plan, CPU, 9, 5)
    assert isinstance(found, Trial)
    assert len(reports) == found.steps == plan.train.steps
    torch.manual_seed(7)
    fresh = measure_reach(CharNetwork(plan.model), indices_of(corpus.validation), 9, 5)
    np.testing.assert_array_equal(found.untrained.quartiles, fresh.quartiles)
    assert not np.array_equal(found.trained.quartiles, fresh.quartiles)


@pytest.mark.medium
def test_the_command_prints_a_row_for_each_cell_and_writes_no_file(
    text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    command = ("gradients", "--compare", text_file, "--minutes", "0.005", "--distance", "9")
    result = charnn(*command)
    assert result.exit_code == 0, result.stderr
    rows = [line.split()[0] for line in result.stdout.splitlines()]
    assert rows == ["distance", "cell", *CELLS]
    for words in ("seed: ", "forget gates", "plan: 1 GRU layer of 6 units"):
        assert words in result.stderr
    found = json.loads(charnn(*command, "--json", "--seed", "7", "--quiet").stdout)
    assert [trial["cell"] for trial in found["trials"]] == list(CELLS)
    assert found["seed"] == 7
    assert list(tmp_path.iterdir()) == []


@pytest.mark.medium
def test_without_a_text_the_corpus_of_a_run_is_used_and_without_a_run_the_demo_text(
    run_folder: Path, text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    command = ("gradients", "--compare", "--minutes", "0.005", "--distance", "9", "--json")
    of_run = json.loads(charnn(*command, run_folder).stdout)
    assert of_run["sources"] == [str(text_file)]
    demo = json.loads(charnn(*command).stdout)
    assert demo["sources"] != of_run["sources"]
