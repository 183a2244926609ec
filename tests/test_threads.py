"""OpenMP threads spin briefly if cores are scarce, and as usual otherwise."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from charnn.threads import SHORT_SPINNING, limit_spinning_in, others_running

CORES = os.cpu_count() or 1


@pytest.mark.parametrize(("others", "limited"), [(0, CORES < 1), (1, CORES > 1), (9, CORES > 1)])
def test_spinning_is_limited_if_other_processes_need_the_cores(others: int, limited: bool) -> None:
    environment: dict[str, str] = {}
    limit_spinning_in(environment, lambda: others)
    assert environment == (SHORT_SPINNING if limited else {})


@pytest.mark.parametrize("name", ["OMP_WAIT_POLICY", *SHORT_SPINNING])
def test_variables_that_the_user_has_set_stay(name: str) -> None:
    environment = {name: "123"}
    limit_spinning_in(environment, lambda: 99)
    assert environment[name] == "123"


def test_a_single_thread_changes_nothing() -> None:
    environment = {"OMP_NUM_THREADS": "1"}
    limit_spinning_in(environment, lambda: 99)
    assert environment.keys() == {"OMP_NUM_THREADS"}


def test_running_processes_are_counted_without_this_one(tmp_path: Path) -> None:
    loadavg = tmp_path / "loadavg"
    loadavg.write_text("0.52 0.58 0.59 3/467 12345\n")
    assert others_running(loadavg) == 2
    loadavg.write_text("not what Linux writes")
    assert others_running(loadavg) >= 0


@pytest.mark.medium
@pytest.mark.parametrize(
    "use", ["import charnn; charnn.load", "from charnn.cli.main import main; main(['runs'])"]
)
def test_the_variables_are_set_before_torch_is_imported(use: str) -> None:
    script = f"""
import sys
from charnn import threads
threads.limit_spinning_in = lambda *_: print("torch" in sys.modules, flush=True)
{use}
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.startswith("False"), done.stderr
