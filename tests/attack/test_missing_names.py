"""An error about a run or a text that is missing, or another one, says what to do next."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

import charnn.cli.commands.info as info
from charnn import checkpoint
from tests.attack.checks import no_traceback, one_line_error
from tests.conftest import TINY, charnn, words


@pytest.fixture(params=["with runs", "without runs"])
def here(
    request: pytest.FixtureRequest,
    run_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> bool:
    """Go to a folder with texts; return True if it has a run, called `corpus`."""
    monkeypatch.chdir(tmp_path)
    Path("other.txt").write_text(words(300, seed=1))
    Path("folder").mkdir()
    Path("folder/mine.txt").write_text("mine")
    if has_runs := request.param == "with runs":
        shutil.copytree(run_folder, "checkpoints/corpus")
    return has_runs


STARTS = "start with `charnn train TEXT`"
LISTS = "`charnn runs` lists the runs"
# What it says with runs, and without.
MISSING = {
    "info zzz": (LISTS, STARTS),
    "info zzz/last.safetensors": (LISTS, LISTS),
    "info zzz/best.safetensors": (LISTS, LISTS),
    "sample zzz/last.safetensors": (LISTS, LISTS),
    "eval zzz/last.safetensors": (LISTS, LISTS),
    "check zzz": (LISTS, STARTS),
    "plot zzz": (LISTS, STARTS),
    "train other.txt --init-from zzz": (LISTS, STARTS),
    "train --resume --out zzz": (LISTS, STARTS),
    "train --resume": ("", STARTS),
    "train zzz.txt --resume": ("zzz.txt: no such file or folder; check the name", STARTS),
    "train othr.txt --resume": ("did you mean other.txt?", STARTS),
    "train other.txt --resume": ("no run of other.txt under ./checkpoints", STARTS),
    "train other.txt --steps 1 --out folder": ("is no run; choose", "is no run; choose"),
    "train other.txt --steps 1 --out other.txt": ("is no run; choose", "is no run; choose"),
}


@pytest.mark.parametrize("line", MISSING)
def test_what_is_missing_is_named_with_what_to_do_next(line: str, here: bool) -> None:
    expected = MISSING[line][not here]
    if expected:
        message = one_line_error(*line.split())
        assert expected in message
        assert "--resume to continue" not in message


def test_a_changed_text_is_to_be_restored_or_learned_anew(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(run_folder, "checkpoints/corpus")
    Path("corpus.txt").write_text(words(300, seed=1))
    message = one_line_error("train", "corpus.txt", "--resume", "--steps", "99")
    assert (
        "corpus.txt: not the text that checkpoints/corpus was trained on, but a changed" in message
    )
    assert message.endswith("start a new run with --init-from checkpoints/corpus")
    assert "name the text" not in message


def test_an_unexpected_error_of_the_system_says_what_to_check(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise PermissionError(13, "Permission denied", "x")

    monkeypatch.setattr(info, "open_checkpoint", fail)
    message = one_line_error("info", run_folder)
    assert message == "error: x: permission denied; check the path, its permissions and its disk"


def test_a_folder_of_runs_is_answered_with_one_of_them(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(run_folder, "checkpoints/corpus")
    for command in ("sample", "info"):
        assert (
            "name one of them, such as checkpoints/corpus"
            in no_traceback(command, "checkpoints").stderr
        )


def test_a_run_whose_name_is_taken_says_which_it_got(
    text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    name = text_file.stem
    said = [charnn("train", text_file, *TINY, "--steps", "1").stderr for _ in range(2)]
    assert "exists, so" not in said[0]
    assert f"checkpoints/{name} exists, so this run is {name}-2\n" in said[1]


def test_a_model_that_is_not_trained_says_so(run_folder: Path, tmp_path: Path) -> None:
    best = checkpoint.load(run_folder / "best.safetensors")
    path = tmp_path / "new.safetensors"
    checkpoint.save(path, replace(best, figures=replace(best.figures, step=0)))
    assert "not trained yet (step 0)" in charnn("sample", path, "--length", "5").stderr
    assert "not trained" not in charnn("sample", run_folder, "--length", "5").stderr


def test_a_text_that_has_moved_nearby_is_suggested_in_whole_sentences(
    text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = Path(shutil.copy(text_file, "corpus.txt"))
    assert charnn("train", text, *TINY, "--steps", "1").exit_code == 0
    text.rename("corpus2.txt")
    for command in (["train", "--resume"], ["eval"]):
        message = one_line_error(*command)
        assert "corpus2.txt? Otherwise name the text: `charnn " in message
        assert "?;" not in message
