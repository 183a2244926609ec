"""What every attack must end in: one line of error, or success, and nothing changed."""

from pathlib import Path

from click.testing import Result
from hypothesis import HealthCheck, settings

from charnn.runs.lock import LOCK
from tests.conftest import FUZZING, charnn

FUZZ_FACTOR = 20  # more tries of each attack by scripts/fuzz.py


def tries(number: int) -> settings:
    """Return hypothesis settings for so many tries, or more where scripts/fuzz.py runs the test."""
    number *= FUZZ_FACTOR if FUZZING else 1
    return settings(max_examples=number, suppress_health_check=list(HealthCheck))


def contents(folder: Path) -> dict[Path, bytes | None]:
    """Return every path below the folder with its content; who last locked a run is left out."""
    return {
        path: path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
        if path.name != LOCK
    }


def no_traceback(*arguments: str | Path, stdin: str | bytes | None = None) -> Result:
    """Run the command line, which must not raise; return the result."""
    result = charnn(*arguments, stdin=stdin)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def one_line_error(*arguments: str | Path, code: int = 1, stdin: str | bytes | None = None) -> str:
    """Run the command line, which must fail with this exit code; return its error line.

    A failure ends in exactly one line that begins with `error: `, and prints nothing on stdout.
    """
    result = no_traceback(*arguments, stdin=stdin)
    assert result.exit_code == code, (result.exit_code, result.stdout, result.stderr)
    assert result.stdout == ""
    errors = [part for part in result.stderr.splitlines() if part.startswith("error: ")]
    assert len(errors) == 1, result.stderr
    assert result.stderr.endswith(f"{errors[0]}\n")
    return result.stderr.splitlines()[-1]
