"""A path that names nothing is refused: no empty argument stands for the current folder."""

import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

import charnn
from charnn.errors import CharnnError
from tests.attack.checks import contents, no_traceback, one_line_error
from tests.conftest import TINY

NAMELESS = pytest.mark.parametrize("name", ["", "a\0b", "x/" * 2500], ids=["empty", "NUL", "long"])
SMALL = f"{shlex.join(TINY)} --steps 2 --out new"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_folder: Path) -> Path:
    """The current folder: a run folder with a text in it, which an empty path must not find."""
    for path in run_folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "text.txt").write_text("ainst " * 50)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@NAMELESS
@pytest.mark.parametrize(
    "command",
    [
        f"train NAME {SMALL}",
        f"train text.txt NAME {SMALL}",
        f"train text.txt --val NAME {SMALL}",
        f"train text.txt --init-from NAME {SMALL}",
        "train text.txt --steps 2 --out NAME",
        "train --resume NAME",
        "train --resume --out NAME",
        "sample NAME",
        "sample . --prime-file NAME",
        "sample . --out NAME",
        "eval NAME",
        "eval . NAME",
        "info NAME",
        "inspect . --file NAME",
        "inspect . --plot NAME",
        "gradients . NAME",
        "gradients --compare NAME --minutes 0.001",
        "gradients . --plot NAME",
        "plot NAME --text",
        "plot . --out NAME",
    ],
)
def test_a_path_that_names_nothing_is_one_line_of_error(
    here: Path, command: str, name: str
) -> None:
    before = contents(here)
    arguments = [name if word == "NAME" else word for word in shlex.split(command)]
    error = one_line_error(*arguments)
    assert len(error) < 300, error
    assert "check the" in error
    assert contents(here) == before


@pytest.mark.parametrize("text", ["", " ", "a\0b", "x" * 5000])
def test_a_text_to_inspect_is_no_path(here: Path, text: str) -> None:
    error = no_traceback("inspect", ".", text).stderr
    assert "path" not in error
    assert "expected one checkpoint" not in error


@NAMELESS
def test_the_library_refuses_a_path_that_names_nothing(here: Path, name: str) -> None:
    calls: list[Callable[[], object]] = [
        lambda: charnn.load(name),
        lambda: charnn.curves(name),
        lambda: charnn.train(name, steps=2),
        lambda: charnn.train("text.txt", val=name, steps=2),
        lambda: charnn.train("text.txt", out=name, steps=2),
        lambda: charnn.train("text.txt", init_from=name, steps=2),
        lambda: charnn.resume(name),
        lambda: charnn.resume(".", name),
        lambda: charnn.load("\ud800"),
        lambda: charnn.load("  "),
    ]
    for call in calls:
        with pytest.raises(CharnnError, match="check the") as caught:
            call()
        assert len(str(caught.value)) < 300
