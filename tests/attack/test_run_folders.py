"""A run folder that somebody else made, or that a disk damaged, does no harm and ends in one line.

Each file of it may be a pipe, a device, a link or sparse, and its name may be any bytes.
"""

import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from charnn import checkpoint
from charnn.errors import CheckpointError
from tests.attack.checks import no_traceback, one_line_error
from tests.attack.hostile import joined, packed, parts
from tests.conftest import ENVIRONMENT

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no such files")
BEST, LAST = "best.safetensors", "last.safetensors"


@pytest.fixture
def run(run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of a run, under ./checkpoints."""
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copytree(run_folder, Path("checkpoints/run")))


def a_pipe(path: Path) -> None:
    os.mkfifo(path)


def a_link_to_a_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def a_link_to_a_pipe(path: Path) -> None:
    os.mkfifo(path.with_name("pipe"))
    path.symlink_to("pipe")


def a_folder(path: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize("made", [a_pipe, a_link_to_a_device, a_link_to_a_pipe, a_folder])
def test_a_checkpoint_is_a_regular_file(made: Callable[[Path], None], run: Path) -> None:
    for name in (BEST, LAST):
        (run / name).unlink()
    made(run / BEST)
    assert "not a regular file" in one_line_error("info", run)
    assert "checkpoints/run" in no_traceback("runs").stdout


def test_a_checkpoint_may_be_a_link_to_a_regular_file(run: Path) -> None:
    (run / BEST).rename("elsewhere.safetensors")
    (run / BEST).symlink_to(Path("elsewhere.safetensors").absolute())
    assert no_traceback("info", run).exit_code == 0


def test_a_checkpoint_without_permission_is_not_called_damaged(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(CheckpointError, match=r"cannot be read \(.*Permission denied"):
        checkpoint.load(run / BEST)


def test_a_run_whose_name_is_no_text_works_everywhere(
    run: Path,
) -> None:
    name = run.with_name(os.fsdecode(b"caf\xe9"))
    run.rename(name)
    commands: list[tuple[str | Path, ...]] = [
        ("info", name), ("info", name.name), ("sample", name, "--length", "5"), ("eval", name),
        ("plot", name, "--text"), ("runs",), ("eval", name, "--json"),
        ("train", "--resume", "--out", name, "--steps", "6"),
    ]  # fmt: skip
    for command in commands:
        result = no_traceback(*command)
        assert result.exit_code == 0, (command, result.stderr)


WITHOUT_TEMPORARY_FOLDER = """
import sys, tempfile

def refuse():
    raise FileNotFoundError(2, "No usable temporary directory found")

tempfile._get_default_tempdir = refuse
from charnn.cli.main import main
main(sys.argv[1:])
"""


def without_temporary_folder(*command: str | Path) -> "subprocess.CompletedProcess[str]":
    line = [sys.executable, "-c", WITHOUT_TEMPORARY_FOLDER, *map(str, command)]
    return subprocess.run(line, env=ENVIRONMENT, check=False, capture_output=True, text=True)


@pytest.mark.medium
def test_only_training_needs_a_folder_for_temporary_files(run: Path) -> None:
    for command in (["info", "run"], ["sample", "run", "--length", "5"]):
        result = without_temporary_folder(*command)
        assert result.returncode == 0, result.stderr
    result = without_temporary_folder("train", "--resume", "--out", run, "--steps", "6")
    assert result.returncode == 1
    assert result.stderr.endswith("set TMPDIR to a folder with free space\n")
    assert "Traceback" not in result.stderr


def with_tensor(data: bytes, name: str, size: int) -> tuple[bytes, int]:
    """Return the file with one more tensor in its header, and the size that it must have."""
    header, body = parts(data)
    entry = [
        ("dtype", '"U8"'), ("shape", f"[{size}]"),
        ("data_offsets", f"[{len(body)}, {len(body) + size}]"),
    ]  # fmt: skip
    longer = packed(joined([*header, (name, joined(entry))]), body)
    return longer, len(longer) + size


@pytest.mark.parametrize("size", [1 << 30, 69 << 30])
def test_a_sparse_checkpoint_is_refused_by_its_header(size: int, run: Path) -> None:
    data, whole = with_tensor((run / LAST).read_bytes(), "training.more", size)
    (run / BEST).write_bytes(data)
    os.truncate(run / BEST, whole)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert "training state" in one_line_error("info", run)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1 << 17  # KiB
    os.truncate(run / BEST, whole + 1)
    assert "header describes" in one_line_error("info", run)
    shutil.copytree(run, run.with_name("other"), ignore=shutil.ignore_patterns(BEST))
    listed = no_traceback("runs").stdout.splitlines()
    assert len(listed) == 2
    assert any("checkpoints/other" in line and "step" in line for line in listed)
