"""The exit codes that `charnn --help-all` lists."""

import re
import signal
import time
from pathlib import Path

import pytest

from tests.conftest import TINY, charnn, process

LISTED = re.findall(r"^    (\d+) +\w", charnn("--help-all").stdout, re.MULTILINE)


def test_the_documented_codes_are_those_tested_here() -> None:
    assert LISTED == ["0", "1", "2", "3", "129", "130", "143"]


def test_0_is_success_1_an_error_in_one_line_and_2_wrong_usage(run_folder: Path) -> None:
    assert charnn("info", run_folder).exit_code == 0
    error = charnn("info", "missing")
    assert error.exit_code == 1
    assert re.fullmatch(r"error: .+\n", error.stderr)
    usage = charnn("info", run_folder, "--nonsense")
    assert usage.exit_code == 2
    assert re.fullmatch(r"error: .+--nonsense.+; see `charnn info --help`\n", usage.stderr)


def test_nothing_typed_is_answered_with_the_help() -> None:
    result = charnn()
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == charnn("--help").stdout


def test_3_is_fewer_results_than_requested(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("anna\nben\n" * 200)
    train = ("--lines", "--steps", "2", *TINY, "--quiet")
    run = charnn("train", tmp_path / "names.txt", *train, "--out", tmp_path / "run")
    assert run.exit_code == 0
    options = ("--keep", "nowhere", "--max-tries", "5", "--seed", "1")
    assert charnn("sample", tmp_path / "run", "-n", "4", *options).exit_code == 3


@pytest.mark.medium
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGHUP, 129), (signal.SIGINT, 130), (signal.SIGTERM, 143)]
)
def test_a_signal_is_128_more(
    run_folder: Path, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    out = tmp_path / "out.txt"
    sampling = process("sample", run_folder, "--length", "inf", "--seed", "1", "--out", out)
    for _ in range(2400):
        if any(path.stat().st_size for path in tmp_path.iterdir()):
            break
        time.sleep(0.05)
    sampling.send_signal(number)
    _, stderr = sampling.communicate(timeout=60)
    assert sampling.returncode == code
    assert "Traceback" not in stderr
    assert out.stat().st_size  # what was written is kept
