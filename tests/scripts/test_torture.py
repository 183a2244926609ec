"""Runs that are killed at any instant end as one that never was; the script kills more of them."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "torture.py"


@pytest.mark.slow
def test_runs_that_are_killed_end_with_the_bytes_of_one_that_was_not(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT), "--kills", "20", "--work", str(tmp_path / "work")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    row = next(line for line in done.stdout.splitlines() if line.startswith("| in all |"))
    kills, resumed, again, identical, lost = map(int, row.strip("| ").split(" | ")[1:])
    assert kills == resumed + again == identical == 20
    assert lost == 0
