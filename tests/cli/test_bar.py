"""A progress bar is gone when the work ends, and a terminal that cannot redraw gets none."""

from pathlib import Path

import pytest

from tests.cli.screen import on_screen, shown
from tests.conftest import TINY


@pytest.mark.medium
@pytest.mark.parametrize(
    ("width", "line"),
    [
        (40, "train TEXT --hidden-size 8 --num-layers 1 --steps 1000000 --out run"),
        (60, "sample RUN -n 1000000 --out many.txt"),
        (80, "sample RUN --length 100000000 --out long.txt"),
    ],
)
def test_ctrl_c_leaves_no_bar_on_the_screen(
    width: int, line: str, text_file: Path, run_folder: Path, tmp_path: Path
) -> None:
    names = {"TEXT": text_file, "RUN": run_folder}
    arguments = [names.get(word, word) for word in line.split()]
    lines = shown(on_screen(width, tmp_path, *arguments, stop_at=b"%|"), width)
    assert [line for line in lines if line.startswith("stopped")]
    assert not [line for line in lines if "%|" in line or "^C" in line or line == "C"]


@pytest.mark.medium
def test_a_dumb_terminal_gets_plain_lines(text_file: Path, tmp_path: Path) -> None:
    data = on_screen(80, tmp_path, "train", text_file, *TINY, "--steps", "30", term="dumb")
    assert "30/30" in data
    assert "%|" not in data
    assert "\r" not in data.replace("\r\n", "\n")
