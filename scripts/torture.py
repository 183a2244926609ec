"""Does a run that is killed at any instant end as one that never was?

Trains a model on a small invented text straight through, then again and again in children that
SIGKILL ends: while they start, at any instant of the training, right after a SIGINT, and in the
middle of a write, where a child halts before one of its system calls until it is killed. What was
killed goes on with `--resume`, or with its first command where nothing had been saved. A run that
gets to its end must have the straight one's bytes, and the next one is begun. Stops by SIGINT and
SIGTERM come between and are not counted as kills.

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

TRAINING, AT = "training", "at "  # what a child says, see torture_child.py
SETTINGS = "--seed 1 --hidden-size 16 --num-layers 2 --dropout .2 --batch-size 4 --seq-len 16"
SAVE_EVERY = ("--save-every", "0.002")  # minutes
CALLS = 80  # a child halts at one of its first so many; a save makes about ten of them
HURRY = 0.05  # seconds between a SIGINT and the SIGKILL after it, at most
HANG = 300  # seconds; no child needs so long
RESUMED, AGAIN = "resumed", "begun again"

START, TRAIN, WRITE, STOPPING = "while starting", "while training", "inside a write", "after SIGINT"
STOP = "stop"
OFTEN = {START: 5, TRAIN: 5, WRITE: 8, STOPPING: 2, STOP: 2}


class LostError(Exception):
    """A run that cannot go on, or that ended otherwise than it should have."""


@dataclass(frozen=True)
class Blow:
    """How a child is ended."""

    kind: str
    delay: float = 0.0  # seconds from its start or from its first step
    call: int = 0  # where it halts instead; 0: nowhere
    number: int = signal.SIGKILL
    hurry: float = 0.0  # seconds from a SIGINT to the SIGKILL after it

    @property
    def endings(self) -> tuple[int, ...]:
        """The exit statuses that are right: the program may have been quicker than the blow."""
        if self.kind == STOP:
            return 0, 128 + self.number
        if self.kind == STOPPING:
            return 0, 128 + signal.SIGINT, -self.number
        return 0, -self.number


@dataclass
class Kill:
    """A blow that fell, and how the run went on after it."""

    kind: str
    then: str = ""


@dataclass
class Row:
    """What became of the kills of one kind."""

    kills: int = 0
    resumed: int = 0
    again: int = 0
    identical: int = 0
    lost: int = 0

    def __str__(self) -> str:
        return " | ".join(str(value) for value in vars(self).values())


@dataclass
class Straight:
    """The run that nobody killed."""

    files: dict[str, bytes]
    starting: float  # seconds until the first step
    training: float  # seconds from there to the end


@dataclass
class Torture:
    """Runs that are killed in `work`, and what became of them."""

    work: Path
    device: str
    steps: int
    chance: random.Random
    rows: dict[str, Row] = field(default_factory=lambda: {k: Row() for k in OFTEN if k != STOP})
    places: Counter[str] = field(default_factory=Counter)  # the calls before which one was killed
    stops: int = 0
    runs: int = 0
    failed: int = 0  # of them
    attempts: int = 0

    def run(self, kills: int) -> None:
        """Begin and kill runs until there were so many kills, and let the last one end."""
        straight = self._straight()
        while self.kills < kills:
            self._run_killed(straight, kills)

    @property
    def kills(self) -> int:
        """How many there were so far."""
        return sum(row.kills for row in self.rows.values())

    def _straight(self) -> Straight:
        out, start = self.work / "straight", time.time()
        with (self.work / "log").open("wb") as log:
            command = [sys.executable, "-P", "-m", "charnn", *self._first(out)]
            code = subprocess.call(
                command, stdout=log, stderr=log, env=_environment(self.work), timeout=HANG
            )
        if code:
            sys.exit(f"the straight run failed:\n{self._log()}")
        times = [
            json.loads(line)["time"]
            for line in (out / METRICS).read_text(encoding="utf-8").splitlines()
        ]
        return Straight(files(out), times[0] - start, times[-1] - times[0])

    def _run_killed(self, straight: Straight, kills: int) -> None:
        """One run, from its beginning to its end, and its kills in the table."""
        self.runs += 1
        out, killed, problem = self.work / f"run-{self.runs}", list[Kill](), ""
        try:
            self._to_its_end(out, straight, kills, killed)
            compare(files(out), straight.files)
            shutil.rmtree(out)
        except (LostError, OSError, ValueError) as error:
            problem = str(error)
            self.failed += 1
            print(f"run {self.runs}, killed {len(killed)} times: {problem}", file=sys.stderr)
        for kill in killed:
            row = self.rows[kill.kind]
            row.resumed += kill.then == RESUMED
            row.again += kill.then == AGAIN
            row.identical += not problem
            row.lost += bool(problem)

    def _to_its_end(self, out: Path, straight: Straight, kills: int, killed: list[Kill]) -> None:
        """Children one after the other until one is left alone, or quicker than its blow."""
        code = -1
        while code != 0:
            self.attempts += 1
            if self.attempts > 5 * kills + 20:
                raise SystemExit(f"{self.attempts} children, {self.kills} kills: this never ends")
            then = state(out)
            blow = self._draw(straight) if self.kills < kills else None
            code, place = self._child(out, then, blow)
            if code not in (blow.endings if blow else (0,)):
                raise LostError(f"{then}, {blow}: exit status {code}\n{self._log()}")
            if killed and not killed[-1].then:
                killed[-1].then = then
            if blow and code == -signal.SIGKILL:
                self.rows[blow.kind].kills += 1
                killed.append(Kill(blow.kind))
                self.places.update([place] if place else [])
            elif code != 0:
                self.stops += 1

    def _child(self, out: Path, then: str, blow: Blow | None) -> tuple[int, str]:
        """The exit status of a child on which the blow fell, and before which call it did."""
        arguments = self._first(out) if then == AGAIN else self._resume(out)
        read, write = os.pipe()
        script, call = str(Path(__file__).with_name("torture_child.py")), blow.call if blow else 0
        command = [sys.executable, script, str(write), str(call), *arguments]
        with os.fdopen(read) as said, (self.work / "log").open("wb") as log:
            child = subprocess.Popen(
                command, stdout=log, stderr=log, pass_fds=[write], env=_environment(self.work)
            )
            os.close(write)
            try:
                place = strike(child, said, blow) if blow else ""
                return child.wait(), place
            finally:
                child.kill()
                child.wait()

    def _draw(self, straight: Straight) -> Blow:
        chance = self.chance
        kind = chance.choices(list(OFTEN), list(OFTEN.values()))[0]
        delay = chance.uniform(0, straight.starting if kind == START else straight.training / 2)
        call = 1 + int(CALLS * chance.random() ** 2)  # the first ones, made only once, more often
        number = chance.choice([signal.SIGINT, signal.SIGTERM]) if kind == STOP else signal.SIGKILL
        return Blow(kind, delay, call * (kind == WRITE), number, chance.uniform(0, HURRY))

    def _first(self, out: Path) -> list[str]:
        """The command line that begins the run."""
        text = self.work / "text.txt"
        if not text.exists():
            text.write_text(words(20_000), encoding="utf-8")
        deterministic = ["--deterministic"] * self.device.startswith("cuda")
        every = f"--steps {self.steps} --val-every 37 {SETTINGS}".split()
        return ["train", str(text), *every, *deterministic, *self._where(out)]

    def _resume(self, out: Path) -> list[str]:
        return ["train", "--resume", *self._where(out)]

    def _where(self, out: Path) -> list[str]:
        return [*SAVE_EVERY, "--device", self.device, "--out", str(out)]

    def _log(self) -> str:
        """What the last child had to say."""
        lines = (self.work / "log").read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(lines[-20:])


def strike(child: "subprocess.Popen[bytes]", said: IO[str], blow: Blow) -> str:
    """Let the blow fall on the child, if it lives so long; the call at which it had halted."""
    place = ""
    if blow.kind == WRITE:
        place = next((line for line in said if line.startswith(AT)), "")
    elif blow.kind != START:
        next((line for line in said if line.startswith(TRAINING)), "")
    if not blow.call:
        _wait(child, blow.delay)
    if blow.kind == STOPPING:
        child.send_signal(signal.SIGINT)
        _wait(child, blow.hurry)
    child.send_signal(blow.number)
    return place.removeprefix(AT).strip()


def _wait(child: "subprocess.Popen[bytes]", seconds: float) -> None:
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(seconds)


def state(folder: Path) -> str:
    """How the run in a folder can go on; `LostError` if it cannot."""
    if not folder.exists() or is_unstarted(folder):
        return AGAIN
    try:
        last, _ = load_or_previous(last_checkpoint(folder))
        if (folder / BEST).exists():
            checkpoint.load(folder / BEST)
    except CharnnError as error:
        raise LostError(str(error)) from error
    if last.progress is None:
        raise LostError(f"{folder}: nothing to go on from")
    return RESUMED


def files(folder: Path) -> dict[str, bytes]:
    """What a run folder must have in common with that of an equal run."""
    found = {name: (folder / name).read_bytes() for name in (BEST, LAST)}
    values = [json.loads(line) for line in (folder / METRICS).read_bytes().splitlines()]
    lines = [{k: v for k, v in line.items() if k != "time"} for line in values]
    names = {path.name for path in folder.iterdir()}
    return found | {
        METRICS: json.dumps(lines).encode(),
        "set of files": str(sorted(names)).encode(),
    }


def compare(met: dict[str, bytes], expected: dict[str, bytes]) -> None:
    """`LostError` unless the files are equal."""
    other = [name for name in expected if met[name] != expected[name]]
    if other:
        raise LostError(f"ended with another {', '.join(other)}")


def words(characters: int) -> str:
    """A text of invented words, in lines."""
    chance, text = random.Random(0), ""
    while len(text) < characters:
        text += "".join(chance.choices("aeinst", k=chance.randint(2, 6))) + chance.choice(" \n")
    return text[:characters]


def _environment(work: Path) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "CHARNN_CACHE": str(work / "cache")}


def in_all(rows: Iterable[Row]) -> Row:
    """The sum of the rows."""
    return Row(*(sum(column) for column in zip(*(vars(r).values() for r in rows), strict=True)))


def report(torture: Torture, total: Row) -> None:
    """Print the table, and what it does not say."""
    print("| killed | kills | resumed | begun again | byte-identical | lost |")
    print("|---|---|---|---|---|---|")
    for kind, row in (torture.rows | {"in all": total}).items():
        print(f"| {kind} | {row} |")
    places = ", ".join(f"{name} {count}" for name, count in sorted(torture.places.items()))
    print("\n" + textwrap.fill(f"inside a write, before: {places or 'nothing'}", 100))
    print(f"{torture.runs} runs, {torture.failed} of them ended otherwise than the straight one")
    print(f"{torture.stops} stops by SIGINT or SIGTERM, not counted above")


def main() -> None:
    """Parse the options, torture, and print the table; exit with 1 if anything was lost."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0, help="of kinds and instants")
    parser.add_argument("--steps", type=int, default=600, help="of a run")
    parser.add_argument("--device", default="cpu", help="cuda takes --deterministic along")
    parser.add_argument("--work", type=Path, help="an empty folder, where lost runs are kept")
    options = parser.parse_args()
    if options.work and options.work.exists() and any(options.work.iterdir()):
        parser.error(f"{options.work} is not empty")
    with contextlib.ExitStack() as stack:
        work = options.work or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        work.mkdir(parents=True, exist_ok=True)
        chance = random.Random(options.seed)
        torture = Torture(work.resolve(), options.device, options.steps, chance)
        torture.run(options.kills)
    total = in_all(torture.rows.values())
    report(torture, total)
    sys.exit(torture.failed > 0)


if __name__ == "__main__":
    main()
