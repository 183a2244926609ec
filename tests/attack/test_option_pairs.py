"""No option is silently ignored beside another one.

Every pair of options of a command is given together. If the second changes what the command does
when it is given alone, but changes nothing beside the first, then the command must refuse the pair
or say that the option has no effect.
"""

import itertools
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path

import click
import pytest

from charnn.cli.main import main
from tests.conftest import TINY, charnn, words

NO_EFFECT = ("--quiet", "--help-all", "--force", "--device", "--threads", "--save-every", "--keep")


@dataclass
class Command:
    """A command line, and a value for each option that changes what it does."""

    line: str
    options: dict[str, str]
    # Pairs in which the second option changes nothing here, but would with other texts or models.
    expected: dict[str, list[str]] = field(default_factory=dict)
    untested: tuple[str, ...] = NO_EFFECT


TEXT_OPTIONS = {
    "--tokenizer": "byte", "--encoding": "latin-1", "--encoding-errors": "skip",
    "--min-count": "40", "--keep-newlines": "",
    "--val-fraction": "0.3", "--lines": "", "--val": "other.txt",
}  # fmt: skip
COMMANDS = {
    "train": Command(
        "train text.txt --steps 40 --dry-run --seed 1",
        TEXT_OPTIONS
        | {
            "--cell": "gru", "--hidden-size": "9", "--num-layers": "3", "--embedding-size": "7",
            "--dropout": "0.35", "--learning-rate": "0.3", "--batch-size": "3", "--seq-len": "9",
            "--optimizer": "adamw", "--weight-decay": "0.3", "--clip": "0.3", "--precision": "bf16",
            "--deterministic": "", "--max-rollbacks": "7", "--val-every": "3", "--patience": "5",
            "--init-from": "run",
        },
        untested=(
            *NO_EFFECT, "--steps", "--minutes", "--epochs", "--resume", "--dry-run", "--seed",
            "--out",
        ),
    ),
    "eval": Command(
        "eval run more.txt",
        {
            "--protocol": "window", "--window": "5", "--int8": "", "--encoding": "latin-1",
            "--encoding-errors": "skip", "--skip-unknown": "", "--json": "",
        },
        {"--skip-unknown": ["--encoding"]},
    ),
    "eval of records": Command(
        "eval records text.txt",
        {
            "--protocol": "window", "--window": "5", "--int8": "", "--encoding": "latin-1",
            "--encoding-errors": "skip", "--skip-unknown": "", "--json": "",
        },
    ),
    "gradients": Command(
        "gradients run",
        {
            "--distance": "7", "--positions": "9", "--json": "", "--encoding": "latin-1",
            "--encoding-errors": "skip",
            "--skip-unknown": "", "--compare": "", "--minutes": "0.001",
        },
        untested=(*NO_EFFECT, "--plot", "--seed"),
    ),
    "inspect": Command(
        "inspect run",
        {
            "--file": "prime.txt", "--layer": "0", "--unit": "0:1", "--find": "spaces",
            "--pattern": "a", "--json": "",
        },
        {"--file": ["--layer"]},  # there is only one
        (*NO_EFFECT, "--plot"),
    ),
    "sample": Command(
        "sample run --length 150 --seed 1",
        {
            "--prime": "a", "--prime-file": "prime.txt", "--stop": "a", "--keep-stop": "",
            "--temperature": "0", "--top-k": "2", "--top-p": "0.5", "--min-p": "0.3",
            "--typical": "0.3", "--repetition-penalty": "9", "--repetition-window": "2",
            "--no-repeat": "4", "--clamp": "0:0=3", "--num-samples": "2", "--part": "1/2",
            "--best-of": "5", "--beam": "2", "--lines": "", "--unique": "", "--novel": "",
            "--keep": "^a",
            "--validator": "false", "--max-tries": "9", "--format": "jsonl", "--logprobs": "2",
            "--int8": "", "--fp16": "", "--raw": "", "--out": "new.txt",
            "--separator": "x",
        },
        {"--temperature": ["--stop"], "--top-k": ["--stop"], "--stop": ["--best-of"]},
        (*NO_EFFECT, "--length", "--seed", "--exact"),
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with texts and runs."""
    desk = tmp_path_factory.mktemp("desk")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(desk)
        Path("text.txt").write_bytes((words(1500) + "é\r\n").encode())
        Path("other.txt").write_text(words(300, seed=2))
        Path("prime.txt").write_text("ai")
        Path("more.txt").write_text(words(300, seed=3) + "ü")
        for name, more in (("run", []), ("records", ["--lines"])):
            result = charnn(
                "train", "text.txt", "--steps", "9", *TINY, "--out", name, "--quiet", *more
            )
            assert result.exit_code == 0, result.stderr
    return desk


def typed(command: Command, *names: str) -> list[str]:
    parts = [part for name in names for part in (name, command.options[name]) if part]
    return [*shlex.split(command.line), *parts]


def outcome(desk: Path, command: Command, *names: str) -> tuple[int, str, str]:
    """Return the exit code, and what a command printed and wrote, and said."""
    new = desk / "new.txt"
    new.unlink(missing_ok=True)
    result = charnn(*typed(command, *names))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    written = new.read_text() if new.exists() else ""
    return (
        result.exit_code,
        re.sub(r"\d+(\.\d+)? seconds", "", result.stdout) + written,
        result.stderr,
    )


def silently_ignored(desk: Path, command: Command) -> list[str]:
    """Return the pairs in which the second option has no effect and nothing says so."""
    base = outcome(desk, command)
    alone = {name: outcome(desk, command, name) for name in command.options}
    found = []
    for first, second in itertools.permutations(command.options, 2):
        if alone[first][0] or second in command.expected.get(first, ()):
            continue  # refused, or needs another
        code, product, said = outcome(desk, command, first, second)
        if code == 0 and product == alone[first][1] and second not in said:
            effective = alone[second][0] or alone[second][1] != base[1]
            if effective:
                found.append(f"{second} beside {first}")
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_no_option_is_silently_ignored_beside_another(
    desk: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(desk)
    monkeypatch.setattr("charnn.runs.start.DRY_RUN_SECONDS", 0.0)
    assert silently_ignored(desk, COMMANDS[name]) == []


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_paired(name: str) -> None:
    command = main.get_command(click.Context(main), COMMANDS[name].line.split()[0])
    assert command is not None
    options = {option.opts[-1] for option in command.params if option.opts[-1].startswith("--")}
    assert options - {*COMMANDS[name].options, *COMMANDS[name].untested} == set()


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        ("train text.txt --tokenizer byte --encoding latin-1", 2, "--encoding: for characters"),
        ("train text.txt --tokenizer byte --min-count 2", 2, "--min-count: for characters"),
        ("train text.txt --steps 2 --val-fraction 0 --patience 3", 0, "--patience has no effect"),
        ("train text.txt --steps 2 --deterministic", 0, "--deterministic has no effect"),
        ("eval run --skip-unknown", 1, "--skip-unknown is for a text that you name"),
        ("gradients run --compare --encoding latin-1", 2, "--encoding is for texts"),
        ("eval run --encoding latin-1", 1, "--encoding is for a text"),
        ("eval records text.txt --protocol stream", 2, "--protocol is for running text"),
        ("sample run --temperature 0 --seed 1 --top-k 3", 0, "--seed, --top-k cannot change it"),
    ],
)
def test_an_option_without_effect_is_refused_or_noted(
    desk: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, line: str, code: int, said: str
) -> None:
    monkeypatch.chdir(desk)
    more = shlex.join(["--out", str(tmp_path / "new"), *TINY]) if line.startswith("train") else ""
    result = charnn(*shlex.split(f"{line} {more}"))
    assert result.exit_code == code, result.stderr
    assert said in result.stderr
