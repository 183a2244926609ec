"""A run's name, a run folder or a file names a checkpoint; without one, the newest run is taken."""

import os
import shutil
from pathlib import Path

import click
import pytest

from charnn.cli.checkpoints import one_checkpoint, split_checkpoint
from charnn.errors import CheckpointError
from charnn.runs.find import find_checkpoint, find_run
from tests.conftest import charnn

BEST = "best.safetensors"


@pytest.fixture
def desk(tmp_path: Path, run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the runs novel1 and poem-2, of which poem-2 is the newer one."""
    monkeypatch.chdir(tmp_path)
    for age, name in enumerate(("poem-2", "novel1")):
        shutil.copytree(run_folder, Path("checkpoints", name))
        for path in Path("checkpoints", name).glob("*.safetensors"):
            os.utime(path, (1000 - age, 1000 - age))
    return tmp_path


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("novel1", f"checkpoints/novel1/{BEST}"),
        ("checkpoints/novel1", f"checkpoints/novel1/{BEST}"),
        ("checkpoints/novel1/", f"checkpoints/novel1/{BEST}"),
        ("checkpoints/novel1/last.safetensors", "checkpoints/novel1/last.safetensors"),
        ("missing.safetensors", "missing.safetensors"),  # opening it says that it is missing
        ("novel", None),
        ("checkpoints", None),
        ("..", None),
        ("x" * 5000, None),
        ("a\0b", None),
    ],
)
def test_a_name_a_folder_or_a_file_is_a_checkpoint(
    desk: Path, name: str, found: str | None
) -> None:
    assert find_checkpoint(name) == (found and Path(found))


def test_the_newest_run_is_taken_when_none_is_named(desk: Path) -> None:
    newest = Path(f"checkpoints/poem-2/{BEST}")
    assert one_checkpoint([]) == newest
    assert split_checkpoint([]) == (newest, ())
    assert split_checkpoint(["text.txt", "more.txt"]) == (newest, ("text.txt", "more.txt"))


def test_stderr_says_which_checkpoint_a_name_was(desk: Path) -> None:
    named = charnn("sample", "novel1", "--length", "3", "--seed", "1")
    assert named.stderr == f"checkpoint: checkpoints/novel1/{BEST}\n"
    by_path = charnn("sample", "checkpoints/novel1", "--length", "3", "--seed", "1")
    assert by_path.stderr == ""
    assert by_path.stdout == named.stdout
    assert charnn("sample", "novel1", "--length", "3", "--quiet").stderr == ""


@pytest.mark.parametrize(
    ("name", "like"),
    [
        ("novel", "novel1"),
        ("nvel1", "novel1"),
        ("checkpoints/nvel1", "novel1"),
        ("checkpoint/novel1", "novel1"),
        ("poem", "poem-2"),
    ],
)
def test_a_near_miss_is_suggested(desk: Path, name: str, like: str) -> None:
    with pytest.raises(CheckpointError, match=f"{name}; did you mean {like}\\?"):
        one_checkpoint([name])
    with pytest.raises(CheckpointError, match=f"{name}; did you mean {like}\\?"):
        split_checkpoint([name, "text.txt"])
    with pytest.raises(CheckpointError, match=f"{name}; did you mean {like}\\?"):
        find_run(name)


def test_a_misspelt_file_is_suggested(desk: Path) -> None:
    result = charnn("info", "checkpoints/novel1/lst.safetensors")
    assert result.exit_code == 1
    assert "no such file; did you mean checkpoints/novel1/last.safetensors?" in result.stderr


def test_a_missing_last_checkpoint_is_replaced_by_the_one_before_it(desk: Path) -> None:
    last = Path("checkpoints/novel1/last.safetensors")
    last.rename(last.with_name("last.previous.safetensors"))
    result = charnn("info", last)
    assert result.exit_code == 0
    assert "using the older" in result.stderr


def test_a_text_is_not_taken_for_a_run_of_the_same_name(desk: Path) -> None:
    Path("novel1").write_text("a text")
    path, texts = split_checkpoint(["novel1"])
    assert path.parent.name == "poem-2"
    assert texts == ("novel1",)
    assert one_checkpoint(["novel1"]) == Path(f"checkpoints/novel1/{BEST}")  # takes no text


def test_words_to_inspect_are_neither_misspelt_runs_nor_paths(desk: Path) -> None:
    path, texts = split_checkpoint(["nvel1"], paths=False)
    assert (path.parent.name, texts) == ("poem-2", ("nvel1",))
    path, texts = split_checkpoint(["novel1", "steep"], paths=False)
    assert (path.parent.name, texts) == ("novel1", ("steep",))


def test_two_checkpoints_are_refused(desk: Path) -> None:
    with pytest.raises(click.UsageError, match="expected one checkpoint, as the first argument"):
        split_checkpoint(["novel1", "poem-2"])
    result = charnn("sample", "novel1", "Once upon a time")
    assert result.exit_code == 2
    assert "expected one checkpoint" in result.stderr
    assert "to give an opening text use --prime" in result.stderr


def test_without_a_run_the_first_command_is_suggested(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    advice = "and ./checkpoints is empty; start with `charnn train TEXT`"
    assert f"error: no checkpoint named novel1, {advice}\n" == charnn("sample", "novel1").stderr
    assert f"error: no checkpoint given, {advice}\n" == charnn("info").stderr
    assert f"error: no run given, {advice}\n" == charnn("plot").stderr


def test_other_commands_take_names_too(desk: Path) -> None:
    assert charnn("info", "novel1").exit_code == 0
    assert charnn("plot", "novel1", "--text").exit_code == 0
    assert "did you mean novel1?" in charnn("plot", "novel").stderr
    assert charnn("plot", "--text").stderr.startswith("run: checkpoints/poem-2\n")
    refused = charnn("train", "--init-from", "novel", "--steps", "1")
    assert refused.exit_code == 1
    assert "no run named novel; did you mean novel1?" in refused.stderr
