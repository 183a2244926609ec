"""Fixtures and helpers shared by many tests."""

import atexit
import contextlib
import logging
import math
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result
from hypothesis import settings
from hypothesis.database import DirectoryBasedExampleDatabase
from torch import Tensor

from charnn import api, checkpoint
from charnn.checkpoint import Checkpoint
from charnn.cli.main import main
from charnn.runs.run import Run
from charnn.training import loop
from charnn.training.state import TrainState
from charnn.training.update import StepStats, Update

# No deadline, because a busy machine makes any test slow; the same cases in every run, so that a
# failure is caused by the code. scripts/fuzz.py names a folder of inputs that have failed; they are
# tried first, and then new ones.
FUZZING = os.environ.get("CHARNN_FUZZ_CORPUS", "")
settings.register_profile("charnn", deadline=None, derandomize=True)
settings.register_profile(
    "fuzz",
    deadline=None,
    database=DirectoryBasedExampleDatabase(FUZZING) if FUZZING else None,
    print_blob=True,
)
settings.load_profile("fuzz" if FUZZING else "charnn")
# A shell that starts the tests in the background or under nohup makes them ignore these signals.
for _number in (signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(
            _number, signal.default_int_handler if _number == signal.SIGINT else signal.SIG_DFL
        )
# The matrix products are so small that a second thread only slows them down, here and in the
# processes that tests start.
torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"
# The key that signs the runs of the tests, rather than the user's.
os.environ["XDG_STATE_HOME"] = tempfile.mkdtemp(prefix="charnn-tests-")
atexit.register(shutil.rmtree, os.environ["XDG_STATE_HOME"], ignore_errors=True)
ENVIRONMENT = dict(os.environ)


def words(characters: int, seed: int = 0) -> str:
    """Return a text of invented words, in lines."""
    rng = random.Random(seed)
    text = ""
    while len(text) < characters:
        text += "".join(rng.choices("aeinst", k=rng.randint(2, 6))) + rng.choice(" \n")
    return text[:characters]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give each test a cache folder of its own instead of the user's."""
    monkeypatch.setenv("CHARNN_CACHE", str(tmp_path_factory.mktemp("cache")))


def charnn(*arguments: str | Path, stdin: str | bytes | None = None) -> Result:
    """Run the command line in this process."""
    return CliRunner().invoke(main, [str(a) for a in arguments], input=stdin)


_started: list[subprocess.Popen[str]] = []


@pytest.fixture(autouse=True)
def _no_process_outlives_its_test() -> Iterator[None]:
    """Kill what a failed test has left running."""
    yield
    for one in _started:
        if one.poll() is None:
            one.kill()
            one.communicate()
    _started.clear()


def process(*arguments: str | Path, **options: object) -> subprocess.Popen[str]:
    """Start the command line in a new process."""
    command = [sys.executable, "-m", "charnn", *map(str, arguments)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    started = subprocess.Popen(command, **pipes, env=ENVIRONMENT, **options)  # type: ignore[call-overload]
    _started.append(started)
    return started


@pytest.fixture(scope="session")
def text_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Path of a text of 2,000 characters of invented words."""
    path = tmp_path_factory.mktemp("text") / "words.txt"
    path.write_text(words(2000))
    return path


TINY = [
    "--hidden-size",
    "6",
    "--num-layers",
    "1",
    "--embedding-size",
    "5",
    "--batch-size",
    "3",
    "--seq-len",
    "8",
    "--seed",
    "1",
]


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory, text_file: Path) -> Path:
    """Folder of a run of four steps, shared by all tests; do not change it."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    result = charnn("train", text_file, "--steps", "4", *TINY, "--out", folder, "--quiet")
    assert result.exit_code == 0, result.stderr
    return folder


@contextlib.contextmanager
def exploding(when: Callable[[TrainState, float], bool], loss: float = math.inf) -> Iterator[None]:
    """Within the block, let updates return `loss` and do nothing if `when(state, rate)` is true."""
    update = Update.__call__

    def patched(self: Update, inputs: Tensor, targets: Tensor, rate: float) -> StepStats:
        if when(self._state, rate):
            return StepStats(torch.tensor(loss), torch.tensor(1.0), None)
        return update(self, inputs, targets, rate)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Update, "__call__", patched)
        yield


@contextlib.contextmanager
def several_steps_per_sync() -> Iterator[None]:
    """Within the block, run several steps per synchronization as on CUDA, but without a graph."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "can_capture", lambda _: True)
        patch.setattr(loop, "GraphedUpdate", lambda state, config, _: Update(state, config))
        yield


def stopped_run(folder: Path, text: Path, step: int, **settings: Any) -> None:
    """Train with `charnn.train`, and stop the run after `step` steps."""
    reports = Run.reports

    def stopping_reports(run: Run) -> Iterator[Any]:
        for report in reports(run):
            yield report
            run.stopping = run.state.step == step

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "reports", stopping_reports)
        api.train(text, out=folder, **settings)


@contextlib.contextmanager
def warned(match: str) -> Iterator[None]:
    """Assert that charnn logs a warning that matches within the block."""
    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = records.append  # type: ignore[method-assign, assignment]
    logger = logging.getLogger("charnn")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
    messages = [record.getMessage() for record in records if record.levelno == logging.WARNING]
    assert any(re.search(match, message) for message in messages), messages


@pytest.fixture
def trained(run_folder: Path) -> Checkpoint:
    """Best checkpoint of `run_folder`."""
    return checkpoint.load(run_folder / "best.safetensors")
