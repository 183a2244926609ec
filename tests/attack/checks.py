"""What every attack must end in: one line of error, or success, and nothing changed."""

import re
from collections.abc import Sequence
from pathlib import Path

import click
from click.testing import Result
from hypothesis import HealthCheck, settings

from charnn.cli.main import main
from charnn.runs.lock import LOCK
from tests.conftest import FUZZING, charnn

FUZZ_FACTOR = 20  # more tries of each attack by scripts/fuzz.py


def tries(number: int) -> settings:
    """Return hypothesis settings for so many tries, or more where scripts/fuzz.py runs the test."""
    number *= FUZZ_FACTOR if FUZZING else 1
    return settings(max_examples=number, suppress_health_check=list(HealthCheck))


def foreign_options(message: str, arguments: Sequence[str | Path]) -> set[str]:
    """Return the options that a message advises, although the command has none of that name."""
    context = click.Context(main)
    command = main.get_command(context, str(arguments[0])) if arguments else None
    if command is None or re.search("train|new run", message):  # advice on another run
        return set()
    own = {name for option in command.get_params(context) for name in option.opts}
    message = re.sub("`[^`]*`|charnn .*", "", message)  # command lines have options of their own
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", message))
    typed = tuple(str(argument).partition("=")[0] for argument in arguments)  # or cut off
    return {name for name in named - own if not any(t.startswith(name) for t in typed)}


def contents(folder: Path) -> dict[Path, bytes | None]:
    """Return every path below the folder with its content; who last locked a run is left out."""
    return {
        path: path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
        if path.name != LOCK
    }


def no_traceback(*arguments: str | Path, stdin: str | bytes | None = None) -> Result:
    """Run the command line, which must not raise nor name options that its command lacks."""
    result = charnn(*arguments, stdin=stdin)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert not foreign_options(result.stderr, arguments), result.stderr
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
