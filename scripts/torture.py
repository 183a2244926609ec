"""Does a run that is killed at any moment end with the same files as an uninterrupted one?

Trains a model on a small invented text without interruption, as a reference. Then trains the same
run in child processes that are killed by SIGKILL: while they start, at a random moment of the
training, right after a SIGINT, or inside a write, where the child pauses before one of its system
calls until it is killed. A killed run continues with `--resume`, or with its first command if
nothing had been saved. Once complete, it must have the same bytes as the reference, and the next
run starts. Some children are stopped by SIGINT or SIGTERM instead; these are not counted as kills.

    python scripts/torture.py --kills 200
"""

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from charnn import checkpoint
from charnn.errors import CharnnError
from charnn.runs.folder import BEST, LAST, METRICS, is_unstarted, last_checkpoint
from charnn.runs.opening import load_or_previous

TRAINING, AT = "training", "at "  # messages of a child process, see torture_child.py
SETTINGS = "--seed 1 --hidden-size 16 --num-layers 2 --dropout .2 --batch-size 4 --seq-len 16"
SAVE_EVERY = ("--save-every", "0.002")  # minutes
CALLS = 80  # a child pauses before one of its first 80 calls; a save makes about 10
MAX_GRACE = 0.05  # seconds between a SIGINT and the SIGKILL after it
TIMEOUT = 300  # seconds; no child process needs so long
RESUMED, STARTED_OVER = "resumed", "started over"

START, TRAIN, WRITE, STOPPING = "while starting", "while training", "inside a write", "after SIGINT"
STOP = "stop"
KIND_WEIGHTS = {START: 5, TRAIN: 5, WRITE: 8, STOPPING: 2, STOP: 2}


class LostError(Exception):
    """Raised when a run cannot continue, or differs from the reference at its end."""


@dataclass(frozen=True)
class Interruption:
    """The signal that ends a child process, and when it is sent."""

    kind: str
    delay: float = 0.0  # seconds after the start of the process or of the training
    call: int = 0  # instead of the delay: number of the call to pause before; 0: none
    number: int = signal.SIGKILL
    grace: float = 0.0  # seconds from a SIGINT to the SIGKILL after it

    @property
    def expected_codes(self) -> tuple[int, ...]:
        """Correct exit statuses; 0 is among them because the child may finish first."""
        if self.kind == STOP:
            return 0, 128 + self.number
        if self.kind == STOPPING:
            return 0, 128 + signal.SIGINT, -self.number
        return 0, -self.number


@dataclass
class Kill:
    """A kill, and how the run continued after it."""

    kind: str
    continued: str = ""


@dataclass
class Row:
    """A row of the table: the outcomes of one kind of kill."""

    kills: int = 0
    resumed: int = 0
    started_over: int = 0
    identical: int = 0
    lost: int = 0

    def __str__(self) -> str:
        return " | ".join(str(value) for value in vars(self).values())


@dataclass
class Reference:
    """The uninterrupted run."""

    files: dict[str, bytes]
    start_seconds: float  # until the first step
    train_seconds: float  # from the first step to the last


@dataclass
class Torture:
    """Kills training runs in the folder `work` and counts the outcomes."""

    work: Path
    device: str
    steps: int
    rng: random.Random
    rows: dict[str, Row] = field(
        default_factory=lambda: {k: Row() for k in KIND_WEIGHTS if k != STOP}
    )
    places: Counter[str] = field(default_factory=Counter)  # calls before which a child was killed
    stops: int = 0
    runs: int = 0
    failed: int = 0  # runs
    children: int = 0

    def run(self, kills: int) -> None:
        """Start and kill runs until there are `kills` kills, then let the last run finish."""
        reference = self._train_reference()
        while self.kills < kills:
            self._train_killed(reference, kills)

    @property
    def kills(self) -> int:
        """Number of kills so far."""
        return sum(row.kills for row in self.rows.values())

    def _train_reference(self) -> Reference:
        """Train without interruption."""
        out, start = self.work / "reference", time.time()
        with (self.work / "log").open("wb") as log:
            command = [sys.executable, "-P", "-m", "charnn", *self._start_command(out)]
            code = subprocess.call(
                command, stdout=log, stderr=log, env=_environment(self.work), timeout=TIMEOUT
            )
        if code:
            sys.exit(f"the uninterrupted run failed:\n{self._log()}")
        times = [
            json.loads(line)["time"]
            for line in (out / METRICS).read_text(encoding="utf-8").splitlines()
        ]
        return Reference(files(out), times[0] - start, times[-1] - times[0])

    def _train_killed(self, reference: Reference, kills: int) -> None:
        """Train one run to its end while killing it, and enter its kills in the table."""
        self.runs += 1
        out, killed, problem = self.work / f"run-{self.runs}", list[Kill](), ""
        try:
            self._train_to_end(out, reference, kills, killed)
            compare(files(out), reference.files)
            shutil.rmtree(out)
        except (LostError, OSError, ValueError) as error:
            problem = str(error)
            self.failed += 1
            print(f"run {self.runs}: {problem} (kills: {len(killed)})", file=sys.stderr)
        for kill in killed:
            row = self.rows[kill.kind]
            row.resumed += kill.continued == RESUMED
            row.started_over += kill.continued == STARTED_OVER
            row.identical += not problem
            row.lost += bool(problem)

    def _train_to_end(
        self, out: Path, reference: Reference, kills: int, killed: list[Kill]
    ) -> None:
        """Run child processes one after another until one completes the run."""
        code = -1
        while code != 0:
            self.children += 1
            if self.children > 5 * kills + 20:
                raise SystemExit(
                    f"giving up after {self.children} child processes and {self.kills} kills"
                )
            continued = next_step(out)
            interruption = self._draw(reference) if self.kills < kills else None
            code, place = self._run_child(out, continued, interruption)
            if code not in (interruption.expected_codes if interruption else (0,)):
                raise LostError(f"{continued}, {interruption}: exit status {code}\n{self._log()}")
            if killed and not killed[-1].continued:
                killed[-1].continued = continued
            if interruption and code == -signal.SIGKILL:
                self.rows[interruption.kind].kills += 1
                killed.append(Kill(interruption.kind))
                self.places.update([place] if place else [])
            elif code != 0:
                self.stops += 1

    def _run_child(
        self, out: Path, continued: str, interruption: Interruption | None
    ) -> tuple[int, str]:
        """Run and interrupt a child; return its exit status and the call that it paused before."""
        start = continued == STARTED_OVER
        arguments = self._start_command(out) if start else self._resume_command(out)
        read, write = os.pipe()
        script = str(Path(__file__).with_name("torture_child.py"))
        call = interruption.call if interruption else 0
        command = [sys.executable, script, str(write), str(call), *arguments]
        with os.fdopen(read) as messages, (self.work / "log").open("wb") as log:
            child = subprocess.Popen(
                command, stdout=log, stderr=log, pass_fds=[write], env=_environment(self.work)
            )
            os.close(write)
            try:
                place = interrupt(child, messages, interruption) if interruption else ""
                return child.wait(), place
            finally:
                child.kill()
                child.wait()

    def _draw(self, reference: Reference) -> Interruption:
        """Draw a random interruption."""
        rng = self.rng
        kind = rng.choices(list(KIND_WEIGHTS), list(KIND_WEIGHTS.values()))[0]
        longest = reference.start_seconds if kind == START else reference.train_seconds / 2
        delay = rng.uniform(0, longest)
        # The square favours the first calls, which are made only once.
        call = 1 + int(CALLS * rng.random() ** 2)
        number = rng.choice([signal.SIGINT, signal.SIGTERM]) if kind == STOP else signal.SIGKILL
        return Interruption(kind, delay, call * (kind == WRITE), number, rng.uniform(0, MAX_GRACE))

    def _start_command(self, out: Path) -> list[str]:
        """Return the arguments that start the run."""
        text = self.work / "text.txt"
        if not text.exists():
            text.write_text(words(20_000), encoding="utf-8")
        deterministic = ["--deterministic"] * self.device.startswith("cuda")
        settings = f"--steps {self.steps} --val-every 37 {SETTINGS}".split()
        return ["train", str(text), *settings, *deterministic, *self._common_options(out)]

    def _resume_command(self, out: Path) -> list[str]:
        """Return the arguments that resume the run."""
        return ["train", "--resume", *self._common_options(out)]

    def _common_options(self, out: Path) -> list[str]:
        return [*SAVE_EVERY, "--device", self.device, "--out", str(out)]

    def _log(self) -> str:
        """Return the last lines that the last child process printed."""
        lines = (self.work / "log").read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(lines[-20:])


def interrupt(
    child: "subprocess.Popen[bytes]", messages: IO[str], interruption: Interruption
) -> str:
    """Signal the child at its time, unless it ends first; return the call that it paused before."""
    place = ""
    if interruption.kind == WRITE:
        place = next((line for line in messages if line.startswith(AT)), "")
    elif interruption.kind != START:
        next((line for line in messages if line.startswith(TRAINING)), "")
    if not interruption.call:
        _wait(child, interruption.delay)
    if interruption.kind == STOPPING:
        child.send_signal(signal.SIGINT)
        _wait(child, interruption.grace)
    child.send_signal(interruption.number)
    return place.removeprefix(AT).strip()


def _wait(child: "subprocess.Popen[bytes]", seconds: float) -> None:
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(seconds)


def next_step(folder: Path) -> str:
    """Return whether the run is to be resumed or started over; raise `LostError` if it is lost."""
    if not folder.exists() or is_unstarted(folder):
        return STARTED_OVER
    try:
        last, _ = load_or_previous(last_checkpoint(folder))
        if (folder / BEST).exists():
            checkpoint.load(folder / BEST)
    except CharnnError as error:
        raise LostError(str(error)) from error
    if last.progress is None:
        raise LostError(f"{folder}: no training state to resume from")
    return RESUMED


def files(folder: Path) -> dict[str, bytes]:
    """Return the content of a run folder that must equal that of the reference."""
    found = {name: (folder / name).read_bytes() for name in (BEST, LAST)}
    values = [json.loads(line) for line in (folder / METRICS).read_bytes().splitlines()]
    lines = [{k: v for k, v in line.items() if k != "time"} for line in values]
    names = {path.name for path in folder.iterdir()}
    return found | {
        METRICS: json.dumps(lines).encode(),
        "set of files": str(sorted(names)).encode(),
    }


def compare(found: dict[str, bytes], expected: dict[str, bytes]) -> None:
    """Raise `LostError` unless the files are equal."""
    different = [name for name in expected if found[name] != expected[name]]
    if different:
        raise LostError(f"different from the reference: {', '.join(different)}")


def words(characters: int) -> str:
    """Return a text of invented words, in lines."""
    rng, text = random.Random(0), ""
    while len(text) < characters:
        text += "".join(rng.choices("aeinst", k=rng.randint(2, 6))) + rng.choice(" \n")
    return text[:characters]


def _environment(work: Path) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "CHARNN_CACHE": str(work / "cache")}


def sum_of(rows: Iterable[Row]) -> Row:
    """Return the sum of the rows."""
    return Row(*(sum(column) for column in zip(*(vars(r).values() for r in rows), strict=True)))


def report(torture: Torture, total: Row) -> None:
    """Print the table and the figures that are not in it."""
    print("| killed | kills | resumed | started over | byte-identical | lost |")
    print("|---|---|---|---|---|---|")
    for kind, row in (torture.rows | {"in all": total}).items():
        print(f"| {kind} | {row} |")
    places = ", ".join(f"{name} {count}" for name, count in sorted(torture.places.items()))
    print("\n" + textwrap.fill(f"calls before which a child was killed: {places or 'none'}", 100))
    print(f"runs: {torture.runs}; of these lost or different from the reference: {torture.failed}")
    print(f"stops by SIGINT or SIGTERM, not counted above: {torture.stops}")


def main() -> None:
    """Parse the options, kill runs, and print the table; exit with 1 if a run was lost."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument(
        "--seed", type=int, default=0, help="random seed of the kinds and moments of the kills"
    )
    parser.add_argument("--steps", type=int, default=600, help="training steps of a run")
    parser.add_argument(
        "--device", default="cpu", help="device to train on; cuda implies --deterministic"
    )
    parser.add_argument(
        "--work", type=Path, help="an empty folder to work in; lost runs are kept there"
    )
    options = parser.parse_args()
    if options.work and options.work.exists() and any(options.work.iterdir()):
        parser.error(f"{options.work} is not empty")
    with contextlib.ExitStack() as stack:
        work = options.work or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        work.mkdir(parents=True, exist_ok=True)
        rng = random.Random(options.seed)
        torture = Torture(work.resolve(), options.device, options.steps, rng)
        torture.run(options.kills)
    total = sum_of(torture.rows.values())
    report(torture, total)
    sys.exit(torture.failed > 0)


if __name__ == "__main__":
    main()
