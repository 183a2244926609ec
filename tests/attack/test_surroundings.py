"""Closed and full streams, odd environment variables, a deleted folder: no command fails badly."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ENVIRONMENT, TINY, charnn

ROOT = Path(__file__).parents[2]
DEVICE_FULL = pytest.mark.skipif(
    not Path("/dev/full").exists(), reason="no device that is always full"
)


def shell(line: str, *before: str, **environment: str) -> tuple[int, str, str]:
    """Run a line of sh, in which $CHARNN is the command; return its exit code and both outputs."""
    interpreter = " ".join([sys.executable, *before])
    variables = {"PYTHONPATH": str(ROOT), "CHARNN": f"{interpreter} -m charnn"}
    done = subprocess.run(
        ["sh", "-c", line], env=ENVIRONMENT | variables | environment, capture_output=True,
        text=True, check=False, timeout=120,
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    return done.returncode, done.stdout, done.stderr


COMMANDS = ["--version", "--help", "--help-all", "info RUN", "sample --help", "completion bash"]


@pytest.mark.medium
@pytest.mark.parametrize("command", COMMANDS)
def test_output_that_nobody_takes_ends_in_a_line_or_quietly(command: str, run_folder: Path) -> None:
    command = command.replace("RUN", str(run_folder))
    if Path("/dev/full").exists():
        code, _, stderr = shell(f"$CHARNN {command} >/dev/full")
        assert code == 1
        assert re.fullmatch("error: output: no space left on device; check .*\n", stderr)
    assert shell(f"$CHARNN {command} >&-") == (0, "", "")
    code, _, stderr = shell(f"{{ $CHARNN {command}; echo $? >&2; }} | true")
    assert stderr == "0\n"
    assert shell(f"$CHARNN {command} >/dev/null 2>&- <&-") == (0, "", "")
    assert shell(f"$CHARNN {command} --nonsense 2>&-")[0] == 2


@pytest.mark.medium
def test_closed_streams_do_not_end_a_run_or_get_into_its_files(
    text_file: Path, tmp_path: Path
) -> None:
    run = f"$CHARNN train {text_file} {' '.join(TINY)} --steps 2 --out"
    assert shell(f"{run} {tmp_path / 'open'}")[0] == 0
    assert shell(f"{run} {tmp_path / 'closed'} >&- 2>&- <&-") == (0, "", "")
    for name in ("best.safetensors", "metrics.jsonl"):
        size = (tmp_path / "open" / name).stat().st_size
        assert abs((tmp_path / "closed" / name).stat().st_size - size) < 0.1 * size + 200
    assert charnn("sample", tmp_path / "closed", "--length", "5").exit_code == 0
    code, stdout, _ = shell(f"$CHARNN train - <&- {' '.join(TINY)} --out {tmp_path / 'none'}")
    assert (code, stdout) == (1, "")


@pytest.mark.medium
def test_a_deleted_folder_is_an_error_in_a_line(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    for command in ("sample", "train x.txt", "runs", "info"):
        line = f"mkdir {gone} && cd {gone} && rmdir {gone} && $CHARNN {command}"
        said = "error: the current folder was deleted; change to another one\n"
        assert shell(line) == (1, "", said)


@pytest.mark.medium
@pytest.mark.parametrize(
    "variables",
    [
        {"COLUMNS": "x", "LINES": "-1"}, {"COLUMNS": "1"}, {"COLUMNS": "-5"}, {"COLUMNS": "9" * 30},
        {"OMP_NUM_THREADS": "x"}, {"OMP_NUM_THREADS": "9" * 30}, {"OMP_NUM_THREADS": "-1"},
        {"PYTHONIOENCODING": "ascii"}, {"NO_COLOR": "x", "FORCE_COLOR": "x"}, {"TERM": "junk"},
        {"LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}, {"LANG": "x_Y.z"},
        {"TMPDIR": "/nowhere", "HOME": "/nowhere", "CHARNN_CACHE": "/dev/null"},
        {"CUDA_VISIBLE_DEVICES": "junk"}, {"TQDM_DISABLE": "1"},
    ],
    ids=str,
)  # fmt: skip
def test_odd_environment_variables_do_no_harm(variables: dict[str, str], run_folder: Path) -> None:
    for command in (f"inspect {run_folder} ain", f"sample {run_folder} -n 2 --length 9", "--help"):
        code, stdout, _ = shell(f"$CHARNN {command}", **variables)
        assert code == 0
        assert stdout


@pytest.mark.medium
@pytest.mark.parametrize(
    "variables",
    [
        {"TQDM_NCOLS": "x"}, {"TQDM_MININTERVAL": "x"}, {"_CHARNN_COMPLETE": "junk"},
        {"_CHARNN_COMPLETE": "bash_complete"},
        {"_CHARNN_COMPLETE": "bash_complete", "COMP_WORDS": "charnn '", "COMP_CWORD": "x"},
    ],
    ids=str,
)  # fmt: skip
def test_variables_that_cannot_be_used_are_an_error_in_a_line(
    variables: dict[str, str], run_folder: Path
) -> None:
    code, stdout, stderr = shell(f"$CHARNN sample {run_folder} --length 5", **variables)
    assert (code, stdout, stderr.count("\n")) == (1, "", 1)
    assert stderr.startswith(f"error: {next(iter(variables))}")


@pytest.mark.medium
def test_help_without_docstrings_says_why_it_is_short(run_folder: Path) -> None:
    code, stdout, _ = shell("$CHARNN sample --help", "-OO")
    assert code == 0
    assert "-OO" in stdout
    assert "--temperature" in stdout
    assert shell(f"$CHARNN info {run_folder}", "-OO")[0] == 0
