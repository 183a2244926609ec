"""Every advice in a message works when it is followed, and none is without a test."""

import os
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

import charnn as library
from charnn.errors import CharnnError
from charnn.language_model import LanguageModel
from charnn.sampling.record_filter import RecordFilter
from tests.attack.advice import PACKAGE, SMALL, TEXT, Row, Step, advice_in_source, follow
from tests.attack.advice_tables import TABLES, unsigned
from tests.conftest import charnn, words


@pytest.fixture(scope="session")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with texts, and runs of characters, of bytes and of records."""
    desk = tmp_path_factory.mktemp("advice")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(desk)
        Path("text.txt").write_text(TEXT)
        Path("other.txt").write_text(words(600, seed=1))
        for name, more in (("run", ""), ("bytes", "--tokenizer byte"), ("records", "--lines")):
            line = f"train text.txt {SMALL} {more} --out {name} --quiet"
            result = charnn(*shlex.split(line))
            assert result.exit_code == 0, result.stderr
    return desk


@pytest.fixture
def here(desk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, a copy of the desk, and an environment that a test may change."""
    folder = tmp_path / "desk"
    shutil.copytree(desk, folder, symlinks=True)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(os, "environ", os.environ.copy())
    return folder


CASES = [(row, way) for table in TABLES for row in table for way in row.ways]


@pytest.mark.medium
@pytest.mark.parametrize(
    ("row", "way"), CASES,
    ids=[f"{r.advice[:60]}-{w[:60] if isinstance(w, str) else 'files'}" for r, w in CASES],
)  # fmt: skip
def test_advice_works_when_followed(
    here: Path, monkeypatch: pytest.MonkeyPatch, row: Row, way: str | Step
) -> None:
    if row.given:
        row.given(monkeypatch)
    follow(row, way)


class Python(NamedTuple):
    """A message of a Python function that gives advice, and what works instead."""

    advice: str
    wrong: Callable[[], object]
    right: Callable[[], object]


def model(name: str = "run") -> LanguageModel:
    """Return the model of a run."""
    return library.load(name)


def moved() -> None:
    """Resume a run that somebody else has made."""
    unsigned()
    library.resume("run")


CLAMP = library.Clamp(0, 0, 0.5)
PYTHON = [
    Python(
        "leave it out",
        lambda: model("bytes").sample("\ud800", length=5),
        lambda: model("bytes").sample(length=5),
    ),
    Python(
        "leave it out",
        lambda: library.train("text.txt", init_from="run", hidden_size=9),
        lambda: library.train("text.txt", init_from="run", steps=1, out="new", seq_len=8),
    ),
    Python(
        "leave it out",
        lambda: library.train("text.txt", init_from="bytes", min_count=2),
        lambda: library.train("text.txt", init_from="bytes", steps=1, out="new", seq_len=8),
    ),
    Python('`charnn.resume(…, "TEXT")`', moved, lambda: library.resume("run", "text.txt")),
    Python(
        "train one with `lines=True`",
        lambda: model().records(2, length=9),
        lambda: library.load(library.train("text.txt", lines=True, steps=1, out="new")).records(
            2, length=9
        ),
    ),
    Python(
        "load it again for that",
        lambda: model().with_clamps(CLAMP).inspect("sat"),
        lambda: model().inspect("sat"),
    ),
    Python(
        "give `text`",
        lambda: LanguageModel(model().checkpoint).gradients(distance=5),
        lambda: LanguageModel(model().checkpoint).gradients(TEXT, distance=5),
    ),
    Python(
        "give at least 1 line",
        lambda: model("records").score(""),
        lambda: model("records").score("sat\n"),
    ),
    Python(
        "give one",
        lambda: model().samples(2, length=None),
        lambda: [model().samples(2, length=5), model().samples(2, length=None, stop="a")],
    ),
    Python(
        "`novel` needs `is_known`, which tells the records of the list",
        lambda: RecordFilter(2, novel=True),
        lambda: RecordFilter(2, novel=True, is_known=lambda _: False),
    ),
    Python(
        "give only one of `minutes`, `epochs` and `steps`",
        lambda: library.train("text.txt", steps=1, epochs=1),
        lambda: library.train("text.txt", steps=1, out="new", hidden_size=6),
    ),
    Python("check the name", lambda: library.load("missing"), model),
]


@pytest.mark.medium
@pytest.mark.parametrize(("advice", "wrong", "right"), PYTHON, ids=[p.advice for p in PYTHON])
def test_advice_to_a_caller_from_python_works(
    here: Path, advice: str, wrong: Callable[[], object], right: Callable[[], object]
) -> None:
    with pytest.raises(CharnnError) as error:
        wrong()
    assert re.search(re.escape(advice).replace("…", ".+"), str(error.value)), error.value
    right()


HELD = {
    "tests/attack/test_text_advice.py": ["try ………"],
    "tests/cli/test_figures.py": ["`charnn check …`", "`charnn eval` reads it in one pass"],
    "tests/attack/test_missing_names.py": ["check the path, its permissions and its disk"],
    "tests/attack/test_surroundings.py": [
        "start charnn without -OO to read it.)", "unset what is wrong",
    ],
    "tests/attack/test_run_folders.py": [
        "set TMPDIR to a folder with free space", "check its permissions and its disk",
    ],
    "tests/attack/test_faults.py": [  # a disk that fails or is full
        "check the disk", "check the file", "check its folder and the free space",
        "check the permissions of the folder", "check the folder and the free space",
        "check the run folder and the free space",
    ],
    "tests/runs/test_check.py": ["resume the run with its text to write it anew"],
    "tests/runs/test_lock.py": ["start no second run there"],
    "tests/cli/commands/test_sample_records.py": ["give each process another --seed instead"],
    "tests/text/test_cache.py": ["try again when nothing writes to it"],
    "tests/training/test_distributed.py": [  # several processes
        "start with torchrun", "select equal ones with CUDA_VISIBLE_DEVICES",
        'use `device="cuda"` to give each its own GPU', "start torchrun with `--nproc-per-node …`",
        "start them all with torchrun, check the address, or give torchrun another "
        "`--master-port`",
        "resume the run to continue from its last save, with any number of processes that divides "
        "the lanes",
        "use a number of processes that divides them, or start a run with another `batch_size`",
    ],
    "tests/training/test_cudnn.py": [  # a GPU
        '`cell="gru"` (try lstm)', '`precision="…"` (try fp16)', "`hidden_size=…` (try …)",
        "`embedding_size=…` (try …)", "`batch_size=…` (try …)",
        '`cell="rnn"` with so many units and lanes (try `batch_size=…`)',
    ],
    "tests/test_device.py": [
        "check nvidia-smi and CUDA_VISIBLE_DEVICES", "use another", "install a build with CUDA",
        "install one and check nvidia-smi",
    ],
}  # fmt: skip
NOT_FOLLOWED = {
    "it would install a package": [
        "`pip install charnn==…` to read it", "try a newer version", "pip install 'charnn[plot]'",
        "pip install …", "pip install 'charnn[plot]' (from a checkout",
        "pip install -c constraints.txt -e '.[plot]')",
    ],
    "it needs a GPU": ["use it with `device='cpu'`"],
}  # fmt: skip


@pytest.mark.medium
def test_every_advice_in_the_source_is_followed_by_a_test() -> None:
    followed = {row.advice for table in TABLES for row in table} | {p.advice for p in PYTHON}
    listed = [*HELD.values(), *NOT_FOLLOWED.values()]
    known = followed.union(*listed)
    assert {text: where for text, where in advice_in_source().items() if text not in known} == {}
    assert set().union(*listed) - advice_in_source().keys() == set(), "no message says this"
    assert all((PACKAGE.parent / path).exists() for path in HELD)
