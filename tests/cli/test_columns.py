"""Tables, charts, help and bars fit the terminal, whatever its width and the text's script."""

import re
import shutil
from pathlib import Path

import pytest

from charnn.cli.columns import columns, padded
from charnn.cli.main import COMMANDS
from tests.cli.screen import on_screen
from tests.conftest import TINY, charnn

WIDTHS = [40, 60, 80, 200]


@pytest.mark.parametrize(
    ("text", "width"),
    [
        ("abc", 3), ("字", 2), ("\uff57", 2), ("e\u0301", 1), ("\u0e01\u0e34", 1), ("a\u200d", 1),
        ("\u2764\ufe0f", 1), ("\u20dd", 0), ("", 0), ("␊", 1),
    ],
)  # fmt: skip
def test_columns_are_those_of_a_terminal(text: str, width: int) -> None:
    assert columns(text) == width
    assert columns(padded(text, 9)) == 9


@pytest.mark.parametrize("width", WIDTHS)
def test_tables_and_charts_fit_the_screen(
    width: int, run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    for command in ("inspect RUN ain", f"inspect RUN {'ain' * 40} --unit 0:1", "plot RUN --text"):
        result = charnn(*command.replace("RUN", str(run_folder)).split())
        assert result.exit_code == 0
        assert max(map(columns, result.stdout.splitlines())) <= width


@pytest.mark.parametrize("width", WIDTHS)
def test_help_fits_the_screen(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    for name in COMMANDS:
        lines = charnn(name, "--help").stdout.splitlines()
        typed = [line for line in lines if re.match(r" *charnn |Usage: ", line)]
        assert all(columns(line) <= width for line in lines if line not in typed), name


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, run_folder: Path) -> Path:
    folder = tmp_path_factory.mktemp("columns")
    for name in ("a", "a long name of a run", "字字字"):
        shutil.copytree(run_folder, folder / "checkpoints" / name)
    return folder


@pytest.mark.medium
@pytest.mark.parametrize("width", WIDTHS)
def test_a_terminal_of_any_width_is_not_overrun(width: int, runs: Path) -> None:
    shown = on_screen(width, runs, "runs")
    assert max(map(columns, shown.splitlines())) <= width
    assert len(re.findall("checkpoints/", shown)) == 3


@pytest.mark.medium
@pytest.mark.parametrize("width", [40, 60, 80])
def test_a_progress_bar_has_room_for_the_bar(width: int, text_file: Path, tmp_path: Path) -> None:
    shown = on_screen(width, tmp_path, "train", text_file, *TINY, "--steps", "3000")
    bars = re.findall(r"\r *\d+%\|([^|\r\n]*)\|([^\r\n]*)", shown)
    assert bars
    assert all(len(bar) >= 8 for bar, _ in bars), bars
    assert "\x1b[" not in shown.replace("\x1b[A", "")
