"""The metrics of a run contain each step once, without those that a rollback has undone."""

import errno
import io
import json
import os
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from charnn.errors import CharnnError
from charnn.facts import Progress
from charnn.runs import metrics
from charnn.runs.metrics import MetricsLog, read_metrics
from charnn.training.reports import Rollback, StepReport


def report(step: int, loss: float = 2.0) -> StepReport:
    return StepReport(step, loss, 0.1, 3.0)


def test_logged_metrics_are_read_back(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl")
    for step in (1, 2, 3):
        log.step(report(step))
    log.validation(3, 1.5)
    metrics = read_metrics(log.path)
    assert metrics.steps == [report(1), report(2), report(3)]
    assert metrics.validations == [(3, 1.5)]
    assert metrics.rollbacks == 0


def test_steps_undone_by_a_rollback_are_replaced_by_the_repeated_ones(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl")
    for step in (1, 2, 3, 4):
        log.step(report(step))
        log.validation(step, 9.0)
    log.rollback(Rollback(5, 2, "loss nan", 0.1))
    log.step(report(3, 7.0))
    log.validation(3, 8.0)
    metrics = read_metrics(log.path)
    assert metrics.steps == [report(1), report(2), report(3, 7.0)]
    assert metrics.validations == [(1, 9.0), (2, 9.0), (3, 8.0)]
    assert metrics.rollbacks == 1


def test_the_last_line_of_a_repeated_step_counts(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl")
    for step, loss in ((2, 5.0), (4, 4.0), (2, 3.0)):
        log.step(report(step, loss))
    assert read_metrics(log.path).steps == [report(2, 3.0), report(4, 4.0)]


VALID: dict[str, Any] = dict(vars(report(1)))


@pytest.mark.parametrize(
    "damaged",
    [
        "",
        "[1]",
        '{"step": 2, "loss": 1.0, "lear',
        '{"step": "2"}',
        json.dumps(VALID | {"step": 10**30}),
        json.dumps(VALID | {"step": -1}),
        json.dumps(VALID | {"loss": []}),
        json.dumps(VALID | {"loss": 10**400}),
        json.dumps(VALID | {"gradient_norm": None}),
        '{"step": 2, "val_nats_per_char": null}',
    ],
)
def test_a_damaged_line_is_skipped(tmp_path: Path, damaged: str) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text("\n".join([json.dumps(VALID), damaged, json.dumps(VALID | {"step": 3})]))
    metrics = read_metrics(path)
    assert [r.step for r in metrics.steps] == [1, 3]
    assert metrics.validations == []


def test_a_missing_file_has_no_metrics_and_an_unreadable_one_is_an_error(tmp_path: Path) -> None:
    assert read_metrics(tmp_path / "metrics.jsonl").steps == []
    with pytest.raises(CharnnError, match="reading"):
        read_metrics(tmp_path)


def broken(*_: object, **__: object) -> Any:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


class HalfWritten(io.FileIO):
    """A file on a disk that is full after half of the data."""

    def write(self, data: Any) -> int:
        return super().write(data[: len(data) // 2])


class Torn(HalfWritten):
    """A file on a disk that cannot even remove that half again."""

    truncate = broken


class Unclosed(io.FileIO):
    """A file whose last bytes may not reach the disk."""

    def close(self) -> None:
        failing = not self.closed
        super().close()
        if failing:
            broken()


@pytest.mark.parametrize("place", [HalfWritten, Torn, Unclosed, "fsync", "open"])
def test_after_a_failure_each_line_is_in_the_file_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: Any
) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl")
    log.step(report(1))
    log.sync()
    log.step(report(2))
    with monkeypatch.context() as patch:
        if place == "fsync":
            patch.setattr(os, "fsync", broken)
        elif place == "open":
            patch.setattr(os, "open", broken)
        else:
            patch.setattr(MetricsLog, "_opened", lambda log: place(log.path, "a"))
        for step in (3, 4):
            log.step(report(step))
            with pytest.raises(OSError, match=r"Input/output|no room"):
                log.sync()
    log.step(report(5))
    log.sync()
    steps = [json.loads(line)["step"] for line in log.path.read_text().splitlines()]
    assert steps == [1, 2, 3, 4, 5]
    assert not log.unsynced


def test_lines_that_the_file_lacks_are_written_once_after_those_before_them(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl")
    for step in (1, 2, 3, 4):
        log.step(report(step))
    late = list(log.unsynced[1:3])
    log.path.write_text(log.path.read_text().replace(late[0], ""))
    log = MetricsLog(log.path)
    log.reopen(Progress(3, 0, 3, 0, 3, 0, 3), None, late)
    log.sync()
    assert [step.step for step in read_metrics(log.path).steps] == [1, 2, 3]
    log = MetricsLog(log.path)
    log.reopen(Progress(3, 0, 3, 0, 3, 0, 3), None, late)
    log.sync()
    assert [step.step for step in read_metrics(log.path).steps] == [1, 2, 3]
    assert len(log.path.read_text().splitlines()) == 3


def test_of_a_very_long_log_an_even_part_of_all_steps_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "_MOST", 50)
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(json.dumps(VALID | {"step": n}) + "\n" for n in range(1, 3001)))
    read = [report.step for report in read_metrics(path).steps]
    assert 50 <= len(read) <= 100
    gaps = [after - before for before, after in pairwise([0, *read, 3001])]
    assert max(gaps) <= 2 * 3000 / len(read)
