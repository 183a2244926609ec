"""Does a run that loses power at any moment end with the same files as an undisturbed one?

Trains a tiny model in this process and records each operation on its files: made, written, cut,
linked, renamed, removed and synced. From the first of these operations it builds what a disk may
hold after a power cut: whatever was not synced is there, missing, in part or filled with zeros, and
the changes of a folder are kept or lost in order or each by itself (after ALICE, Pillai et al.,
OSDI 2014). The run continues from there, with `resume` or, if nothing had been saved, with its
first command, and half of the runs lose power again. At its end it must have the bytes of the
undisturbed run, and never may a completed save be lost. Some runs are made longer meanwhile.

    python scripts/power_cuts.py --cuts 200
"""

import argparse
import copy
import io
import itertools
import os
import random
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from faults import LONGER, SETTINGS, STEPS, quiet
from torture import RESUMED, STARTED_OVER, LostError, compare, files, next_step, words

import charnn
from charnn.runs.folder import last_checkpoint
from charnn.runs.opening import load_or_previous
from charnn.runs.saver import Saver

RUN = Path("made/for/run")  # the run folder; its parents do not exist before
BLOCK = 512  # bytes that a disk writes as a whole
ROOT = 0


@dataclass
class Tree:
    """The content of a disk: folders map names to numbers of folders and files."""

    folders: dict[int, dict[str, int]] = field(default_factory=lambda: {ROOT: {}})
    files: dict[int, bytes] = field(default_factory=dict)

    def paths(self, number: int = ROOT, at: Path = Path()) -> dict[Path, bytes | None]:
        """Return the content of each path below a folder; None for folders."""
        found: dict[Path, bytes | None] = {}
        for name, inner in self.folders[number].items():
            found[at / name] = self.files.get(inner)
            if inner in self.folders:
                found |= self.paths(inner, at / name)
        return found

    def write_to(self, root: Path) -> None:
        """Make real folders and files."""
        for path, content in self.paths().items():
            if content is None:
                (root / path).mkdir()
            else:
                (root / path).write_bytes(content)


@dataclass(frozen=True)
class Operation:
    """A change of a file or folder, or the sync that makes the changes before it lasting."""

    what: str
    number: int  # of the file or folder that it changes
    name: str = ""  # of the entry in the folder
    entry: int = 0  # the number that the name gets
    position: int = 0
    data: bytes = b""

    def apply(self, tree: Tree) -> None:
        """Change the tree."""
        if self.what == "write":
            old = tree.files[self.number].ljust(self.position, b"\0")
            end = self.position + len(self.data)
            tree.files[self.number] = old[: self.position] + self.data + old[end:]
        elif self.what == "cut":
            tree.files[self.number] = tree.files[self.number][: self.position]
        elif self.what == "link":
            tree.folders[self.number][self.name] = self.entry
        elif self.what == "unlink":
            tree.folders[self.number].pop(self.name, None)
        elif self.what == "rename":  # at once: the old name is in `data`
            tree.folders[self.number].pop(self.data.decode(), None)
            tree.folders[self.number][self.name] = self.entry

    def in_part(self, rng: random.Random) -> "Operation":
        """Return what may remain of a write: some blocks of it, or zeros."""
        blocks = rng.randint(0, len(self.data) // BLOCK)
        part, zeros = self.data[: blocks * BLOCK], bytes(len(self.data))
        data = rng.choice([part, part + zeros[len(part) :], zeros])
        return Operation("write", self.number, position=self.position, data=data)


class Recorder:
    """Context that records the operations on all files below a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.tree = Tree()
        self.operations: list[Operation] = []
        self._numbers = itertools.count(1)
        self._handles: dict[int, int] = {}
        self._plain: list[tuple[Any, str, Any]] = []
        self._scan(root, ROOT)
        self.start = copy.deepcopy(self.tree)

    def _scan(self, folder: Path, number: int) -> None:
        for path in folder.iterdir():
            inner = self.tree.folders[number][path.name] = next(self._numbers)
            if path.is_dir():
                self.tree.folders[inner] = {}
                self._scan(path, inner)
            else:
                self.tree.files[inner] = path.read_bytes()

    def __enter__(self) -> "Recorder":
        for name in ("open", "close", "mkdir", "rmdir", "unlink", "link", "replace", "fsync"):
            self._patch(os, name, getattr(self, f"_{name}"))
        for name in ("write", "pwrite", "ftruncate"):
            self._patch(os, name, self._then_observe)
        self._patch(io, "open", self._open_file)
        self._patch(Saver, "save_last", self._save_last)
        return self

    def __exit__(self, *_: object) -> None:
        for where, name, call in self._plain:
            setattr(where, name, call)
        self._check()

    def _patch(self, where: Any, name: str, call: Callable[..., Any]) -> None:
        plain = getattr(where, name)
        self._plain.append((where, name, plain))
        # A method of a class gets the object that it is called on.
        setattr(where, name, lambda *arguments, **named: call(plain, *arguments, **named))

    def _check(self) -> None:
        """Check that no change went round the recorder."""
        found = {p.relative_to(self.root): p for p in self.root.rglob("*")}
        real = {name: None if p.is_dir() else p.read_bytes() for name, p in found.items()}
        expected = self.tree.paths()
        different = [n for n in {*real, *expected} if real.get(n, 0) != expected.get(n, 0)]
        if different:
            raise AssertionError(f"not recorded: changes of {', '.join(map(str, different))}")

    def _record(self, operation: Operation) -> None:
        operation.apply(self.tree)
        self.operations.append(operation)

    def _find(self, path: Any) -> int | None:
        """Return the number of a path; None if it is not there or not below the root."""
        number: int | None = ROOT
        if not Path(path).is_relative_to(self.root):
            return None
        for name in Path(path).relative_to(self.root).parts:
            number = None if number is None else self.tree.folders.get(number, {}).get(name)
        return number

    def _folder(self, path: Any) -> int:
        number = self._find(Path(path).parent)
        assert number is not None, path
        return number

    def _ours(self, path: Any) -> bool:
        return isinstance(path, str | Path) and Path(path).is_relative_to(self.root)

    def _opened(self, path: Any, handle: int) -> None:
        if self._find(path) is None:
            number = next(self._numbers)
            self.tree.files[number] = b""
            self._record(Operation("link", self._folder(path), Path(path).name, number))
        number_now = self._find(path)
        assert number_now is not None
        self._handles[handle] = number_now
        self.observe(handle)

    def observe(self, handle: int) -> None:
        """Record how the content of an open file has changed."""
        if (number := self._handles.get(handle)) is None:
            return
        names = [p for p, _ in self.tree.paths().items() if self._find(self.root / p) == number]
        if number not in self.tree.files or not names:
            return
        with self._plain_open(self.root / names[0], "rb") as file:
            new, old = file.read(), self.tree.files[number]
        if new == old:
            return
        pairs = enumerate(zip(old, new, strict=False))
        same = next((index for index, (a, b) in pairs if a != b), min(len(old), len(new)))
        if len(new) < len(old):
            self._record(Operation("cut", number, position=len(new)))
        if new[same:]:
            self._record(Operation("write", number, position=same, data=new[same:]))

    @property
    def _plain_open(self) -> Any:
        return next(call for where, name, call in self._plain if (where, name) == (io, "open"))

    # The calls, each with the plain one first.

    def _open(self, plain: Any, path: Any, *more: Any, **named: Any) -> int:
        handle: int = plain(path, *more, **named)
        if self._ours(path):
            self._opened(path, handle)
        return handle

    def _open_file(self, plain: Any, place: Any, *more: Any, **named: Any) -> Any:
        file = plain(place, *more, **named)
        if self._ours(place):
            self._opened(place, file.fileno())
        ours = file.fileno() in self._handles
        return RecordedFile(file, self) if ours else file

    def _close(self, plain: Any, handle: int) -> None:
        self.observe(handle)
        self.closed(handle)
        plain(handle)

    def closed(self, handle: int) -> None:
        """Forget a descriptor, which may soon stand for another file."""
        self._handles.pop(handle, None)

    def _then_observe(self, plain: Any, handle: int, *more: Any) -> Any:
        result = plain(handle, *more)
        self.observe(handle)
        return result

    def _fsync(self, plain: Any, handle: int) -> None:
        self.observe(handle)
        if handle in self._handles:  # the real disk need not be synced
            self._record(Operation("sync", self._handles[handle]))
        else:
            plain(handle)

    def _mkdir(self, plain: Any, path: Any, *more: Any, **named: Any) -> None:
        plain(path, *more, **named)
        if self._ours(path):
            number = next(self._numbers)
            self.tree.folders[number] = {}
            self._record(Operation("link", self._folder(path), Path(path).name, number))

    def _unlink(self, plain: Any, path: Any, *more: Any, **named: Any) -> None:
        plain(path, *more, **named)
        if self._ours(path):
            self._record(Operation("unlink", self._folder(path), Path(path).name))

    _rmdir = _unlink

    def _link(self, plain: Any, source: Any, target: Any, **named: Any) -> None:
        number = self._find(source)
        plain(source, target, **named)
        if number is not None:
            self._record(Operation("link", self._folder(target), Path(target).name, number))

    def _replace(self, plain: Any, source: Any, target: Any) -> None:
        number = self._find(source)
        plain(source, target)
        if number is not None and number != self._find(target):
            assert Path(source).parent == Path(target).parent
            name, old = Path(target).name, Path(source).name.encode()
            self._record(Operation("rename", self._folder(target), name, number, data=old))

    def _save_last(self, plain: Any, saver: Any, last: Any) -> None:
        plain(saver, last)
        self._record(Operation("saved", -1, position=last.figures.step))


class RecordedFile:
    """An open file whose changes are recorded."""

    def __init__(self, file: Any, recorder: Recorder) -> None:
        self._file, self._recorder = file, recorder

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._file, name)
        if name not in ("write", "flush", "truncate"):
            return value

        def observed(*arguments: Any) -> Any:
            result = value(*arguments)
            self._recorder.observe(self._file.fileno())
            return result

        return observed

    def close(self) -> None:
        """Close the file."""
        if not self._file.closed:
            self._file.flush()
            self._recorder.observe(self._file.fileno())
            self._recorder.closed(self._file.fileno())
            self._file.close()

    def __enter__(self) -> "RecordedFile":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def after_a_cut(recorder: Recorder, moment: int, rng: random.Random) -> Tree:
    """Return what the disk may hold if power fails after so many of the recorded operations."""
    start, everything = recorder.start, recorder.tree
    tree = Tree(
        {number: dict(start.folders.get(number, {})) for number in everything.folders},
        {number: start.files.get(number, b"") for number in everything.files},
    )
    kept, in_order, ended = rng.choice([0.0, 0.2, 0.5, 0.8, 1.0]), rng.random() < 0.3, set[int]()
    operations = recorder.operations[:moment]
    last_sync = {o.number: index for index, o in enumerate(operations) if o.what == "sync"}
    for index, operation in enumerate(operations):
        number = operation.number
        synced = index < last_sync.get(number, -1)
        if synced or (number not in ended and rng.random() < kept):
            operation.apply(tree)
        elif operation.what == "write" and rng.random() < 0.5:
            operation.in_part(rng).apply(tree)
        elif in_order:
            ended.add(number)
    return tree


def draw_moment(operations: list[Operation], rng: random.Random) -> int:
    """Return a number of operations, often one before the first completed save."""
    whats = [operation.what for operation in operations]
    first = whats.index("saved") if "saved" in whats else len(whats)
    return rng.randint(0, rng.choice([first, len(whats), len(whats)]))


def saved_step(operations: list[Operation]) -> int:
    """Return the step of the newest completed save; -1 if there is none."""
    return max((o.position for o in operations if o.what == "saved"), default=-1)


@dataclass
class Row:
    """A row of the table: the outcomes of power cuts at one time."""

    cuts: int = 0
    resumed: int = 0
    started_over: int = 0
    identical: int = 0
    lost: int = 0

    def __str__(self) -> str:
        return " | ".join(str(value) for value in vars(self).values())


STARTING, TRAINING = "before the first save", "while training and saving"
RESUMING, LENGTHENING = "after a power cut before", "while made longer"


class Trials:
    """Cuts the power of runs in the folder `work`, and counts the outcomes."""

    def __init__(self, work: Path) -> None:
        self.work = work
        self.text = work / "text.txt"
        self.text.write_text(words(400), encoding="utf-8")
        self.rows = {name: Row() for name in (STARTING, TRAINING, RESUMING, LENGTHENING)}
        first = self._disk("reference")
        self.short = self.record(first, STEPS)
        self.expected = {STEPS: files(first / RUN)}
        self.long = self.record(first, LONGER)
        self.expected[LONGER] = files(first / RUN)

    def _disk(self, name: str, tree: Tree | None = None) -> Path:
        root = self.work / name
        root.mkdir()
        (tree or Tree()).write_to(root)
        return root

    def train(self, root: Path, steps: int) -> str:
        """Start the run, or resume it, and train to its end; return which of these was done."""
        out = root / RUN
        common: dict[str, Any] = {"save_every": 0, "device": "cpu"}
        done = next_step(out)
        if done == RESUMED:
            charnn.resume(out, steps=steps if steps == LONGER else None, **common)
        else:
            charnn.train(self.text, out=out, steps=steps, **common, **SETTINGS)
        return done

    def record(self, root: Path, steps: int) -> Recorder:
        """Train as `train` does, and return the operations."""
        with Recorder(root) as recorder:
            self.train(root, steps)
        return recorder

    def cut(self, seed: int) -> str:
        """Cut the power of a run once or twice; return what went wrong, or ''."""
        rng, met, problem = random.Random(seed), list[tuple[str, str]](), ""
        steps = rng.choice([STEPS, STEPS, STEPS, LONGER])
        recorder, place = self.long if steps == LONGER else self.short, ""
        saved = STEPS if steps == LONGER else -1
        try:
            for number in range(rng.randint(1, 2)):
                moment = draw_moment(recorder.operations, rng)
                saved = max(saved, saved_step(recorder.operations[:moment]))
                place = LENGTHENING if steps == LONGER else TRAINING if saved >= 0 else STARTING
                met.append((RESUMING if number else place, ""))
                root = self._disk(f"{seed}-{number}", after_a_cut(recorder, moment, rng))
                done = self.check(root / RUN, saved)
                met[-1] = (met[-1][0], done)
                recorder = self.record(root, steps)
            compare(files_without_damaged(root / RUN), self.expected[steps])
        except Exception as error:  # whatever it is, it belongs in the table
            problem = f"{type(error).__name__}: {error}"
        else:
            for number in range(len(met)):
                shutil.rmtree(self.work / f"{seed}-{number}")
        for name, done in met:
            row = self.rows[name]
            row.cuts += 1
            row.resumed += done == RESUMED
            row.started_over += done == STARTED_OVER
            row.identical += not problem
            row.lost += bool(problem)
        return problem

    def check(self, out: Path, saved: int) -> str:
        """Return how the run continues; raise `LostError` if a completed save is lost."""
        done = next_step(out)
        step = -1
        if done == RESUMED:
            step = load_or_previous(last_checkpoint(out))[0].figures.step
        if step < saved:
            raise LostError(f"saved at step {saved}, but found one of step {step}")
        return done


def files_without_damaged(out: Path) -> dict[str, bytes]:
    """Return the files of a finished run but those that were damaged and set aside."""
    for path in out.glob("*.damaged*"):
        path.unlink()
    return files(out)


def print_table(rows: dict[str, Row]) -> None:
    """Print the table."""
    print("| power lost | cuts | resumed | started over | byte-identical | lost |")
    print("|---|---|---|---|---|---|")
    total = Row(*map(sum, zip(*(vars(row).values() for row in rows.values()), strict=True)))
    for name, row in [*rows.items(), ("in all", total)]:
        print(f"| {name} | {row} |")


def main() -> None:
    """Parse the options, cut the power, and print the table; exit with 1 if a run was lost."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cuts", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0, help="of the first run; each has the next")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work, quiet():
        trials, seed = Trials(Path(work)), options.seed
        while sum(row.cuts for row in trials.rows.values()) < options.cuts:
            if problem := trials.cut(seed):
                print(f"seed {seed}: {problem}", file=sys.stderr)
            seed += 1
    print_table(trials.rows)
    sys.exit(any(row.lost for row in trials.rows.values()))


if __name__ == "__main__":
    main()
