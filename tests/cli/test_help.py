"""Help fits a screen, costs nothing, and familiar words of other tools find their option."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator

import click
import pytest

from charnn.cli.help import Option
from charnn.cli.main import COMMANDS, main
from charnn.cli.synonyms import _SYNONYMS
from tests.conftest import charnn

LINES = {"train": 45, "sample": 45}  # of --help; 30 for the other commands


def command(name: str) -> click.Command:
    found = main.get_command(click.Context(main), name)
    assert found is not None
    return found


def options(name: str) -> Iterator[Option]:
    return (param for param in command(name).params if isinstance(param, Option))


def help_of(*arguments: str) -> str:
    result = charnn(*arguments)
    assert result.exit_code == 0
    assert result.stderr == ""
    return result.stdout


def test_help_imports_neither_torch_nor_numpy() -> None:
    code = (
        "import sys\n"
        "class Refuse:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        assert name.partition('.')[0] not in ('torch', 'numpy', 'tqdm'), name\n"
        "sys.meta_path.insert(0, Refuse())\n"
        "from charnn.cli.main import main\n"
        "for help in ('--help', '--help-all'):\n"
        "    for arguments in ([help], *([name, help] for name in sys.argv[1:])):\n"
        "        main(arguments, standalone_mode=False)\n"
    )
    command_line = [sys.executable, "-c", code, *COMMANDS]
    done = subprocess.run(command_line, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.medium
def test_help_takes_less_than_a_fifth_of_a_second() -> None:
    def seconds() -> float:  # of a processor, which a busy machine does not change much
        before = os.times()
        subprocess.run([sys.executable, "-m", "charnn", "--help"], check=True, capture_output=True)
        after = os.times()
        children = (after.children_user, after.children_system)
        return sum(children) - before.children_user - before.children_system

    assert min(seconds() for _ in range(5)) < 0.2


@pytest.mark.parametrize("name", COMMANDS)
def test_help_fits_a_screen(name: str) -> None:
    assert len(help_of(name, "--help").splitlines()) <= LINES.get(name, 30)


@pytest.mark.parametrize("help", ["--help", "--help-all"])
@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_no_line_of_help_is_over_80_columns(name: str, help: str) -> None:
    lines = help_of(*filter(None, [name, help])).splitlines()
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_has_help_and_a_metavar(name: str) -> None:
    for option in options(name):
        assert option.help, option.name
        assert option.help[-1] in ".!?", option.help
        assert option.is_flag or option.metavar, option.name


@pytest.mark.parametrize("name", COMMANDS)
def test_help_all_shows_every_option_and_help_the_common_ones(name: str) -> None:
    short, full = help_of(name, "--help"), help_of(name, "--help-all")
    for option in options(name):
        typed = re.compile(rf"^  (-\w, )?{max(option.opts, key=len)}\b", re.MULTILINE)
        assert typed.search(full)
        assert bool(typed.search(short)) != option.rare


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself_with_an_example(name: str) -> None:
    assert COMMANDS[name] in help_of("--help")
    shown = help_of(name, "--help")
    examples = re.findall(rf"^ +(charnn {name}.*)$", shown, re.MULTILINE)
    assert examples
    known = {opt for option in options(name) for opt in option.opts}
    for example in examples:
        assert set(re.findall(r"--[a-z-]+", example)) <= known


def test_short_help_is_the_same() -> None:
    assert help_of("-h") == help_of("--help")
    assert help_of("train", "-h") == help_of("train", "--help")


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("sample --prompt Once", "--prime"),
        ("sample --prompt=Once", "--prime"),
        ("sample --temp 1", "--temperature"),
        ("sample --max-tokens 9", "--length"),
        ("sample --tokens 9", "--length"),
        ("sample --top_k 9", "--top-k"),
        ("train --fp16", "--precision fp16"),
        ("train --amp", "--precision auto"),
        ("train --overwrite", "--out FOLDER"),
        ("plot --overwrite", "--force"),
        ("train --lr 1", "--learning-rate"),
        ("train --layers 1", "--num-layers"),
        ("train --hidden 1", "--hidden-size"),
        ("train --batch 1", "--batch-size"),
        ("train --gpu", "--device cuda"),
        ("train --data x.txt", "it is an argument, without an option: CORPUS"),
        ("sample --ckpt run", "it is an argument, without an option: CHECKPOINT"),
        ("info --model run", "it is an argument, without an option: CHECKPOINT"),
        ("plot --checkpoint run", "it is an argument, without an option: RUN"),
    ],
)
def test_the_words_of_other_tools_find_their_option(typed: str, said: str) -> None:
    result = charnn(*typed.split())
    assert result.exit_code == 2
    last = result.stderr.splitlines()[-1]
    assert last.startswith(f"error: no such option: {typed.split()[1].split('=')[0]}; ")
    assert re.search(rf" {re.escape(said)}( \S+)?; see `charnn ", last)


def test_every_synonym_is_of_something_that_a_command_takes() -> None:
    params = [param for name in COMMANDS for param in command(name).params]
    names = {name for param in params for name in (*param.opts, param.metavar or "")}
    for ours, theirs in _SYNONYMS.items():
        assert any(ours.split()[0] in name for name in names), ours
        assert not names & {f"--{word}" for word in theirs.split()} - {
            "--window", "--fp16", "--lines", "--text", "--file",
        }  # fmt: skip  # an option of one command may be foreign to another


def test_an_option_that_nobody_knows_is_refused_as_click_does() -> None:
    result = charnn("sample", "--nonsense")
    assert result.exit_code == 2
    assert "no such option" in result.stderr
