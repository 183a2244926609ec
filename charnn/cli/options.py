"""Options that commands share, built from the config classes; and how a checkpoint is found."""

import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

import click

from charnn.config import Settings
from charnn.errors import CheckpointError
from charnn.folder import best_of, find_runs, is_run

Command = TypeVar("Command", bound=Callable[..., Any])


def settings(
    kind: type[Settings], *names: str, chosen: bool = False
) -> Callable[[Command], Command]:
    """Options for the named fields of a config class, with its help, limits and defaults.

    `chosen`: the value is None unless typed, because something better than a default chooses it.
    """
    hints = get_type_hints(kind)
    by_name = {field.name: field for field in fields(kind)}  # type: ignore[arg-type]

    def decorate(command: Command) -> Command:
        for name in reversed(names):
            command = _option(name, by_name[name], hints[name], chosen)(command)
        return command

    return decorate


def _option(name: str, field: Field[Any], hint: Any, chosen: bool) -> Callable[[Command], Command]:
    flag = "--" + name.replace("_", "-")
    text = field.metadata["help"]
    base = next((t for t in get_args(hint) if t is not types.NoneType), hint)
    if base is bool:
        return click.option(flag, is_flag=True, help=text)
    default = None if chosen or field.default is MISSING else field.default
    if chosen:
        text += "  [chosen]" if field.default is MISSING or name == "dropout" else ""
        text += f"  [default: {field.default}]" if "[chosen]" not in text else ""
    return click.option(
        flag, type=_type(base, field.metadata), default=default, show_default=not chosen, help=text
    )


def _type(base: type, limits: Mapping[str, Any]) -> "click.ParamType[Any]":
    if limits["choices"]:
        return click.Choice(limits["choices"])
    bounds = {
        "min": limits["low"] if limits["above"] is None else limits["above"],
        "max": limits["high"],
        "min_open": limits["above"] is not None,
    }
    if base is int:
        return click.IntRange(**bounds)
    return click.FloatRange(**bounds) if base is float else click.STRING


def device_option(command: Command) -> Command:
    """`--device`, shared by all commands that compute."""
    text = "Where to compute: auto (CUDA, then CPU), cpu, cuda, cuda:1, mps."
    return click.option("--device", default="auto", show_default=True, help=text)(command)


def quiet_option(command: Command) -> Command:
    """`--quiet`, which leaves only errors on stderr."""
    return click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors.")(command)


def json_option(command: Command) -> Command:
    """`--json`, for programs that read the result."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


def tell(message: str, quiet: bool = False) -> None:
    """One line of the story, on stderr."""
    if not quiet:
        click.echo(message, err=True)


def split_checkpoint(arguments: Sequence[str], quiet: bool) -> tuple[Path, tuple[str, ...]]:
    """The checkpoint that the arguments begin with, and the rest of them.

    A first argument that is a folder holding `*.safetensors`, or ends in `.safetensors`, is it;
    otherwise it is the newest run under `./checkpoints`.
    """
    if arguments:
        first = Path(arguments[0])
        if first.suffix == ".safetensors":
            return first, tuple(arguments[1:])
        if is_run(first):
            return best_of(first), tuple(arguments[1:])
    runs = find_runs()
    if not runs:
        raise CheckpointError(
            "no run under ./checkpoints and no checkpoint named; begin with `charnn train TEXT`"
        )
    path = best_of(runs[0])
    tell(f"checkpoint: {path}", quiet)
    return path, tuple(arguments)


def one_checkpoint(arguments: Sequence[str], quiet: bool) -> Path:
    """The checkpoint of a command that takes nothing else."""
    path, rest = split_checkpoint(arguments, quiet)
    if rest:
        raise CheckpointError(
            f"{rest[0]}: no run folder and no .safetensors file; try `charnn runs`"
        )
    return path
