"""`check` finds every kind of damage; a repair mends it or says why not, and loses nothing."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import charnn
from charnn import checkpoint, files
from charnn.errors import CharnnError
from charnn.runs import folder as run_folder_module
from charnn.runs.check import Finding, check
from charnn.runs.folder import BEST, LAST, METRICS, PREVIOUS, RUN_INFO, RUNS
from charnn.runs.lock import lock_run
from tests.attack.checks import contents, one_line_error
from tests.conftest import charnn as command

STATE = "last.000005.safetensors"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, text_file: Path) -> Path:
    """A run whose newest model is the best one and that kept two states; do not change it."""
    run = tmp_path_factory.mktemp("whole") / "run"
    charnn.train(
        text_file, out=run, steps=6, hidden_size=6, embedding_size=5, num_layers=1, batch_size=3,
        seq_len=8, seed=1, val_every=1, keep=2, save_every=1e-9,
    )  # fmt: skip
    assert checkpoint.load(run / BEST).figures.step == 6
    return run


@pytest.fixture
def run(tmp_path: Path, whole: Path) -> Path:
    """A copy of that run."""
    return Path(shutil.copytree(whole, tmp_path / "run"))


def test_nothing_is_wrong_with_a_whole_run_or_checkpoint(whole: Path) -> None:
    before = contents(whole)
    assert check(whole) == []
    assert check(whole / BEST) == check(whole / LAST) == []
    assert check(whole, repair=True) == []
    assert contents(whole) == before


def garbage(name: str) -> Callable[[Path], None]:
    return lambda run: _write(run / name, b"garbage")


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def missing(name: str) -> Callable[[Path], None]:
    return lambda run: (run / name).unlink()


def flipped(name: str) -> Callable[[Path], None]:
    """Change one bit in the middle, which only a checksum can see."""

    def flip(run: Path) -> None:
        data = bytearray((run / name).read_bytes())
        data[-100] ^= 1
        _write(run / name, bytes(data))

    return flip


def interrupted(run: Path) -> None:
    shutil.copyfile(run / STATE, run / PREVIOUS)


def older_best(run: Path) -> None:
    state = checkpoint.load(run / STATE)
    figures = replace(state.figures, val_nats_per_char=99.0)
    older = replace(state, figures=figures, training_tensors={}, progress=None, run=None)
    checkpoint.save(run / BEST, older)


def other_best(run: Path) -> None:
    best = checkpoint.load(run / BEST)
    corpus = replace(best.corpus, sha256="0" * 64)
    checkpoint.save(run / BEST, replace(best, corpus=corpus))


def lines(text: str) -> Callable[[Path], None]:
    def add(run: Path) -> None:
        with (run / METRICS).open("a") as file:
            file.write(text)

    return add


def without_field(name: str) -> Callable[[Path], None]:
    def remove(run: Path) -> None:
        info = json.loads((run / RUN_INFO).read_text())
        _write(run / RUN_INFO, json.dumps({**info, name: 3}).encode())

    return remove


DAMAGE: dict[str, tuple[Callable[[Path], None], str]] = {
    "last is garbage": (garbage(LAST), LAST),
    "last is missing": (missing(LAST), LAST),
    "last has a wrong bit": (flipped(LAST), LAST),
    "a save was interrupted": (interrupted, PREVIOUS),
    "best is garbage": (garbage(BEST), BEST),
    "best is missing": (missing(BEST), BEST),
    "best has a wrong bit": (flipped(BEST), BEST),
    "best is an older one": (older_best, BEST),
    "best is of another run": (other_best, BEST),
    "a state is garbage": (garbage(STATE), STATE),
    "the metrics end in half a line": (lines('{"step": 7, "lo'), METRICS),
    "the metrics have damaged lines": (lines("\0\0\0\n{}\n"), METRICS),
    "run.json is garbage": (garbage(RUN_INFO), RUN_INFO),
    "run.json is missing": (missing(RUN_INFO), RUN_INFO),
    "run.json has a damaged field": (without_field("validation"), RUN_INFO),
    "run.json has no texts": (without_field("corpus"), RUN_INFO),
    "a process was killed": (garbage(f".{LAST}.0123abcd.tmp"), f".{LAST}.0123abcd.tmp"),
}
every_damage = pytest.mark.parametrize(("damage", "name"), DAMAGE.values(), ids=DAMAGE)


@every_damage
def test_check_finds_the_damage_and_changes_nothing(
    run: Path, damage: Callable[[Path], None], name: str
) -> None:
    damage(run)
    before = contents(run)
    found = check(run)
    assert {finding.path.name for finding in found} == {name}
    assert all(finding.mend and not finding.repaired for finding in found)
    assert all("\n" not in str(finding) and len(str(finding)) < 400 for finding in found)
    assert contents(run) == before


@every_damage
def test_a_repaired_run_is_whole_and_ends_with_the_same_models(
    run: Path, whole: Path, text_file: Path, damage: Callable[[Path], None], name: str
) -> None:
    damage(run)
    assert all(finding.repaired for finding in check(run, repair=True))
    assert check(run) == []
    charnn.resume(run, text_file)
    for file in (BEST, LAST):
        assert (run / file).read_bytes() == (whole / file).read_bytes()


@every_damage
def test_a_repair_keeps_a_copy_of_what_was_damaged(
    run: Path, damage: Callable[[Path], None], name: str
) -> None:
    damage(run)
    damaged = (run / name).read_bytes() if (run / name).exists() else None
    check(run, repair=True)
    after = {path.read_bytes() for path in run.iterdir() if path.is_file()}
    expendable = damage in (interrupted,) or name.endswith(".tmp") or damaged is None
    half = damaged is not None and not damaged.endswith(b"\n") and name == METRICS
    assert expendable or half or name == BEST or damaged in after
    if name == BEST and damage is not older_best and damaged is not None:
        assert damaged in after


@every_damage
@pytest.mark.medium
def test_a_repair_that_finds_the_disk_full_says_so_and_loses_nothing(
    run: Path, damage: Callable[[Path], None], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    damage(run)
    before = set(contents(run).values())

    def full(*_: Any) -> None:
        raise OSError(28, os.strerror(28))

    for call in ("link", "fsync", "replace", "unlink"):
        monkeypatch.setattr(files.os, call, full)  # type: ignore[attr-defined]
    monkeypatch.setattr(run_folder_module.os, "replace", full)  # type: ignore[attr-defined]
    found = check(run, repair=True)
    monkeypatch.undo()
    assert found
    for path in run.glob(".*.tmp"):
        if name != path.name:
            path.unlink()  # what a failed write left, because `unlink` failed too
    if not name.endswith(".tmp"):
        assert before <= set(contents(run).values())
    assert all(finding.repaired for finding in check(run, repair=True))
    assert check(run) == []


@every_damage
@pytest.mark.medium
@pytest.mark.parametrize("at", range(4))
def test_a_repair_that_is_stopped_at_any_write_can_be_repeated(
    run: Path, damage: Callable[[Path], None], name: str, at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    damage(run)
    left = [at]

    def stopping(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            left[0] -= 1
            if left[0] == -1:
                raise KeyboardInterrupt
            return real(*arguments, **options)

        return call

    for name_of_call in ("link", "fsync", "replace"):
        real = getattr(os, name_of_call)
        monkeypatch.setattr(os, name_of_call, stopping(real))
    try:
        check(run, repair=True)
    except KeyboardInterrupt:
        monkeypatch.undo()
        assert all(finding.repaired for finding in check(run, repair=True))
    monkeypatch.undo()
    assert check(run) == []


def without_states(run: Path) -> None:
    for path in run.glob("last.0*"):
        path.unlink()


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (garbage(LAST), "there is no older state, so nothing can resume"),
        (missing(METRICS), "the curves of the run are lost"),
    ],
)
def test_what_cannot_be_repaired_is_said_and_left_alone(
    run: Path, damage: Callable[[Path], None], problem: str
) -> None:
    without_states(run)
    damage(run)
    before = contents(run)
    found = check(run, repair=True)
    assert [(finding.mend, finding.repaired) for finding in found] == [("", False)]
    assert problem in found[0].problem
    assert contents(run) == before
    assert check(run) == found


def test_a_lost_best_model_that_is_not_the_newest_is_reported(run: Path) -> None:
    last = checkpoint.load(run / LAST)
    assert last.run is not None
    validations = replace(last.run.validations, best_step=3, best_nats=0.1)
    checkpoint.save(run / LAST, replace(last, run=replace(last.run, validations=validations)))
    (finding,) = check(run, repair=True)
    assert not finding.repaired
    assert "found its best model at step 3; that one is lost" in finding.problem


def test_a_checkpoint_whose_state_does_not_fit_cannot_be_resumed(run: Path) -> None:
    last = checkpoint.load(run / LAST)
    tensors = dict(last.training_tensors)
    del tensors["random.cpu"]
    checkpoint.save(run / LAST, replace(last, training_tensors=tensors))
    assert "random.cpu" in check(run)[0].problem


def test_a_running_run_is_not_repaired_and_only_its_checkpoints_are_checked(run: Path) -> None:
    interrupted(run)
    garbage(f".{LAST}.0123abcd.tmp")(run)
    with lock_run(run):
        garbage(f".{LAST}.0123abcd.tmp")(run)
        assert check(run) == []
        with pytest.raises(CharnnError, match="in use by"):
            check(run, repair=True)


def test_a_state_that_the_run_removes_while_it_is_checked_is_not_missing(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = run / "last.000002.safetensors"
    monkeypatch.setattr("charnn.runs.check.kept_states", lambda _: [kept])
    assert check(run)[0].problem == "missing"  # which nobody may have removed
    with lock_run(run):
        assert check(run) == []


def test_the_command_prints_a_line_for_each_finding_and_exits_with_1(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(run.parent)
    RUNS.mkdir()
    run = Path(shutil.move(run, RUNS / "run"))
    shutil.copytree(run, RUNS / "other")
    result = command("check")
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr.count("nothing is wrong") == 2
    garbage(LAST)(run)
    missing(RUN_INFO)(run)
    result = command("check", "run")
    assert result.exit_code == 1
    assert len(result.stdout.splitlines()) == 2
    assert "--repair will restore it from last.000006.safetensors, of step 6" in result.stdout
    assert json.loads(command("check", "--json").stdout)[0].keys() == {
        "run", "path", "problem", "repair", "repaired",
    }  # fmt: skip
    result = command("check", "--repair")
    assert result.exit_code == 0
    assert result.stdout.count("; repaired") == 2
    assert command("check").exit_code == 0


def test_a_folder_without_a_run_and_a_missing_file_are_errors_of_one_line(tmp_path: Path) -> None:
    assert "not a run folder" in one_line_error("check", tmp_path)
    assert "no such file" in one_line_error("check", tmp_path / "none.safetensors")


def test_a_damaged_file_is_found_and_named(run: Path) -> None:
    flipped(BEST)(run)
    (finding,) = check(run / BEST)
    assert isinstance(finding, Finding)
    assert "checksum" in finding.problem
    assert command("check", run / BEST).exit_code == 1
    assert "; only a whole run can be repaired" in command("check", run / BEST, "--repair").stdout


@pytest.mark.parametrize("has_best", [True, False])
def test_a_run_without_a_state_is_to_be_begun_anew_from_its_best_model(
    run_folder: Path, tmp_path: Path, has_best: bool
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(run_folder, folder)
    (folder / LAST).unlink()
    if not has_best:
        (folder / "best.safetensors").unlink()
    result = command("check", folder, "--repair")
    assert f"{LAST}: missing; there is no older state, so nothing can resume\n" in result.stdout
    assert (f"`charnn train TEXT --init-from {folder}`" in result.stderr) == has_best
