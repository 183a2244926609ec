"""Earlier states of a run are kept on request, and a run can go back to each of them."""

import contextlib
import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import charnn
from charnn import checkpoint, files
from charnn.config import TextConfig
from charnn.errors import SettingError
from charnn.runs.check import check
from charnn.runs.find import find_runs
from charnn.runs.folder import (
    BEST,
    LAST,
    RUNS,
    best_checkpoint,
    is_unstarted,
    kept_states,
    last_checkpoint,
)
from charnn.runs.saver import Saver
from charnn.text.corpus import open_corpus
from charnn.training.reports import StepReport
from tests.conftest import charnn as command
from tests.conftest import warned
from tests.runs.test_run import start_run

SIZES: dict[str, Any] = {
    "hidden_size": 6, "embedding_size": 5, "num_layers": 1, "batch_size": 3, "seq_len": 8,
    "seed": 1, "steps": 6, "val_every": 2, "save_every": 1e-9,
}  # fmt: skip


def train(text: Path, folder: Path, keep: int) -> Path:
    charnn.train(text, out=folder, keep=keep, **SIZES)
    return folder


def contents(folder: Path) -> list[bytes]:
    return [(folder / name).read_bytes() for name in (BEST, LAST)]


def test_the_newest_saves_are_kept_and_named_after_their_steps(
    text_file: Path, tmp_path: Path
) -> None:
    run = train(text_file, tmp_path / "run", 3)
    states = kept_states(run)
    assert [path.name for path in states] == [f"last.00000{n}.safetensors" for n in (4, 5, 6)]
    assert [checkpoint.load(path).figures.step for path in states] == [4, 5, 6]
    assert states[-1].samefile(run / LAST)
    assert contents(run) == contents(train(text_file, tmp_path / "plain", 0))
    assert not kept_states(tmp_path / "plain")


@pytest.mark.parametrize("step", [4, 5, 6])
def test_a_run_that_goes_back_to_a_kept_state_ends_with_the_same_bytes(
    text_file: Path, tmp_path: Path, step: int
) -> None:
    run = train(text_file, tmp_path / "run", 3)
    expected = contents(run)
    result = command("train", "--resume", "--out", run / f"last.00000{step}.safetensors")
    assert result.exit_code == 0, result.stderr
    assert "the newest state is kept as last.000006.safetensors" in result.stderr
    assert contents(run) == expected


def test_the_newest_state_is_kept_when_a_run_goes_back(text_file: Path, tmp_path: Path) -> None:
    run = train(text_file, tmp_path / "run", 3)
    newest = (run / LAST).read_bytes()
    (run / "last.000006.safetensors").unlink()
    charnn.resume(run / "last.000004.safetensors", steps=9, force=True)
    assert checkpoint.load(run / LAST).figures.step == 9
    assert (run / "last.000006.safetensors").read_bytes() == newest


def test_states_from_before_the_run_went_back_stay_until_it_has_passed_them(
    text_file: Path, tmp_path: Path
) -> None:
    run = train(text_file, tmp_path / "run", 3)

    def stop(report: object) -> None:
        if isinstance(report, StepReport) and report.step == 5:
            raise KeyboardInterrupt

    again: dict[str, Any] = {"keep": 1, "save_every": 1e-9}
    with pytest.raises(KeyboardInterrupt):
        charnn.resume(run / "last.000004.safetensors", on_report=stop, **again)
    assert [path.name[:11] for path in kept_states(run)] == ["last.000006", "last.000005"]
    charnn.resume(run, **again)
    assert [path.name[:11] for path in kept_states(run)] == ["last.000006"]


def test_the_newest_saves_are_kept_although_the_clock_is_set_back(
    text_file: Path, tmp_path: Path
) -> None:
    run = train(text_file, tmp_path / "run", 3)
    for path in kept_states(run):
        os.utime(path, (2e9, 2e9))
    charnn.resume(run, steps=8, keep=2, save_every=1e-9)
    assert {path.name[:11] for path in kept_states(run)} == {"last.000007", "last.000008"}


@pytest.mark.parametrize("arguments", [["--steps", "3"], ["other.txt"], ["--val", "text"]])
def test_a_request_that_cannot_be_met_does_not_go_back(
    text_file: Path, tmp_path: Path, arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = train(text_file, tmp_path / "run", 3)
    monkeypatch.chdir(tmp_path)
    Path("other.txt").write_text("another text\n" * 99)
    before = contents(run)
    result = command("train", "--resume", "--out", run / "last.000004.safetensors", *arguments)
    assert result.exit_code
    assert contents(run) == before
    assert checkpoint.load(run / LAST).figures.step == 6


def test_last_named_itself_stands_for_its_run(text_file: Path, tmp_path: Path) -> None:
    run = train(text_file, tmp_path / "run", 1)
    for place in (["--out", run / LAST], [run / LAST]):
        result = command("train", "--resume", *place)
        assert "finished already, after 6 steps" in result.stderr
    error = command("train", "--resume", "--out", run / BEST).stderr
    assert error.endswith("a file, not a run to resume; name its run folder\n")


def test_a_folder_called_like_a_state_is_none(text_file: Path, tmp_path: Path) -> None:
    run = train(text_file, tmp_path / "run", 1)
    (run / "last.000003.safetensors").mkdir()
    charnn.resume(run, steps=7, keep=1, save_every=1e-9)
    assert [path.name for path in kept_states(run)] == ["last.000007.safetensors"]
    assert check(run) == []


@pytest.mark.parametrize("lost", ["deleted", "damaged"])
def test_a_run_without_last_is_resumed_from_the_newest_state_that_is_whole(
    text_file: Path, tmp_path: Path, lost: str
) -> None:
    run = train(text_file, tmp_path / "run", 2)
    expected = contents(run)
    for name in (LAST, "last.000006.safetensors"):
        (run / name).unlink()
        if lost == "damaged":
            (run / name).write_bytes(b"damaged")
    assert last_checkpoint(run) == run / LAST
    with warned("could not be read"):
        charnn.resume(run)
    assert contents(run) == expected


def test_states_are_copied_where_the_disk_has_no_hard_links(
    text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(files.os, "link", refuse)  # type: ignore[attr-defined]
    run = train(text_file, tmp_path / "run", 2)
    assert [path.name[:11] for path in kept_states(run)] == ["last.000005", "last.000006"]
    assert (run / "last.000006.safetensors").read_bytes() == (run / LAST).read_bytes()


def test_kept_states_are_neither_runs_nor_the_best_checkpoint(
    text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = train(text_file, RUNS / "run", 2)
    assert find_runs() == [run]
    assert best_checkpoint(run) == run / BEST
    (run / BEST).unlink()
    assert best_checkpoint(run) == run / LAST
    assert command("runs").stdout.count("\n") == 1


def test_a_negative_number_of_states_is_refused_before_anything_is_written(
    text_file: Path, tmp_path: Path
) -> None:
    with pytest.raises(SettingError, match="`keep` must be at least 0, not -1"):
        train(text_file, tmp_path / "run", -1)
    assert not (tmp_path / "run").exists()


def test_a_damaged_last_is_not_kept_as_a_state_when_a_run_goes_back(
    text_file: Path, tmp_path: Path
) -> None:
    run = train(text_file, tmp_path / "run", 2)
    (run / "last.000006.safetensors").unlink()
    data = bytearray((run / LAST).read_bytes())
    data[-1] ^= 1
    (run / LAST).write_bytes(data)
    charnn.resume(run / "last.000005.safetensors")
    assert [path.name[:11] for path in kept_states(run)] == ["last.000005"]
    assert (run / f"{LAST}.damaged").read_bytes() == data
    assert check(run) == []


def test_a_state_that_is_damaged_is_not_gone_back_to(text_file: Path, tmp_path: Path) -> None:
    run = train(text_file, tmp_path / "run", 2)
    before = contents(run)
    shutil.copyfile(run / "run.json", run / "last.000005.safetensors")
    result = command("train", "--resume", "--out", run / "last.000005.safetensors")
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1].startswith("error: ")
    assert contents(run) == before


@pytest.mark.parametrize("removing", ["works", "fails"])
@pytest.mark.parametrize("at", range(5))
def test_a_run_that_is_stopped_in_its_first_save_can_be_started_again_or_resumed(
    text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int, removing: str
) -> None:
    left = [at]

    def stopping(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            left[0] -= 1
            if left[0] < 0 and (real is not os.unlink or removing == "fails"):
                raise KeyboardInterrupt
            return real(*arguments, **options)

        return call

    corpus = open_corpus([str(text_file)], TextConfig())
    run = start_run(tmp_path / "run", corpus)
    run.saver = Saver(run.folder, keep=1)
    with monkeypatch.context() as patch:
        for name in ("fsync", "replace", "link", "unlink"):
            patch.setattr(os, name, stopping(getattr(os, name)))
        with contextlib.suppress(KeyboardInterrupt):
            run.save()
    if not is_unstarted(run.folder):
        assert checkpoint.load(run.folder / LAST).figures.step == 0
        assert not [found for found in check(run.folder, repair=True) if not found.repaired]
