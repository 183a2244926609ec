"""Learning curves show what was recorded, run by run."""

import json
from pathlib import Path
from typing import Any

import pytest

from charnn.errors import TextError
from charnn.insight.curves import Curves, as_text, read_curves
from charnn.runs.folder import METRICS
from charnn.runs.metrics import Metrics
from charnn.training.reports import StepReport
from tests.conftest import charnn


def line(step: int, loss: float = 2.0) -> dict[str, Any]:
    return {"step": step, "loss": loss, "learning_rate": 0.1, "gradient_norm": 3.0}


def run(folder: Path, *lines: dict[str, Any] | str) -> Path:
    """Make a run folder with these metrics."""
    folder.mkdir()
    text = "".join((w if isinstance(w, str) else json.dumps(w)) + "\n" for w in lines)
    (folder / METRICS).write_text(text)
    return folder


def curve(name: str, *losses: float) -> Curves:
    steps = [StepReport(n, loss, 0.1, loss) for n, loss in enumerate(losses, 1)]
    return Curves(name, Metrics(steps, [(len(losses), losses[-1])], 0))


def test_the_training_curve_is_a_running_mean() -> None:
    few = curve("few", 4.0, 3.0, 2.0)
    assert few.training == [(1, 4.0), (2, 3.0), (3, 2.0)]
    many = curve("many", *(float(n % 2) for n in range(100)))
    means = [loss for _, loss in many.training]
    assert means[50] == pytest.approx(0.4)  # of five, with two on each side
    assert means[51] == pytest.approx(0.6)


def test_all_charts_have_the_same_axes() -> None:
    lines = as_text([curve("low", 2.0, 1.0), curve("high", 5.0, 4.0, 3.0)])
    middle = lines.index("high")
    axes = [[row.split("│")[0] for row in part if "│" in row]
            for part in (lines[:middle], lines[middle:])]  # fmt: skip
    assert axes[0] == axes[1]
    assert lines[0] == "low"
    assert sum(row.count("o") for row in lines[1 : middle - 1]) == 1


def test_a_run_without_metrics_is_an_error(tmp_path: Path) -> None:
    for folder in (run(tmp_path / "empty"), run(tmp_path / "damaged", "nothing", '{"step": 1}')):
        with pytest.raises(TextError, match="holds no step yet"):
            read_curves(folder, "name")


@pytest.mark.medium
def test_the_command_makes_a_picture_named_after_the_run(
    tmp_path: Path, run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = charnn("plot", run_folder)
    assert (result.stdout, result.stderr, result.exit_code) == ("run.png\n", "", 0)
    first = Path("run.png").read_bytes()
    again = charnn("plot", run_folder / "best.safetensors")
    assert again.exit_code == 1
    assert "--force" in again.stderr
    assert charnn("plot", run_folder, "--force").exit_code == 0
    assert Path("run.png").read_bytes() == first
    other = run(tmp_path / "other", line(1))
    assert charnn("plot", run_folder, other).stdout == "runs.png\n"
    assert charnn("plot", run_folder, "--out", "a.svg").stdout == "a.svg\n"


def test_the_terminal_view_needs_no_matplotlib_and_writes_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    monkeypatch.chdir(tmp_path)
    run(tmp_path / "a", line(1, 4.0), line(2, 3.0), {"step": 2, "val_nats_per_char": 3.5})
    picture = charnn("plot", "a")
    assert picture.exit_code == 1
    assert "charnn[plot]" in picture.stderr
    assert "--text" in picture.stderr
    result = charnn("plot", "a", "--text", "--quiet")
    assert result.exit_code == 0
    assert result.stderr == ""
    assert result.stdout.startswith("a\n")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_the_newest_run_is_drawn_when_none_is_named(
    tmp_path: Path, run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    none = charnn("plot", "--text")
    assert none.exit_code == 1
    assert "charnn train" in none.stderr
    Path("checkpoints").mkdir()
    Path("checkpoints/mine").symlink_to(run_folder)
    result = charnn("plot", "--text")
    assert "run: checkpoints/mine" in result.stderr
    assert result.exit_code == 0


def test_a_path_that_is_not_a_run_is_an_error_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "text.txt").touch()
    for name in ("folder", "text.txt", "missing", "missing.safetensors"):
        result = charnn("plot", tmp_path / name, "--text")
        assert result.exit_code == 1
        assert "not a run folder" in result.stderr or "no run named" in result.stderr
        assert result.stderr.count("\n") == 1
    assert charnn("plot", "--text", "--out", "a.png").exit_code == 2


def test_two_runs_of_one_name_are_shown_with_their_paths(tmp_path: Path) -> None:
    for parent in ("a", "b"):
        (tmp_path / parent).mkdir()
        run(tmp_path / parent / "same", line(1))
    result = charnn("plot", "--text", tmp_path / "a" / "same", tmp_path / "b" / "same")
    assert str(tmp_path / "a" / "same") in result.stdout
    assert str(tmp_path / "b" / "same") in result.stdout
