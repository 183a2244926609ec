"""metrics.jsonl: what was seen of a run, line by line, in the order in which it happened.

A line for many steps, for each validation and for each rollback. After a rollback the steps since
the snapshot come again. The validations are kept here and not in `last`, so that how often one
validates changes nothing there.
"""

import json
import math
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from charnn.checkpoint import Progress
from charnn.files import explained, replacing
from charnn.training.loop import Rollback, StepReport

_VALIDATION, _ROLLBACK = "val_nats_per_char", "rollback_to"
_LARGEST_STEP = 10**12  # that a run can have; a larger one is damage


@dataclass(frozen=True)
class Metrics:
    """What was recorded of a run, by step; of a step that came again, the last time counts."""

    steps: list[StepReport]  # their numbers may be infinite: in float16 a norm can overflow
    validations: list[tuple[int, float]]  # step and nats per character
    rollbacks: int


def read_metrics(path: Path) -> Metrics:
    """The metrics in a file, for those who only look; none where there is no file.

    What a rollback undid is left out, and so are damaged lines. `CharnnError` if the file cannot
    be read.
    """
    with explained(f"reading {path}", "name another run"):
        text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    steps: dict[int, StepReport] = {}
    validations: dict[int, float] = {}
    rollbacks = 0
    for values in map(_read, text.splitlines()):
        step = values.get("step", -1)
        if not 0 <= step <= _LARGEST_STEP:
            continue
        if _ROLLBACK in values:
            rollbacks += 1
            steps = {s: report for s, report in steps.items() if s <= values[_ROLLBACK]}
            validations = {s: nats for s, nats in validations.items() if s <= values[_ROLLBACK]}
        elif _VALIDATION in values:
            if (nats := _number(values[_VALIDATION])) is not None:
                validations[step] = nats
        elif (report := _report(values)) is not None:
            steps[step] = report
    return Metrics([steps[s] for s in sorted(steps)], sorted(validations.items()), rollbacks)


class Record:
    """The metrics of a run, and what follows from its validations."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._unwritten: list[str] = []
        self.best_nats: float | None = None
        self.best_step = 0
        self.stale = 0  # validations since the best one
        self.validated = 0  # the step of the newest validation

    @classmethod
    def reopen(cls, path: Path, progress: Progress) -> "Record":
        """The record of a run that goes on from `progress`: what came after it will come again."""
        record = cls(path)
        with explained(f"mending {path}", "check the run folder"):
            text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
            kept = []
            for values in _until(text, progress):
                kept.append(json.dumps(values) + "\n")
                record._learn(values)
            if "".join(kept) != text:
                with replacing(path) as file:
                    file.write("".join(kept).encode())
        return record

    def step(self, report: StepReport) -> None:
        """Write down a step."""
        self._append(vars(report))

    def validation(self, step: int, nats: float | None) -> None:
        """Write down a validation; None without a validation part."""
        self._append({"step": step, _VALIDATION: nats})

    def rollback(self, report: Rollback) -> None:
        """Write down a rollback."""
        self._append({"step": report.step, _ROLLBACK: report.to, "problem": report.problem})

    def is_best(self, nats: float | None) -> bool:
        """Whether a validation with this result would be the best one; without one, any is."""
        if nats is None:
            return True
        return math.isfinite(nats) and (self.best_nats is None or nats < self.best_nats)

    def sync(self) -> None:
        """Write what could not be written before, and put all of it on the disk."""
        self._write()
        if self.path.exists():
            with self.path.open("ab") as file:
                os.fsync(file.fileno())

    def _append(self, values: dict[str, Any]) -> None:
        self._learn(values)
        values = {k: _plain(v) for k, v in values.items()} | {"time": round(time.time(), 3)}
        self._unwritten.append(json.dumps(values) + "\n")
        try:
            self._write()
        except OSError:
            return  # `sync` tries again, and says so

    def _write(self) -> None:
        if not self._unwritten:
            return
        with self.path.open("ab", buffering=0) as file:
            before = file.seek(0, os.SEEK_END)
            data = "".join(self._unwritten).encode()
            try:
                if file.write(data) != len(data):
                    raise OSError("no room for the metrics")
            except OSError:
                file.truncate(before)  # not half a line
                raise
        self._unwritten.clear()

    def _learn(self, values: dict[str, Any]) -> None:
        if _ROLLBACK in values:
            self.validated = min(self.validated, values[_ROLLBACK])
        elif _VALIDATION in values:
            self.validated = values["step"]
            nats = _number(values[_VALIDATION])
            if self.is_best(nats):
                self.best_nats, self.best_step, self.stale = nats, values["step"], 0
            else:
                self.stale += 1


def _plain(value: Any) -> Any:
    """A number that JSON knows, or the name of one that it does not."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def _until(text: str, progress: Progress) -> Iterator[dict[str, Any]]:
    """The lines up to the moment when a run had come as far as `progress`."""
    rollbacks = 0
    for values in map(_read, text.splitlines()):
        if not values:
            continue
        rollbacks += _ROLLBACK in values
        beyond = values["step"] > progress.step and _ROLLBACK not in values
        if rollbacks > progress.rollbacks or (rollbacks == progress.rollbacks and beyond):
            return
        yield values


def _read(line: str) -> dict[str, Any]:
    """A line's values; none of a damaged one, as the last is when a machine went down."""
    try:
        values = json.loads(line)
        _number(values.get(_VALIDATION))
        whole = [values["step"], values.get(_ROLLBACK, 0)]
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return {}
    return values if all(type(number) is int for number in whole) else {}


def _report(values: dict[str, Any]) -> StepReport | None:
    """The step of a line; none of a damaged one."""
    try:
        numbers = [float(values[name]) for name in ("loss", "learning_rate", "gradient_norm")]
    except (KeyError, ValueError, TypeError, OverflowError):
        return None
    return StepReport(values["step"], *numbers)
