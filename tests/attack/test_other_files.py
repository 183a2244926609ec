"""Any run.json, metrics.jsonl, text or option gives a result or an error of one line."""

import bz2
import errno
import gzip
import lzma
import os
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from charnn.checkpoint import load
from charnn.config import TextConfig
from charnn.errors import CharnnError
from charnn.runs import folder
from charnn.runs.info import run_info_problem, update_run_info
from charnn.runs.metrics import MetricsLog, read_metrics
from charnn.text.corpus import open_corpus
from tests.attack.checks import no_traceback, tries
from tests.attack.hostile import NUMBERS, WORDS, Hostile, damaged, with_other_json
from tests.conftest import words

COMMANDS = {
    "info": ["--json"],
    "sample": ["-n", "-l", "--temperature", "--top-k", "--top-p", "--seed", "--stop", "--prime"],
    "eval": ["--window", "--protocol", "--json", "--skip-unknown", "--encoding"],
    "runs": ["--json"],
}
PACKED: dict[str, Callable[[bytes], bytes]] = {
    "": bytes, ".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress,
}  # fmt: skip
ENCODINGS = ["utf-8", "utf-16", "utf-32-be", "cp1252", "shift_jis", "utf-7"]


@pytest.fixture(scope="module")
def run(run_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of a finished run."""
    return Path(shutil.copytree(run_folder, tmp_path_factory.mktemp("other") / "run"))


def used(*arguments: str | Path) -> None:
    """Run the command line: it succeeds, or it fails in one line that is not too long."""
    result = no_traceback(*arguments)
    if result.exit_code == 1:
        error = result.stderr.splitlines()[-1]
        assert error.startswith("error: ")
        assert len(error) < 1000
        assert error.isprintable()


def of(data: bytes) -> st.SearchStrategy[Hostile]:
    return damaged(data) | with_other_json(data)


@tries(6)
@given(st.data())
def test_a_hostile_run_json_is_read_around(
    run: Path, run_folder: Path, data: st.DataObject
) -> None:
    shutil.rmtree(run)
    shutil.copytree(run_folder, run)
    original = (run_folder / "run.json").read_bytes()
    (run / "run.json").write_bytes(data.draw(of(original)).data)
    used("info", run)
    used("train", "--resume", "--out", run, "--quiet")


def test_a_run_json_that_cannot_be_read_is_not_replaced(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: Path) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    before = (run / "run.json").read_bytes()
    monkeypatch.setattr(folder, "read_small", broken)
    for change in (run_info_problem, lambda path: update_run_info(path, command="")):
        with pytest.raises(CharnnError, match=r"reading .*run\.json: Input/output error"):
            change(run)
    assert (run / "run.json").read_bytes() == before
    assert not [*run.glob("*.damaged")]


@tries(30)
@given(st.data())
def test_hostile_metrics_are_read_around(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: st.DataObject
) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)  # for speed
    path, progress = tmp_path / "metrics.jsonl", load(run_folder / "last.safetensors").progress
    assert progress is not None
    lines = (run_folder / "metrics.jsonl").read_bytes().splitlines()
    at = data.draw(st.integers(0, len(lines) - 1))
    path.write_bytes(
        b"\n".join([*lines[:at], data.draw(of(lines[at])).data, *lines[at + 1 :], b""])
    )
    read_metrics(path)
    log = MetricsLog(path)
    log.reopen(progress)
    assert log.validated <= progress.step
    again = path.read_bytes()
    MetricsLog(path).reopen(progress)
    assert path.read_bytes() == again


@tries(15)
@given(
    st.sampled_from([*PACKED]), st.sampled_from(ENCODINGS), st.sampled_from(ENCODINGS), st.data()
)
def test_a_hostile_text_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory,
    ending: str,
    encoding: str,
    as_: str,
    data: st.DataObject,
) -> None:
    path = tmp_path_factory.getbasetemp() / f"hostile.txt{ending}"
    packed = PACKED[ending](words(300).encode(encoding))
    path.write_bytes(data.draw(damaged(packed)).data)
    tokenizer = data.draw(st.sampled_from(["char", "byte"]))
    config = TextConfig(tokenizer=tokenizer, encoding="utf-8" if tokenizer == "byte" else as_)
    try:
        open_corpus([str(path)], config)
    except CharnnError as error:
        assert str(error).isprintable()  # noqa: PT017 - it may also succeed
        assert len(str(error)) < 1000  # noqa: PT017


@st.composite
def command_lines(draw: st.DrawFn) -> list[str]:
    """Draw a command with options and values that it may not understand."""
    command = draw(st.sampled_from([*COMMANDS]))
    values = st.sampled_from([*NUMBERS, *(w for w in WORDS if "\0" not in w)]) | st.text(max_size=5)
    line = []
    for name in draw(st.lists(st.sampled_from(COMMANDS[command]), max_size=3)):
        line.append(name)
        if name not in ("--json", "--skip-unknown"):
            line.append(draw(values))
    return [command, *line]


@tries(15)
@given(command_lines())
def test_any_values_of_options_are_understood_or_refused(run_folder: Path, line: list[str]) -> None:
    where = [] if line[0] == "runs" else [run_folder]
    short = [] if line[0] != "sample" or "-l" in line else shlex.split("-l 5")
    used(line[0], *where, *line[1:], *short)
