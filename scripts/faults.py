"""Does a run whose system calls fail at random end with the same files as an undisturbed one?

Trains a tiny model in this process. While it starts, trains, saves and resumes, each call that
opens, reads, writes, syncs, links, renames, truncates or removes a file of the run fails with a
probability: before or after it has done its work, or after half of it. Some of the runs are made
longer meanwhile, and some are also stopped at a random moment. After up to three such attempts the
disk works again, and the run must end with the bytes of the undisturbed run at the first try. A run
that ends without an error while calls fail must have these bytes at once.

    python scripts/faults.py --runs 200
"""

import argparse
import contextlib
import errno
import io
import json
import logging
import os
import random
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torture import RESUMED, compare, files, next_step, words

import charnn
from charnn.errors import CharnnError
from charnn.runs.folder import RUN_INFO

PROBABILITIES = (0.01, 0.05, 0.2, 0.5)
ERRORS = (errno.ENOSPC, errno.EIO, errno.EACCES)
CALLS = (
    "open", "read", "write", "pwrite", "fsync", "truncate", "ftruncate", "link", "replace",
    "unlink", "mkdir",
)  # fmt: skip
SETTINGS: dict[str, Any] = {
    "hidden_size": 4, "num_layers": 1, "embedding_size": 3, "batch_size": 2, "seq_len": 5,
    "dropout": 0.2, "learning_rate": 0.3, "val_every": 3, "seed": 1,
}  # fmt: skip
STEPS, LONGER = 12, 18  # the learning rate is so high that some validations are not the best
ATTEMPTS = 3  # while calls fail


class Stopped(Exception):  # noqa: N818 - not an error
    """Ends a run as a kill would."""


@dataclass
class FailingDisk:
    """Context in which each system call on files of the run may fail."""

    root: Path
    probability: float
    rng: random.Random
    active: bool = True
    faults: int = 0
    _plain: dict[str, Any] = field(default_factory=dict)
    _handles: set[int] = field(default_factory=set)  # descriptors of files of the run

    def __enter__(self) -> "FailingDisk":
        self._plain = {name: getattr(os, name) for name in CALLS}
        for name, call in self._plain.items():
            setattr(os, name, self.failing(call))
        self._close = os.close
        os.close = self._close_handle  # type: ignore[assignment]
        self._open = io.open
        io.open = self._open_file  # type: ignore[assignment]
        return self

    def __exit__(self, *_: object) -> None:
        for name, call in self._plain.items():
            setattr(os, name, call)
        io.open, os.close = self._open, self._close

    def fails(self) -> bool:
        """Draw whether the present call fails."""
        failing = self.active and self.rng.random() < self.probability
        self.faults += failing
        return failing

    def error(self) -> OSError:
        """Draw an error of the system."""
        number = self.rng.choice(ERRORS)
        return OSError(number, os.strerror(number))

    def closed(self, handle: int) -> None:
        """Forget a descriptor, which may soon stand for another file."""
        self._handles.discard(handle)

    def failing(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """Return `call`, which may fail before or after it has done its work."""
        opens = call is self._plain.get("open")

        def may_fail(*arguments: Any, **options: Any) -> Any:
            if not any(map(self._is_ours, arguments[:2])):
                return call(*arguments, **options)
            if not self.fails():
                result = call(*arguments, **options)
                if opens:
                    self._handles.add(result)
                return result
            if not opens and self.rng.random() < 0.5:
                call(*arguments, **options)
            raise self.error()

        return may_fail

    def _is_ours(self, place: Any) -> bool:
        if isinstance(place, int):
            return place in self._handles
        return isinstance(place, str | Path) and Path(place).is_relative_to(self.root)

    def _close_handle(self, handle: int) -> None:
        self.closed(handle)
        self._close(handle)

    def _open_file(self, place: Any, *arguments: Any, **options: Any) -> Any:
        if not self._is_ours(place):
            return self._open(place, *arguments, **options)
        if not isinstance(place, int) and self.fails():
            raise self.error()
        file = self._open(place, *arguments, **options)
        self._handles.add(file.fileno())
        return FailingFile(file, self)


class FailingFile:
    """An open file whose calls may fail."""

    def __init__(self, file: Any, disk: FailingDisk) -> None:
        self._file, self._disk, self._written = file, disk, False

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._file, name)
        if name not in ("read", "readinto", "truncate", "flush"):
            return value

        def may_fail(*arguments: Any) -> Any:
            result = value(*arguments)
            if self._disk.fails():
                raise self._disk.error()
            return result

        return may_fail

    def write(self, data: bytes) -> int:
        """Write the data, or half of them."""
        self._written = True
        if not self._disk.fails():
            return self._file.write(data)
        written = self._file.write(data[: len(data) // 2])
        if isinstance(self._file, io.RawIOBase) and self._disk.rng.random() < 0.5:
            return written
        raise self._disk.error()

    def close(self) -> None:
        """Close the file; if it was written to, this may fail."""
        self._disk.closed(self._file.fileno())
        self._file.close()
        if self._written and self._disk.fails():
            raise self._disk.error()

    def __enter__(self) -> "FailingFile":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass
class Row:
    """A row of the table: the outcomes at one probability."""

    runs: int = 0
    faults: int = 0
    errors: int = 0  # attempts that ended with an error
    stopped: int = 0  # attempts
    completed: int = 0  # attempts that ended without an error while calls failed
    identical: int = 0
    lost: int = 0

    def __str__(self) -> str:
        return " | ".join(str(value) for value in vars(self).values())


@dataclass
class Trials:
    """Trains runs in the folder `work` while system calls fail, and counts the outcomes."""

    work: Path
    rows: dict[float, Row] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.text = self.work / "text.txt"
        self.text.write_text(words(400), encoding="utf-8")
        self.expected = {}
        for steps in (STEPS, LONGER):
            self.train(self.work / "reference", steps)
            self.expected[steps] = all_files(self.work / "reference")

    def train(
        self,
        out: Path,
        steps: int,
        on_report: Callable[[object], None] | None = None,
        disk: Any = None,
    ) -> None:
        """Start the run, or resume it, and train to its end; on a failing `disk` or not."""
        resume = next_step(out) == RESUMED
        common: dict[str, Any] = {"save_every": 0, "device": "cpu", "on_report": on_report}
        with disk or contextlib.nullcontext():
            if resume:
                charnn.resume(out, steps=steps if steps == LONGER else None, **common)
            else:
                charnn.train(self.text, out=out, steps=steps, **common, **SETTINGS)

    def run(self, probability: float, seed: int) -> str:
        """Try one run; return what went wrong, or ''."""
        row, rng = self.rows.setdefault(probability, Row()), random.Random(seed)
        out, problem = self.work / f"run-{seed}", ""
        row.runs += 1
        steps = rng.choice([STEPS, STEPS, STEPS, LONGER])
        try:
            if steps == LONGER:
                self.train(out, STEPS)
            for _ in range(rng.randint(1, ATTEMPTS)):
                self._attempt(out, steps, FailingDisk(out, probability, rng), row)
            self.train(out, steps)
            self._compare(out, self.expected[steps])
        except Exception as error:  # whatever it is, it belongs in the table
            problem = f"{type(error).__name__}: {error}"
        row.identical += not problem
        row.lost += bool(problem)
        return problem

    def _attempt(self, out: Path, steps: int, disk: FailingDisk, row: Row) -> None:
        """Train while calls fail from a random moment on; the run may be stopped at another."""
        rng, reports = disk.rng, iter(range(10**6))
        begin = rng.choice([0, rng.randint(0, 2 * STEPS)])
        stop = rng.choice([None, None, rng.randint(0, 2 * STEPS)])

        def on_report(_: object) -> None:
            number = next(reports)
            disk.active = number >= begin
            if number == stop:
                raise Stopped

        disk.active = begin == 0
        try:
            self.train(out, steps, on_report, disk)
        except CharnnError:
            row.errors += 1
        except Stopped:
            row.stopped += 1
        else:
            row.completed += 1
            expected = self.expected[steps]
            self._compare(out, {n: expected[n] for n in expected if n != "set of files"})
        row.faults += disk.faults

    def _compare(self, out: Path, expected: dict[str, bytes]) -> None:
        for path in out.glob("*.damaged*"):  # what could not be read
            path.unlink()
        compare(all_files(out), expected)


def all_files(out: Path) -> dict[str, bytes]:
    """Return the files of a finished run, with its run.json."""
    info = json.loads((out / RUN_INFO).read_text(encoding="utf-8"))
    return files(out) | {RUN_INFO: json.dumps(info | {"started": ""}, sort_keys=True).encode()}


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Print no warnings of the runs within the block."""
    logger = logging.getLogger("charnn")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


def print_table(rows: dict[float, Row]) -> None:
    """Print the table."""
    print("| p | runs | faults | errors | stopped | completed | byte-identical | lost |")
    print("|---|---|---|---|---|---|---|---|")
    total = Row(*map(sum, zip(*(vars(row).values() for row in rows.values()), strict=True)))
    for name, row in [*rows.items(), ("in all", total)]:
        print(f"| {name} | {row} |")


def main() -> None:
    """Parse the options, try runs, and print the table; exit with 1 if a run was lost."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0, help="of the first run; each has the next")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work, quiet():
        trials = Trials(Path(work))
        for number in range(options.runs):
            seed = options.seed + number
            probability = PROBABILITIES[seed % len(PROBABILITIES)]
            if problem := trials.run(probability, seed):
                print(f"seed {seed}, p {probability}: {problem}", file=sys.stderr)
    print_table(trials.rows)
    sys.exit(any(row.lost for row in trials.rows.values()))


if __name__ == "__main__":
    main()
