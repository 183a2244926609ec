"""A run folder that somebody else made, or that a disk damaged, does no harm and ends in one line.

Each file of it may be a pipe, a device, a link or sparse, and its name may be any bytes.
"""

import json
import math
import os
import re
import resource
import secrets
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from charnn import api, checkpoint
from charnn.cli.commands import runs
from charnn.errors import CharnnError, CheckpointError
from charnn.runs import signature
from charnn.training.reports import StepReport
from tests.attack.checks import contents, no_traceback, one_line_error
from tests.attack.hostile import joined, packed, parts
from tests.conftest import ENVIRONMENT, TINY

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no such files")
Commands = Sequence[Sequence[str | Path]]
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
    assert "no checkpoint that is a regular file" in one_line_error("info", run)
    one_line_error("info", run / BEST)
    no_traceback("runs")


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


def a_link_to_a_file(path: Path) -> None:
    Path("victim").write_text("mine\n")
    path.symlink_to(Path("victim").absolute())


def a_dangling_link(path: Path) -> None:
    path.symlink_to(Path("missing").absolute())


def a_sparse_file(path: Path) -> None:
    path.touch()
    os.truncate(path, 69 << 30)


KINDS = [
    a_pipe, a_link_to_a_device, a_link_to_a_pipe, a_folder, a_link_to_a_file, a_dangling_link,
]  # fmt: skip


@pytest.mark.medium
@pytest.mark.parametrize("name", [".lock", "metrics.jsonl", "run.json"])
@pytest.mark.parametrize("made", KINDS)
def test_no_side_file_leads_out_of_its_folder(
    name: str, made: Callable[[Path], None], run: Path, text_file: Path
) -> None:
    (run / name).unlink()
    made(run / name)
    reading: Commands = (["info", run], ["runs"], ["sample", run, "--length", "5"])
    for command in reading:
        assert no_traceback(*command).exit_code == 0
    others: Commands = (
        ["plot", run, "--text"], ["gradients", run, text_file, "--positions", "2"],
        ["eval", run], ["train", "--resume", "--out", run, "--steps", "6"],
        ["train", "--resume", "--out", run, text_file, "--steps", "6"],
        ["train", text_file, "--out", run, "--steps", "6"],
    )  # fmt: skip
    for command in others:
        no_traceback(*command)
    victim = Path("victim")
    assert not victim.exists() or victim.read_text() == "mine\n"
    assert not Path("missing").exists()
    if made is a_dangling_link:
        assert (run / name).is_symlink()


@pytest.mark.parametrize("name", ["metrics.jsonl", "run.json"])
def test_a_huge_side_file_is_not_read_into_memory(name: str, run: Path) -> None:
    (run / name).unlink()
    a_sparse_file(run / name)
    if name == "metrics.jsonl":
        os.truncate(run / name, 64 << 20)  # it is read to its end, but by the line
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for command in ("info", "plot"):
        no_traceback(command, run, *(["--text"] if command == "plot" else []))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1 << 16  # KiB


@pytest.mark.medium
@pytest.mark.parametrize("field", ["corpus", "val"])
@pytest.mark.parametrize("path", ["/usr", "-", "/proc/kmsg", "/**/*", "pipe", "a\nb\x1b[2J"])
def test_a_path_in_a_strangers_run_is_not_opened_but_said(
    field: str, path: str, run: Path, text_file: Path
) -> None:
    os.mkfifo("pipe")
    about = json.loads((run / "run.json").read_text())
    for changed in (about | {field: [path]}, {field: [path], "corpus": [path], "val": []}):
        (run / "run.json").write_text(json.dumps(changed))
        commands: Commands = (
            ["eval", run], ["gradients", run], ["inspect", run, "--find"],
            ["train", "--resume", "--out", run], ["gradients", run, "--compare"],
        )  # fmt: skip
        for command in commands:
            line = one_line_error(*command)
            assert "name the text" in line
            assert "is not opened unless you name it" in line
    assert no_traceback("eval", run, text_file).exit_code == 0
    resumed = no_traceback("train", "--resume", text_file, "--out", run, "--steps", "6")
    assert resumed.exit_code == 0
    assert no_traceback("eval", run).exit_code == 0  # the user has named the text


def test_a_validation_text_that_a_stranger_named_is_not_opened_beside_the_users_text(
    run: Path, text_file: Path
) -> None:
    about = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(about | {"val": ["/proc/kmsg"]}))
    line = one_line_error("train", "--resume", text_file, "--out", run, "--steps", "6")
    assert "name the validation text (--val)" in line


def test_a_run_of_the_user_is_found_again_and_its_text_is_said(run: Path) -> None:
    run.rename("elsewhere")
    shutil.copytree("elsewhere", "copied")
    for name in ("elsewhere", "copied"):
        result = no_traceback("eval", name)
        assert result.exit_code == 0
        assert "reading /" in result.stderr


def test_the_run_of_another_user_is_evaluated_by_naming_its_text(
    run: Path, text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "other"))
    assert f"so {text_file} is not opened" in one_line_error("eval", run)
    assert no_traceback("eval", run, text_file).exit_code == 0
    assert not (tmp_path / "other").exists()  # evaluating makes no key


@pytest.mark.parametrize("content", [b"", b"short", b"x" * 33])
def test_a_damaged_or_missing_key_means_that_the_text_is_named(
    content: bytes, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "state/charnn").mkdir(parents=True)
    (tmp_path / "state/charnn/key").write_bytes(content)
    assert "name the text" in one_line_error("eval", run)


@pytest.mark.parametrize("content", [b"", b"short", b"x" * 33])
def test_a_damaged_key_is_kept_aside_and_replaced_by_the_next_training(
    content: bytes, text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    key = tmp_path / "state/charnn/key"
    key.parent.mkdir(parents=True)
    key.write_bytes(content)
    out = tmp_path / "new"
    started = no_traceback("train", text_file, "--steps", "1", *TINY, "--out", out)
    assert f"{key}: damaged; it is kept as key.damaged" in started.stderr
    assert key.with_name("key.damaged").read_bytes() == content
    assert no_traceback("eval", out).exit_code == 0


def test_of_two_keys_that_are_made_at_once_only_one_is_ever_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    make, signatures = secrets.token_bytes, []

    def while_another_process_makes_its_own(size: int) -> bytes:
        monkeypatch.setattr(secrets, "token_bytes", make)
        signatures.append(signature.sign(["text"], []))
        return make(size)

    monkeypatch.setattr(secrets, "token_bytes", while_another_process_makes_its_own)
    signatures.append(signature.sign(["text"], []))
    assert all(signature.is_signed(made, ["text"], []) for made in signatures)
    assert [path.name for path in (tmp_path / "charnn").iterdir()] == ["key"]


def test_training_does_not_need_a_key(
    text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    out = tmp_path / "new"
    assert no_traceback("train", text_file, "--steps", "1", *TINY, "--out", out).exit_code == 0
    assert json.loads((out / "run.json").read_text())["signature"] == ""


def test_a_damaged_run_json_is_still_json_when_it_is_printed(run: Path) -> None:
    for text in ("NaN", "-Infinity", "1e999", "[" * 900 + "]" * 900, "[" * 9 + "]" * 9):
        (run / "run.json").write_text(f'{{"started": {text}, "versions": {{"torch": {text}}}}}')
        printed = no_traceback("info", run, "--json").stdout
        json.loads(printed, parse_constant=lambda name: pytest.fail(name))
        no_traceback("info", run)
        no_traceback("train", "--resume", "--out", run, "--steps", "6")


VALUES: list[Any] = [1e308, -1e308, 3e38, math.nan, math.inf, 10**300, "nan", [], None, 0, -1]
ODD: dict[str, Any] = {"step": 3, "loss": 2.0, "learning_rate": 0.1, "gradient_norm": 1.0}
NUMBERS = ("loss", "learning_rate", "gradient_norm")
LINES = [
    *(ODD | {name: value} for name in NUMBERS for value in VALUES),
    *(ODD | {"step": step} for step in (0, 10**12, 10**400, -1, 1.5, None)),
    *({"step": 3, "val_nats_per_char": value} for value in (*VALUES, 10**400, "x")),
    *({"step": 3, "rollback_to": to} for to in (10**400, -1, 0, "x")),
]  # fmt: skip


DEEP = ["[" * 5000, '{"a":' * 900, "x" * 99999]


@pytest.mark.medium
@pytest.mark.parametrize("line", [*map(json.dumps, LINES), *DEEP])
def test_any_line_of_metrics_can_be_drawn(line: str, run: Path) -> None:
    path = run / "metrics.jsonl"
    for text in (f"{line}\n{line}\n", f"{path.read_text()}{line}\n", line):
        path.write_text(text)
        for command in (["plot", run, "--text"], ["info", run], ["runs"]):
            no_traceback(*command)


@pytest.mark.medium
def test_a_very_long_log_is_drawn_at_once(run: Path) -> None:
    lines = (json.dumps(ODD | {"step": n, "loss": 2 + n % 7 / 10}) for n in range(50_000))
    (run / "metrics.jsonl").write_text("\n".join(lines))
    start = monotonic()
    assert no_traceback("plot", run, "--text").exit_code == 0
    assert monotonic() - start < 20


def test_a_steep_fall_before_a_flat_end_takes_no_memory(run: Path) -> None:
    lines = (ODD | {"step": n, "loss": 9.0 if n % 2 else 1.0} for n in range(1, 30))
    flat = (ODD | {"step": 10**6 - n, "loss": 1e-9 * n} for n in range(9))
    (run / "metrics.jsonl").write_text("\n".join(map(json.dumps, (*lines, *flat))))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert no_traceback("plot", run, "--text").exit_code == 0
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1 << 16  # KiB


@pytest.mark.parametrize("seconds", [-1e11, -1e300, 3e11, 1e18, math.inf, math.nan])
def test_a_file_of_another_age_does_not_end_the_list_of_runs(
    seconds: float, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    date = runs._date
    monkeypatch.setattr(runs, "_date", lambda _: date(seconds))
    (line,) = no_traceback("runs").stdout.splitlines()
    assert "checkpoints/run" in line
    assert "step" in line


def test_the_row_of_a_damaged_run_says_what_is_wrong_and_gives_no_advice(run: Path) -> None:
    (run / BEST).write_bytes(b"garbage")
    (line,) = no_traceback("runs").stdout.splitlines()
    assert re.fullmatch(rf"{run}  {BEST}: not a checkpoint \([^;]*\)", line)


def test_a_run_without_its_checkpoints_keeps_its_metrics(run: Path, text_file: Path) -> None:
    for path in run.glob("*.safetensors"):
        path.unlink()
    before = contents(run)
    one_line_error("train", text_file, "--steps", "1", *TINY, "--out", run)
    assert contents(run) == before


def test_a_dangling_link_is_replaced_by_no_output(run: Path, text_file: Path) -> None:
    a_dangling_link(Path("curves.svg"))
    one_line_error("plot", run, "--out", "curves.svg")
    one_line_error("plot", run, "--out", "curves.svg", "--force")
    a_dangling_link(Path("out"))
    one_line_error("train", text_file, "--steps", "1", *TINY, "--out", "out")
    assert not Path("missing").exists()
    assert Path("curves.svg").is_symlink()


def test_a_backup_of_hard_links_is_not_written_to(run: Path) -> None:
    backup = Path(shutil.copytree(run, "backup", copy_function=os.link))
    before = {path.name: path.read_bytes() for path in backup.iterdir()}
    assert no_traceback("train", "--resume", "--out", run, "--steps", "8").exit_code == 0
    assert {path.name: path.read_bytes() for path in backup.iterdir()} == before


def test_a_run_whose_folder_is_moved_writes_nothing_into_a_new_one_in_its_place(
    text_file: Path, tmp_path: Path
) -> None:
    out, moved = tmp_path / "run", tmp_path / "moved"
    before: dict[Path, bytes | None] = {}

    def move(report: object) -> None:
        if isinstance(report, StepReport) and report.step == 2:
            out.rename(moved)
            out.mkdir()
            before.update(contents(moved))

    sizes = {"hidden_size": 6, "embedding_size": 5, "num_layers": 1, "batch_size": 3, "seq_len": 8}
    with pytest.raises(CharnnError, match="moved or replaced while this run writes to it"):
        api.train(text_file, out=out, steps=4, seed=1, on_report=move, **sizes)  # type: ignore[arg-type]
    assert list(out.iterdir()) == []
    assert contents(moved) == before


def test_a_name_with_a_line_end_forges_no_row(run: Path) -> None:
    run.rename(run.with_name("a\nb  2026-01-01 00:00  1 x 6 lstm"))
    assert len(no_traceback("runs").stdout.splitlines()) == 1
