"""Any file, however damaged or malicious, gives a working model or an error of one line."""

import contextlib
import json
import re
import resource
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from charnn import checkpoint
from charnn.checkpoint import Checkpoint
from charnn.config import ModelConfig, SampleConfig, TextConfig, TrainConfig, ValidationConfig
from charnn.errors import CharnnError
from charnn.model.weights import Weights
from charnn.runs.context import RunContext
from charnn.runs.info import RunInfo, write_run_info
from charnn.runs.resume import ResumeRequest, resume_run
from charnn.runs.run import Run
from charnn.sampling.sampler import Sampler
from charnn.text.corpus import open_corpus
from charnn.training.loop import SNAPSHOT_EVERY, train_steps
from charnn.training.plan import Plan
from charnn.training.reports import StepReport
from tests.attack.hostile import ATTACKS, Hostile, with_fields, with_tensors
from tests.conftest import words

CPU = torch.device("cpu")
STOP = SNAPSHOT_EVERY + 1  # so that `last` contains a snapshot besides the current state
TRAIN = TrainConfig(STOP + 9, 2, 4, learning_rate=0.01, seed=4)
TEXTS = {
    "char": TextConfig(), "byte": TextConfig(tokenizer="byte"), "lines": TextConfig(lines=True),
}  # fmt: skip
OPTIMIZERS = {"char": "muon", "byte": "adamw", "lines": "adamw"}
VALIDATION = ValidationConfig(val_every=50)


@dataclass(frozen=True)
class Victim:
    """A real checkpoint: its name, its bytes, and the checkpoint that was loaded from them."""

    name: str
    data: bytes
    loaded: Checkpoint


def made(folder: Path, kind: str) -> list[Victim]:
    """Train in a new folder and stop there, so that it can be resumed; return its checkpoints."""
    text = folder.with_suffix(".txt")
    text.write_text(words(400) + "é→\n")
    config = TEXTS[kind]
    corpus = open_corpus([str(text)], config)
    model = ModelConfig(corpus.tokenizer.vocabulary_size, 4, 2, 3)
    folder.mkdir()
    train = replace(TRAIN, optimizer=OPTIMIZERS[kind])
    run = Run.start(RunContext(folder, corpus, config, CPU), Plan(model, train, VALIDATION, ""))
    write_run_info(folder, RunInfo("a test", {}, VALIDATION, CPU), corpus)
    for report in run.reports():
        if isinstance(report, StepReport) and report.step == STOP:
            break
    run.save()
    paths = [folder / f"{name}.safetensors" for name in ("best", "last")]
    return [Victim(path.stem, path.read_bytes(), checkpoint.load(path)) for path in paths]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, list[Victim]]:
    """Run folders and the checkpoints that training left there."""
    there = tmp_path_factory.mktemp("hostile")
    return {there / kind: made(there / kind, kind) for kind in TEXTS}


def equal(a: Checkpoint, b: Checkpoint) -> bool:
    plain = ("model", "text", "train", "corpus", "figures", "progress")
    tensors = [(getattr(a, n), getattr(b, n)) for n in ("weights", "training_tensors")]
    return (
        all(getattr(a, name) == getattr(b, name) for name in plain)
        and a.tokenizer.to_json() == b.tokenizer.to_json()
        and all(x.keys() == y.keys() for x, y in tensors)
        and all(np.array_equal(x[name], y[name]) for x, y in tensors for name in x)
    )


@contextlib.contextmanager
def refused_in_one_line(met: Counter[str], what: str) -> Iterator[None]:
    """Count how the block ends: normally, or by a `CharnnError` of one short line, but no other."""
    try:
        yield
    except CharnnError as error:
        line = str(error)
        assert line.isprintable(), f"{line!r} is not one printable line"
        assert len(line) < 1000, f"{line[:200]!r}… is {len(line)} characters long"
        met[f"{what}: refused"] += 1
    else:
        met[f"{what}: worked"] += 1


def use(loaded: Checkpoint) -> None:
    """Sample from a model."""
    writer = Sampler(
        Weights(loaded.model, loaded.weights), loaded.tokenizer, records=loaded.text.lines
    )
    text = "".join(writer.stream(SampleConfig(length=4, seed=1)))
    text.encode()  # it can be written to a file
    if loaded.known is not None:
        loaded.known.has(loaded.tokenizer.codes_of(text))


def go_on(folder: Path) -> None:
    """Resume a run: make a step, roll back to the snapshot, make another step, and save."""
    with resume_run(ResumeRequest(folder), CPU) as run:
        for report in run.reports():
            if isinstance(report, StepReport):
                break
        run.state.roll_back()
        next(train_steps(run.state, run.batches, run.train), None)
        run.save()
    checkpoint.load(folder / "last.safetensors")


def meet(case: Hostile, victim: Victim, attack: str, folder: Path, met: Counter[str]) -> None:
    """Load a hostile file, and use the model and the run in it."""
    path = folder / f"{victim.name}.safetensors"
    path.write_bytes(case.data)
    for other in ("metrics.jsonl", "last.previous.safetensors"):
        (folder / other).unlink(missing_ok=True)
    loaded = None
    with refused_in_one_line(met, "load"):
        loaded = checkpoint.load(path)
    with refused_in_one_line(Counter(), "load without weights"):
        checkpoint.load(path, weights=False)
    if loaded is None:
        return
    if attack == "bytes":
        assert equal(loaded, victim.loaded)
    use(loaded)
    if victim.name == "last":
        with refused_in_one_line(met, "resume"):
            go_on(folder)


@settings(max_examples=1)
@given(st.text())
def ready_hypothesis(_: str) -> None:
    """Let hypothesis make its table of all characters, which takes 200 MB, before measuring."""


@contextlib.contextmanager
def bounded_memory(megabytes: int) -> Iterator[list[float]]:
    """Limit the growth of the peak resident memory within the block; yield it, in MB."""
    ready_hypothesis()
    with contextlib.suppress(OSError):  # reset the peak on Linux
        Path("/proc/self/clear_refs").write_text("5")
    unit = 1e6 if sys.platform == "darwin" else 1e3
    before, grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, [0.0]
    yield grown
    grown[0] = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / unit
    assert grown[0] < megabytes


@pytest.mark.parametrize("tries", [72, pytest.param(6000, marks=pytest.mark.slow)])
def test_a_hostile_file_is_a_working_model_or_refused_in_one_line(
    folders: dict[Path, list[Victim]], tries: int
) -> None:
    met: Counter[str] = Counter()
    each, start = tries // (len(ATTACKS) * sum(map(len, folders.values()))), monotonic()
    with bounded_memory(200) as grown:
        for folder, victims in folders.items():
            for victim in victims:
                for attack, strategy in ATTACKS.items():

                    @settings(max_examples=each, suppress_health_check=list(HealthCheck))
                    @given(strategy(victim.data))
                    def meet_each(case: Hostile) -> None:
                        meet(case, victim, attack, folder, met)  # noqa: B023 - called at once

                    meet_each()
    cases = met["load: worked"] + met["load: refused"]
    figures = f"{cases:,} cases, {dict(met)}, {monotonic() - start:.0f} s, {grown[0]:.0f} MB more"
    print(f"\n{figures}")  # noqa: T201 - `pytest -s` shows it, for BENCHMARKS.md
    assert cases >= 23 * each  # 6 checkpoints x 4 attacks; hypothesis may exhaust one early
    assert len(met) == 4  # loading and resuming each worked and were refused


FAR = 2**62
HARD = [
    {"progress": {"window": FAR}},
    {"progress": {"snapshot_window": FAR}},
    {"progress": {"snapshot_window": 10_000}},
    {"progress": {"epoch": 2**63 - 1, "snapshot_epoch": 2**63 - 1}},
    {"progress": {"step": 2**63 - 1, "rollbacks": 1000}},
    {"progress": {"snapshot_step": STOP + 1}},
    {"train": {"beta2": 0, "clip": 1, "warmup": 1, "final_rate": 0}},
    {"train": {"learning_rate": 1e308, "weight_decay": 10**308}},
    {"train": {"learning_rate": 5e-324, "clip": 1e-320, "deterministic": True}},
    {"train": {"steps": 10**12, "batch_size": 10**6}},
    {"train": {"steps": 1, "seq_len": 10**9}},
    {"train": {"seq_len": 1, "seed": 2**63 - 1}},
    {"text": {"encoding": "x" * 100_000}},
    {"text": {"encoding": "\x1b[2J\n", "min_count": 10**30}},
    {"text": {"tokenizer": "char"}, "tokenizer": {"kind": "byte"}},
    {"text": {"tokenizer": "byte"}},
    {"tokenizer": {"characters": "\n abcdefg\ud800"}},
    {"model": {"hidden_size": 65_536, "num_layers": 64}},
    {"model": {"vocabulary_size": 1_114_113}},
    {"corpus": {"sha256": "\x1b[2J\n"}},
    {"corpus": {"records": 1}},
    {"corpus": {"records": 2**62}},
    {"corpus": {"records": None}},
    {"text": {"lines": False}},
    {"text": {"lines": True}},
    {"text": {"lines": True}, "corpus": {"records": 30}},
]


@pytest.mark.parametrize("changes", HARD, ids=lambda changes: json.dumps(changes)[:60])
def test_single_absurd_values_are_refused_or_harmless(
    folders: dict[Path, list[Victim]], changes: dict[str, dict[str, object]]
) -> None:
    for folder, (_, last) in folders.items():
        case = Hostile(str(changes), with_fields(last.data, changes))
        meet(case, last, "metadata", folder, Counter())


@pytest.mark.medium
def test_training_state_of_another_type_is_refused(folders: dict[Path, list[Victim]]) -> None:
    folder, (_, last) = next(iter(folders.items()))
    tensors, met = safetensors.torch.load(last.data), Counter[str]()
    state = [n for n in tensors if n.startswith("training.") and "layers" not in n]
    for name in state:
        other = torch.float32 if tensors[name].dtype == torch.uint8 else torch.uint8
        data = with_tensors(last.data, tensors | {name: tensors[name].to(other)})
        meet(Hostile(name, data), last, "tensors", folder, met)
    assert met == {"load: worked": len(state), "resume: refused": len(state)}


LISTEN = """
import sys
from pathlib import Path
from charnn import checkpoint
from charnn.config import SampleConfig
from charnn.model.weights import Weights
from charnn.sampling.sampler import Sampler

def use(path):
    loaded = checkpoint.load(path)
    sampler = Sampler(Weights(loaded.model, loaded.weights), loaded.tokenizer)
    return "".join(sampler.stream(SampleConfig(length=9, seed=1)))

def listen(event, arguments):
    if listening and event.startswith(("open", "os.", "socket.", "subprocess.", "import", "exec")):
        heard.add(f"{event} {arguments[0]}")

use(Path(sys.argv[1]))  # so that late imports are over
heard, listening = set(), []
sys.addaudithook(listen)
listening.append(True)
use(Path(sys.argv[2]))
listening.clear()
print(*heard, sep="\\n")
"""


@pytest.mark.medium
def test_nothing_but_the_file_itself_is_opened_or_run(
    folders: dict[Path, list[Victim]], tmp_path: Path
) -> None:
    _, (best, _) = next(iter(folders.items()))
    changes = {"text": {"encoding": "../../../../etc/passwd"}}
    hostile = with_fields(best.data, changes, version="file:///etc/passwd")
    paths = [tmp_path / "good", tmp_path / "hostile"]
    for path, data in zip(paths, (best.data, hostile), strict=True):
        path.write_bytes(data)
    command = [sys.executable, "-c", LISTEN, *map(str, paths)]
    heard = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    opened = [line for line in heard.stdout.splitlines() if not re.fullmatch(r"open \d+", line)]
    assert opened == [f"open {paths[1]}"]  # and its descriptor
