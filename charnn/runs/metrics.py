"""metrics.jsonl: the figures of a run, one line per event, in the order in which they happened.

There is a line for many steps, for each validation and for each rollback. After a rollback the
steps since the snapshot are repeated. The log is for people and plots: what a resumed run needs to
know about its validations is in `last`, and only older checkpoints, which lack it, need the log.
"""

import contextlib
import errno
import io
import json
import logging
import math
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from charnn.errors import CharnnError
from charnn.facts import Progress, Validations
from charnn.files import explained, open_regular, replacing, sync_folder
from charnn.runs.folder import copy_aside
from charnn.training.reports import Rollback, StepReport

log = logging.getLogger(__name__)

_VALIDATION, _ROLLBACK = "val_nats_per_char", "rollback_to"
_MAX_STEP = 10**12  # of any run; a larger one is damage
_MAX_ROLLBACKS = 1000  # of any run
_MAX_NUMBER = 3.5e38  # just beyond float32
_MAX_LINE = 10_000  # bytes; a line of ours has about 150
_MAX_LOG = 1 << 28  # bytes
_MOST = 10_000  # steps to keep; a run records about 1,000

Item = TypeVar("Item")


@dataclass(frozen=True)
class Metrics:
    """The figures of a run, by step; of a repeated step the last time counts.

    Of an extremely long log only every second step is kept, every fourth, and so on.
    """

    steps: list[StepReport]  # may hold infinite numbers: in float16 a norm can overflow
    validations: list[tuple[int, float]]  # step and nats per character
    rollbacks: int


def read_metrics(path: Path) -> Metrics:
    """Read the metrics in a file; empty if there is no file.

    Steps that a rollback undid are left out, and so are damaged lines.

    Raises:
        CharnnError: the file cannot be read.
    """
    steps, validations = _Thinned[StepReport](), _Thinned[float]()
    rollbacks = 0
    with explained(f"reading {path}", "choose another run"):
        for values in map(_read, _lines(path)):
            step = values.get("step", -1)
            if _ROLLBACK in values:
                if rollbacks < _MAX_ROLLBACKS:  # in a file with more, somebody made them up
                    rollbacks += 1
                    steps.drop_after(values[_ROLLBACK])
                    validations.drop_after(values[_ROLLBACK])
            elif _VALIDATION in values:
                if (nats := _number(values[_VALIDATION])) is not None:
                    validations.add(step, nats)
            elif (report := _report(values)) is not None:
                steps.add(step, report)
    by_step = [report for _, report in steps.sorted()]
    return Metrics(by_step, validations.sorted(), rollbacks)


class _Thinned(Generic[Item]):
    """Items by step: all of them, or an even part of more than `_MOST`, so that memory and time
    stay small however long the log is."""

    def __init__(self) -> None:
        self._items: dict[int, Item] = {}
        self._every = 1  # of the lines, so many stand for one that is kept
        self._lines = 0

    def add(self, step: int, item: Item) -> None:
        """Add an item, or replace that of the same step."""
        self._lines += 1
        if self._lines % self._every and step not in self._items:
            return
        self._items[step] = item
        if len(self._items) > 2 * _MOST:
            self._items = dict(self.sorted()[::2])
            self._every *= 2

    def drop_after(self, step: int) -> None:
        """Drop the items of later steps."""
        self._items = {s: item for s, item in self._items.items() if s <= step}

    def sorted(self) -> list[tuple[int, Item]]:
        """Return steps and items in order."""
        return [(step, self._items[step]) for step in sorted(self._items)]


def _lines(path: Path) -> Iterator[str]:
    """Yield the lines of a log, or none if there is no file; those that are too long are cut."""
    with contextlib.suppress(FileNotFoundError), os.fdopen(open_regular(path), "rb") as file:
        while line := file.readline(_MAX_LINE):
            yield line.decode("utf-8", "replace")


class MetricsLog:
    """The metrics of a run that trains: appends lines, and keeps track of its validations."""

    def __init__(self, path: Path, check_folder: Callable[[], None] = lambda: None) -> None:
        """Append to `path`; `check_folder` raises an error where it must not be written to."""
        self.path = path
        self._check_folder = check_folder
        self.unsynced: list[str] = []  # lines that a power cut might lose
        self._written = 0  # number of these that are in the file
        self._start = 0  # position in the file of the first of these
        self._failed = False  # after a failure the file may end with anything from there on
        self.best_nats: float | None = None
        self.best_step = 0
        self.stale = 0  # validations since the best one
        self.validated = 0  # step of the newest validation

    def reopen(
        self, progress: Progress, known: Validations | None = None, unsynced: Sequence[str] = ()
    ) -> None:
        """Continue the log of a run that resumes at `progress`, and drop the lines after it.

        `known` are the validations so far; None if only the log itself knows them. `unsynced` are
        the last lines, if the file may lack them. Logs a note if lines are damaged or missing.
        """
        path = self.path
        with explained(f"repairing {path}", "check the run folder"):
            if copy := drop_damaged_lines(path):
                log.warning(f"{path}: removed its damaged lines, which are kept in {copy.name}")
            text = _text(path)
            lines = list(_until((n for n in text.splitlines() if n not in unsynced), progress))
            if known is not None and lines and _is_later(lines[-1], known):
                del lines[-1]  # it was made after `last` was saved, and will be repeated
            kept = "".join(json.dumps(values) + "\n" for values in lines)
            self.unsynced = [line for line in unsynced if _read(line)]
            for values in (*lines, *map(_read, self.unsynced)):
                self._update(values)
            if kept != text:
                with replacing(path) as file:
                    file.write(kept.encode())
        if known is not None:
            if known.step > self.validated:
                log.warning(f"{path}: lines are missing, so the curves of the run have a gap")
            self.validated, self.stale = known.step, known.stale
            self.best_nats, self.best_step = known.best_nats, known.best_step

    def validations(self) -> Validations:
        """Return the validations so far, for `last`."""
        return Validations(self.validated, self.best_step, self.stale, self.best_nats)

    def repeat_validation(self, step: int) -> None:
        """Let the validation of `step`, the newest one, be due again; it was not the best one."""
        if self.validated == step:
            self.validated, self.stale = step - 1, max(0, self.stale - 1)

    def step(self, report: StepReport) -> None:
        """Append a step."""
        self._append(vars(report))

    def validation(self, step: int, nats: float | None) -> None:
        """Append a validation; None without a validation part."""
        self._append({"step": step, _VALIDATION: nats})

    def rollback(self, report: Rollback) -> None:
        """Append a rollback."""
        self._append({"step": report.step, _ROLLBACK: report.to, "problem": report.problem})

    def is_best(self, nats: float | None) -> bool:
        """Return whether this validation is the best so far; any is without a figure."""
        if nats is None:
            return True
        return math.isfinite(nats) and (self.best_nats is None or nats < self.best_nats)

    def sync(self) -> None:
        """Write what could not be written before, and sync the file to the disk."""
        if not self.unsynced:
            return
        self._write()
        try:
            with self._opened() as file:
                os.fsync(file.fileno())
            if not self._start:  # the file is new
                sync_folder(self.path.parent)
        except OSError:  # the system forgets what it could not sync, so write it again
            self._written, self._failed = 0, True
            raise
        self.unsynced.clear()
        self._written = 0

    def _append(self, values: dict[str, Any]) -> None:
        self._update(values)
        values = {k: _plain(v) for k, v in values.items()} | {"time": round(time.time(), 3)}
        self.unsynced.append(json.dumps(values))
        try:
            self._write()
        except (OSError, CharnnError):
            return  # `sync` tries again and reports the error

    def _write(self) -> None:
        """Append the lines that are not in the file; after a failure, all unsynced ones."""
        lines = self.unsynced[self._written :]
        if not lines:
            return
        self._check_folder()
        with self._opened() as file:
            end = file.seek(0, os.SEEK_END)
            if self._failed:
                end = file.truncate(min(self._start, end))
            elif not self._written:
                self._start = end
            data = "".join(f"{line}\n" for line in lines).encode()
            self._written, self._failed = 0, True  # until all has succeeded
            try:
                if file.write(data) != len(data):
                    raise OSError("no room for the metrics")
            except OSError:
                with contextlib.suppress(OSError):
                    file.truncate(end)  # leave no half line
                raise
        self._written, self._failed = len(self.unsynced), False

    def _opened(self) -> io.FileIO:
        """Open the file to append to it. One that a backup shares by a hard link is copied first,
        so that the backup stays as it is."""
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT
        file = io.FileIO(open_regular(self.path, flags), "rb+")
        if os.fstat(file.fileno()).st_nlink == 1:
            return file
        with file, replacing(self.path) as copy:
            shutil.copyfileobj(file, copy)
        return io.FileIO(open_regular(self.path, flags), "rb+")

    def _update(self, values: dict[str, Any]) -> None:
        if _ROLLBACK in values:
            self.validated = min(self.validated, values[_ROLLBACK])
        elif _VALIDATION in values:
            self.validated = values["step"]
            nats = _number(values[_VALIDATION])
            if self.is_best(nats):
                self.best_nats, self.best_step, self.stale = nats, values["step"], 0
            else:
                self.stale += 1


def _text(path: Path) -> str:
    """Return the whole log, "" if there is no file."""
    with contextlib.suppress(FileNotFoundError), os.fdopen(open_regular(path), "rb") as file:
        if (size := os.fstat(file.fileno()).st_size) > _MAX_LOG:
            raise OSError(errno.EFBIG, f"{size:,} bytes, which is no log of a run")
        return file.read(_MAX_LOG).decode("utf-8", "replace")
    return ""


def damaged_lines(path: Path) -> tuple[list[str], int]:
    """Return the good lines of a log, and the number of damaged ones; none if there is no file.

    Raises `OSError` if the file cannot be read.
    """
    lines = [line for line in _text(path).splitlines() if line.strip()]
    good = [line for line in lines if _read(line)]
    return good, len(lines) - len(good)


def drop_damaged_lines(path: Path) -> Path | None:
    """Remove the damaged lines of a log; return the copy that still has them.

    No copy is made for half a line at the end, which a power cut leaves.
    """
    good, damaged = damaged_lines(path)
    if not damaged:
        return None
    only_half = damaged == 1 and not _text(path).endswith("\n")
    copy = None if only_half else copy_aside(path)
    with replacing(path) as file:
        file.write("".join(f"{line}\n" for line in good).encode())
    return copy


def _plain(value: Any) -> Any:
    """Return a value that JSON can hold: infinite numbers by name."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _number(value: Any) -> float | None:
    """Return a number of a line; one beyond float32, in which all are computed, is infinite."""
    if value is None:
        return None
    number = float(value)
    return math.copysign(math.inf, number) if abs(number) > _MAX_NUMBER else number


def _is_later(values: Mapping[str, Any], known: Validations) -> bool:
    """Return True if the last line of a log is a validation after those that are known."""
    return _VALIDATION in values and values["step"] > known.step


def _until(lines: Iterable[str], progress: Progress) -> Iterator[dict[str, Any]]:
    """Yield the lines up to the moment when a run had reached `progress`."""
    rollbacks = 0
    for values in map(_read, lines):
        if not values:
            continue
        rollbacks += _ROLLBACK in values
        beyond = values["step"] > progress.step and _ROLLBACK not in values
        if rollbacks > progress.rollbacks or (rollbacks == progress.rollbacks and beyond):
            return
        yield values


def _read(line: str) -> dict[str, Any]:
    """Return the values of a line; none of a damaged one, as the last is after a power cut."""
    try:
        values = json.loads(line)
        _number(values.get(_VALIDATION))
        whole = [values["step"], values.get(_ROLLBACK, 0)]
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return {}
    flat = not any(isinstance(value, dict | list) for value in values.values())
    return values if flat and all(type(n) is int and 0 <= n <= _MAX_STEP for n in whole) else {}


def _report(values: dict[str, Any]) -> StepReport | None:
    """Return the step of a line; None for a damaged one."""
    try:
        numbers = [_number(values[name]) for name in ("loss", "learning_rate", "gradient_norm")]
    except (KeyError, ValueError, TypeError, OverflowError):
        return None
    loss, rate, norm = numbers
    if loss is None or rate is None or norm is None:
        return None
    return StepReport(values["step"], loss, rate, norm)
