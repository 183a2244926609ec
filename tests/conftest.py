"""Small real things that many tests use."""

import contextlib
import logging
import math
import os
import random
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result
from hypothesis import settings
from torch import Tensor

from charnn import api, checkpoint
from charnn.checkpoint import Checkpoint
from charnn.cli.main import main
from charnn.runs.run import Run
from charnn.training import loop
from charnn.training.state import TrainState
from charnn.training.update import StepStats, Update

# A busy machine makes any test slow, and the same cases every time make a failure one of the code.
settings.register_profile("charnn", deadline=None, derandomize=True)
settings.load_profile("charnn")
# A shell that starts the tests in the background, or under nohup, has these signals ignored.
for _number in (signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(
            _number, signal.default_int_handler if _number == signal.SIGINT else signal.SIG_DFL
        )
# Tiny products: a second thread only makes them wait, here and in the processes that tests start.
torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"
ENVIRONMENT = dict(os.environ)


def words(characters: int, seed: int = 0) -> str:
    """A text of invented words, in lines."""
    chance = random.Random(seed)
    text = ""
    while len(text) < characters:
        text += "".join(chance.choices("aeinst", k=chance.randint(2, 6))) + chance.choice(" \n")
    return text[:characters]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests neither see nor change the user's cache."""
    monkeypatch.setenv("CHARNN_CACHE", str(tmp_path_factory.mktemp("cache")))


def charnn(*arguments: str | Path, stdin: str | bytes | None = None) -> Result:
    """Run the command line in this process."""
    return CliRunner().invoke(main, [str(a) for a in arguments], input=stdin)


def process(*arguments: str | Path, **options: object) -> subprocess.Popen[str]:
    """The command in a process of its own."""
    command = [sys.executable, "-m", "charnn", *map(str, arguments)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, **pipes, env=ENVIRONMENT, **options)  # type: ignore[call-overload]


@pytest.fixture(scope="session")
def text_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """2,000 characters of invented words."""
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
    """A run of four steps; to be read, not to be changed."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    result = charnn("train", text_file, "--steps", "4", *TINY, "--out", folder, "--quiet")
    assert result.exit_code == 0, result.stderr
    return folder


@contextlib.contextmanager
def exploding(when: Callable[[TrainState, float], bool], loss: float = math.inf) -> Iterator[None]:
    """Within the block, let updates for which `when(state, learning rate)` holds change nothing and
    have this loss."""
    update = Update.__call__

    def watched(self: Update, inputs: Tensor, targets: Tensor, rate: float) -> StepStats:
        if when(self._state, rate):
            return StepStats(torch.tensor(loss), torch.tensor(1.0), None)
        return update(self, inputs, targets, rate)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Update, "__call__", watched)
        yield


@contextlib.contextmanager
def several_steps_per_sync() -> Iterator[None]:
    """Within the block, make several steps per synchronization as on CUDA, but without a graph."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "can_capture", lambda _: True)
        patch.setattr(loop, "GraphedUpdate", lambda state, config, _: Update(state, config))
        yield


def stopped_run(folder: Path, text: Path, step: int, **settings: Any) -> None:
    """Train as `charnn.train` does, but be interrupted after so many steps."""
    reports = Run.reports

    def some(run: Run) -> Iterator[Any]:
        for report in reports(run):
            yield report
            run.stopping = run.state.step == step

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "reports", some)
        api.train(text, out=folder, **settings)


@contextlib.contextmanager
def warned(match: str) -> Iterator[None]:
    """Within the block charnn logs a warning that matches."""
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
    """The best checkpoint of that run."""
    return checkpoint.load(run_folder / "best.safetensors")
