"""Runs that are killed at any moment end with the same bytes as an uninterrupted run."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "torture.py"


@pytest.mark.slow
def test_killed_runs_end_with_the_bytes_of_an_uninterrupted_run(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT), "--kills", "20", "--work", str(tmp_path / "work")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    row = next(line for line in done.stdout.splitlines() if line.startswith("| in all |"))
    kills, resumed, started_over, identical, lost = map(int, row.strip("| ").split(" | ")[1:])
    assert kills == resumed + started_over == identical == 20
    assert lost == 0
