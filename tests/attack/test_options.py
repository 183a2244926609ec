"""Every option of every command, with values that nobody thought of: success, or one line."""

import shutil
from pathlib import Path

import click
import pytest

from charnn.cli.main import COMMANDS, main
from tests.attack.checks import no_traceback
from tests.conftest import TINY, charnn

NUMBERS = ["-1", "0", "1e307", "1e300", "nan", "inf", "-inf", "9" * 20, str(2**63), "9" * 5000]
NASTY = [
    *NUMBERS, "", " ", "x", "0x10", "1_0", "\uff11", str(2**63 - 1), "-", "--", "/", ".", "*", "(",
    "~", "a\nb", "a\x1b[2J", "a\u202eb", "`force=True`", "a" * 5000, "/dev/null/x", "0:0=1e999",
    "99999999999:0", "auto", "cuda:99999999999999999999",
]  # fmt: skip
BASE = {
    "train": ["train", "text.txt", *TINY, "--steps", "2", "--out", "new"],
    "sample": ["sample", "run", "--length", "5", "--seed", "1"],
    "eval": ["eval", "run"], "info": ["info", "run"], "inspect": ["inspect", "run", "ain"],
    "runs": ["runs"], "plot": ["plot", "run"], "gradients": ["gradients", "run", "text.txt"],
    "doctor": ["doctor", "--no-speed"], "completion": ["completion", "bash"],
}  # fmt: skip
# Options whose work grows with the number, so that a large one is allowed but takes for ever.
WORK = {"length", "num_samples", "best_of", "beam", "max_tries", "minutes", "epochs", "steps",
        "num_layers", "hidden_size", "embedding_size", "batch_size", "seq_len"}  # fmt: skip


def options() -> list[tuple[str, click.Option]]:
    context = click.Context(main)
    commands = {name: main.get_command(context, name) for name in COMMANDS}
    return [
        (name, option)
        for name, command in commands.items()
        if command is not None
        for option in command.params
        if isinstance(option, click.Option) and not option.is_flag
    ]


OPTIONS = options()
NAMES = [f"{command} {option.opts[-1]}" for command, option in OPTIONS]


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory, run_folder: Path) -> Path:
    desk = tmp_path_factory.mktemp("options")
    shutil.copytree(run_folder, desk / "run")
    (desk / "text.txt").write_text("ainst " * 200)
    return desk


def check(desk: Path, command: str, option: click.Option, values: list[str]) -> None:
    for value in values:
        if option.name in WORK and value in ("inf", "1e300", "1e307", str(2**63 - 1)):
            continue
        base = BASE.get(command, [command])
        flag = max(option.opts, key=len)
        if option.name in ("minutes", "epochs") and "--steps" in base:
            base = [word for word in base if word not in ("--steps", "2")]
        result = no_traceback(*base, f"{flag}={value}", stdin="")
        assert result.exit_code in (0, 1, 2, 3), (flag, value)
        if result.exit_code in (1, 2):
            lines = result.stderr.splitlines()
            assert lines[-1].startswith("error: "), (flag, value, result.stderr)
            assert len(lines[-1]) < 1500, (flag, value)
            assert "range x" not in result.stderr
        for path in desk.iterdir():
            if path.name not in ("run", "text.txt"):
                shutil.rmtree(path) if path.is_dir() else path.unlink()


@pytest.mark.slow
@pytest.mark.parametrize(("command", "option"), OPTIONS, ids=NAMES)
def test_no_value_of_an_option_raises(
    desk: Path, command: str, option: click.Option, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(desk)
    check(desk, command, option, NASTY)


@pytest.mark.medium
@pytest.mark.parametrize(
    ("command", "option"), [pair for pair in OPTIONS if (pair[1].metavar or "?") in "NXPK"],
    ids=[name for name, (_, o) in zip(NAMES, OPTIONS, strict=True) if (o.metavar or "?") in "NXPK"],
)  # fmt: skip
def test_no_number_raises(
    desk: Path, command: str, option: click.Option, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(desk)
    check(desk, command, option, ["-1", "nan", "9" * 20, str(2**63), "x", ""])


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("sample --length -3", "invalid value for '--length': -3 must be at least 0; see"),
        ("sample --top-p 7", "invalid value for '--top-p': 7 must be above 0 and at most 1; see"),
        ("sample --temperature x", "invalid value for '--temperature': 'x' is not a number; see"),
        ("sample -n 1.5", "'1.5' is not a whole number; see `charnn sample --help`"),
        (
            "train --steps 0",
            "invalid value for '--steps': 0 must be at least 1 and at most 1000000000000; see",
        ),
        ("train --minutes 1e307", "1e307 must be above 0 and at most 1000000000; see"),
        ("train --epochs nan", "'--epochs': 'nan' is not a finite number"),
    ],
)
def test_a_number_out_of_range_is_answered_with_its_limits(typed: str, said: str) -> None:
    result = charnn(*typed.split())
    assert result.exit_code == 2
    assert result.stderr.startswith("error: ")
    assert said in result.stderr
