"""A run folder can be made twice with the same bytes, and left and taken up at any step."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from charnn import checkpoint
from charnn.config import ModelConfig, TextConfig, TrainConfig, ValidationConfig
from charnn.errors import CharnnError, CheckpointError
from charnn.text.corpus import Corpus, open_corpus
from charnn.training.loop import StepReport
from charnn.training.run import Run, Validation

TRAIN = TrainConfig(steps=6, batch_size=3, seq_len=7, learning_rate=0.01, seed=4)
VALIDATION, EACH = ValidationConfig(val_every=2), ValidationConfig(val_every=1)
CPU = torch.device("cpu")
FILES = ("best.safetensors", "last.safetensors")


@pytest.fixture
def corpus(text_file: Path) -> Corpus:
    return open_corpus([str(text_file)], TextConfig())


def begun(
    folder: Path,
    corpus: Corpus,
    train: TrainConfig = TRAIN,
    validation: ValidationConfig = VALIDATION,
    cell: str = "lstm",
) -> Run:
    folder.mkdir()
    symbols = corpus.tokenizer.vocabulary_size
    model = ModelConfig(symbols, 6, 2, 5, cell=cell, dropout=0.2)
    return Run.start(folder, corpus, TextConfig(), model, train, validation, CPU)


def again(run: Run) -> Run:
    """The run in that folder, from its last save."""
    last = checkpoint.load(run.folder / FILES[1])
    return Run.resume(run.folder, last, run.corpus, run.validation, CPU)


def finish(run: Run) -> None:
    for _ in run.reports():
        pass


def stop_at(run: Run, step: int) -> None:
    """Make that many steps and save."""
    for report in run.reports():
        if isinstance(report, StepReport) and report.step == step:
            break
    run.save()


def metrics(folder: Path) -> list[dict[str, float]]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "time"} for line in lines]


def test_the_same_seed_gives_the_same_bytes_wherever_it_runs(
    tmp_path: Path, corpus: Corpus
) -> None:
    for name in ("one", "two"):
        finish(begun(tmp_path / name, corpus))
    for file in FILES:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
@pytest.mark.parametrize("stop", [1, 2, 3, 5, 6])
def test_a_stopped_and_resumed_run_ends_with_the_bytes_of_a_straight_one(
    tmp_path: Path, corpus: Corpus, cell: str, stop: int
) -> None:
    finish(begun(tmp_path / "straight", corpus, cell=cell))
    run = begun(tmp_path / "stopped", corpus, cell=cell)
    stop_at(run, stop)
    finish(again(run))
    for file in FILES:
        straight = (tmp_path / "straight" / file).read_bytes()
        assert (tmp_path / "stopped" / file).read_bytes() == straight
    assert metrics(tmp_path / "stopped") == metrics(tmp_path / "straight")


def test_metrics_of_steps_that_are_made_again_are_not_written_twice(
    tmp_path: Path, corpus: Corpus
) -> None:
    run = begun(tmp_path / "run", corpus)
    stop_at(run, 3)
    with (tmp_path / "run" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "loss": 1.0}\n{"step": 5, "lo')  # then the machine went down
    finish(again(run))
    losses = [line["step"] for line in metrics(tmp_path / "run") if "loss" in line]
    assert losses == [1, 2, 3, 4, 5, 6]


def test_looking_at_the_network_at_a_validation_changes_nothing(
    tmp_path: Path, corpus: Corpus
) -> None:
    for name in ("blind", "seeing"):
        for report in begun(tmp_path / name, corpus).reports():
            if isinstance(report, Validation) and name == "seeing":
                from charnn.config import SampleConfig
                from charnn.sampling.generate import stream

                list(stream(report.network, corpus.tokenizer, SampleConfig(length=9, seed=1)))
    for file in FILES:
        assert (tmp_path / "blind" / file).read_bytes() == (tmp_path / "seeing" / file).read_bytes()


def test_how_often_one_validates_does_not_change_what_is_learned(
    tmp_path: Path, corpus: Corpus
) -> None:
    weights = []
    for every in (1, 6):
        run = begun(tmp_path / str(every), corpus, validation=replace(VALIDATION, val_every=every))
        finish(run)
        weights.append(checkpoint.load(tmp_path / str(every) / FILES[1]).weights)
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_best_holds_the_model_of_the_lowest_validation(tmp_path: Path, corpus: Corpus) -> None:
    run = begun(tmp_path / "run", corpus, replace(TRAIN, steps=20, learning_rate=0.5), EACH)
    scores = {}
    for report in run.reports():
        if isinstance(report, Validation) and report.score:
            scores[report.step] = report.score.nats_per_char
    best = checkpoint.load(tmp_path / "run" / FILES[0])
    assert best.figures.val_nats_per_char == min(scores.values())
    assert best.figures.step == min(scores, key=lambda step: scores[step])
    assert not best.training_tensors


def test_patience_ends_a_run_that_no_longer_improves(tmp_path: Path, corpus: Corpus) -> None:
    train, patient = replace(TRAIN, steps=500, learning_rate=2.0), replace(EACH, patience=3)
    run = begun(tmp_path / "run", corpus, train, patient)
    finish(run)
    assert run.state.step == run.record.best_step + 3 < 500
    assert again(run).finished


def test_without_a_validation_part_the_newest_model_is_the_best(
    tmp_path: Path, text_file: Path
) -> None:
    corpus = open_corpus([str(text_file)], TextConfig(val_fraction=0.0))
    run = begun(tmp_path / "run", corpus)
    finish(run)
    best = checkpoint.load(tmp_path / "run" / FILES[0])
    assert best.figures.step == 6
    assert best.figures.val_nats_per_char is None


def test_a_model_without_training_state_cannot_be_resumed(tmp_path: Path, corpus: Corpus) -> None:
    run = begun(tmp_path / "run", corpus)
    finish(run)
    best = checkpoint.load(tmp_path / "run" / FILES[0])
    with pytest.raises(CheckpointError, match="nothing to go on from"):
        Run.resume(run.folder, best, corpus, VALIDATION, CPU)


def test_a_run_stopped_where_its_patience_ends_goes_no_further(
    tmp_path: Path, corpus: Corpus
) -> None:
    train, patient = replace(TRAIN, steps=500, learning_rate=2.0), replace(EACH, patience=3)
    straight = begun(tmp_path / "straight", corpus, train, patient)
    for _ in straight.reports():
        pass
    run = begun(tmp_path / "stopped", corpus, train, patient)
    stop_at(run, straight.state.step)
    finish(again(run))
    for file in FILES:
        expected = (tmp_path / "straight" / file).read_bytes()
        assert (tmp_path / "stopped" / file).read_bytes() == expected


def test_a_run_can_be_resumed_from_its_very_beginning(tmp_path: Path, corpus: Corpus) -> None:
    run = begun(tmp_path / "run", corpus)
    next(run.reports())
    progress = checkpoint.load(tmp_path / "run" / FILES[1]).progress
    assert progress is not None
    assert progress.step == 0
    finish(again(run))
    finish(begun(tmp_path / "straight", corpus))
    for file in FILES:
        expected = (tmp_path / "straight" / file).read_bytes()
        assert (tmp_path / "run" / file).read_bytes() == expected


@pytest.mark.parametrize("damage", ["not utf-8", "a folder"])
def test_damaged_metrics_do_not_keep_a_run_from_going_on(
    tmp_path: Path, corpus: Corpus, damage: str
) -> None:
    run = begun(tmp_path / "run", corpus)
    stop_at(run, 3)
    path = tmp_path / "run" / "metrics.jsonl"
    path.unlink()
    if damage == "a folder":
        path.mkdir()
        with pytest.raises(CharnnError, match=r"metrics\.jsonl: Is a directory"):
            again(run)
        return
    path.write_bytes(b"\xff\xfe\n")
    finish(again(run))
    assert metrics(tmp_path / "run")[0]["step"] == 4
