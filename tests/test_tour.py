"""What docs/tour.md shows can be typed, and its pictures are those of its own commands."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import charnn
from tests.documented import ROOT, blocks, charnn_lines, document, images, shortened

TOUR = document("docs/tour.md")
LINES = charnn_lines(TOUR)
# A program that notes how it was called, and makes the pictures that it was asked for.
NOTES = """\
import os, pathlib, sys
words = sys.argv[3:]  # after -m charnn
with open(os.environ["NOTED"], "a") as noted:
    noted.write("\\0".join(words) + "\\n")
for option in ("--out", "--plot"):
    if option in words and words[words.index(option) + 1].endswith(".png"):
        pathlib.Path(words[words.index(option) + 1]).touch()
"""


def drawn(line: list[str]) -> list[str]:
    """The pictures that a command makes."""
    return [word for word in line if word.endswith(".png")]


@pytest.mark.medium
def test_every_command_line_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert {line[0] for line in LINES} >= {"train", "plot", "inspect", "gradients", "sample"}
    for line in LINES:
        result = charnn(*shortened(line))
        assert result.exit_code == 0, f"charnn {shlex.join(line)}: {result.stderr}"
        assert all(Path(name).stat().st_size > 1000 for name in drawn(line))


def test_every_picture_is_there_and_small() -> None:
    sizes = [(ROOT / "docs" / name).stat().st_size for name in images(TOUR)]
    assert max(sizes) < 150_000
    assert sum(sizes) < 500_000


def test_every_picture_is_drawn_by_a_command_above_it() -> None:
    for name in images(TOUR):
        above = charnn_lines(TOUR.split(f"({name})")[0])
        assert name.removeprefix("tour-") in [one for line in above for one in drawn(line)]
    assert len(images(TOUR)) == len([one for line in LINES for one in drawn(line)])


def test_every_line_of_code_is_quoted_from_the_cells() -> None:
    cells = document("charnn/model/cells.py").splitlines()
    quoted = [
        line for kind, block in blocks(TOUR) if kind == "python" for line in block.split("\n")
    ]
    assert len(quoted) > 8
    assert set(quoted) <= set(cells)


@pytest.mark.skipif(sys.platform == "win32", reason="a POSIX shell")
def test_the_script_runs_the_commands_and_keeps_their_pictures(tmp_path: Path) -> None:
    program, noted, pictures = (tmp_path / name for name in ("python", "noted", "pictures"))
    program.write_text(f"#!{sys.executable}\n{NOTES}")
    program.chmod(0o755)
    pictures.mkdir()
    environment = os.environ | {"PYTHON": str(program), "NOTED": str(noted)}
    script = ROOT / "scripts" / "draw_tour.sh"
    subprocess.run(["sh", script, pictures], env=environment, check=True, capture_output=True)
    assert [line.split("\0") for line in noted.read_text().splitlines()] == LINES
    assert {path.name for path in pictures.iterdir()} == set(images(TOUR))
