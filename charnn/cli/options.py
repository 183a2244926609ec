"""Options that commands share, built from the config classes; and how a checkpoint is found."""

import errno
import math
import re
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args, get_type_hints

import click

from charnn.cli.terminal import status
from charnn.config import Settings
from charnn.errors import CheckpointError
from charnn.runs.folder import RUN_INFO, RUNS, best_checkpoint, find_runs, is_run, restart_advice

if TYPE_CHECKING:
    from charnn.checkpoint import Checkpoint

Command = TypeVar("Command", bound=Callable[..., Any])
AUTO = "auto"  # the same as leaving an option that is chosen out
CHOSEN = ("dropout", "optimizer", "weight_decay", "precision")  # although there are defaults


def settings(kind: type[Settings], *names: str, chosen: str = "") -> Callable[[Command], Command]:
    """Options for the named fields of a config class, with its help, limits and defaults.

    With `chosen` a value that was not typed is None, because it is found in another way than by a
    default; the help then says `[chosen]` in this word.
    """
    hints = get_type_hints(kind)
    by_name = {field.name: field for field in fields(kind)}  # type: ignore[arg-type]

    def decorate(command: Command) -> Command:
        for name in reversed(names):
            command = _option(name, by_name[name], hints[name], chosen)(command)
        return command

    return decorate


def _option(name: str, field: Field[Any], hint: Any, chosen: str) -> Callable[[Command], Command]:
    text = field.metadata["help"]
    base = next((t for t in get_args(hint) if t is not types.NoneType), hint)
    if base is bool:
        return click.option(flag(name), is_flag=True, help=text)
    default = None if chosen or field.default is MISSING else field.default
    if chosen:
        fixed = field.default is not MISSING and name not in CHOSEN
        text += f"  [default: {field.default}]" if fixed else f"  [{chosen}]"
    kind = _type(base, field.metadata)
    if chosen and isinstance(kind, click.Choice) and name in CHOSEN:
        kind = click.Choice([*kind.choices, AUTO])
    return click.option(flag(name), type=kind, default=default, show_default=not chosen, help=text)


def _type(base: type, limits: Mapping[str, Any]) -> "click.ParamType[Any]":
    if limits["choices"]:
        return click.Choice(limits["choices"])
    if limits["endless"]:
        return _OrEndless(min=limits["low"])
    bounds = {
        "min": limits["low"] if limits["above"] is None else limits["above"],
        "max": limits["high"],
        "min_open": limits["above"] is not None,
    }
    if base is int:
        return click.IntRange(**bounds)
    return click.FloatRange(**bounds) if base is float else click.STRING


class _OrEndless(click.IntRange):
    """A whole number, or `inf`, which becomes None."""

    name = "integer or inf"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return None if value == "inf" else super().convert(value, param, ctx)


class Unit(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.4 on only
    """A unit of the model: its layer and its number in it."""

    name = "L:N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not (match := re.fullmatch(r"(\d{1,9}):(\d{1,9})", value, re.ASCII)):
            self.fail(f"{value!r}: a unit is LAYER:NUMBER, both from 0, such as 0:17", param, ctx)
        return int(match[1]), int(match[2])


class Clamped(Unit):
    """A unit, and the value that it is held at."""

    name = "L:N=VALUE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        unit, _, number = value.partition("=")
        try:
            held = float(number)
        except ValueError:
            held = math.nan
        if not math.isfinite(held):
            self.fail(f"{value!r}: not LAYER:NUMBER=VALUE, such as 0:17=1", param, ctx)
        return (*super().convert(unit, param, ctx), held)


def flag(name: str) -> str:
    """The option as it is typed."""
    return "--" + name.replace("_", "-")


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


def split_checkpoint(arguments: Sequence[str], quiet: bool) -> tuple[Path, tuple[str, ...]]:
    """The checkpoint that the arguments begin with, and the rest of them.

    A first argument that is a folder holding `*.safetensors`, or ends in `.safetensors`, is it;
    otherwise it is the newest run under `./checkpoints`.
    """
    others = [argument for argument in arguments[1:] if _checkpoint(Path(argument))]
    if others:
        raise click.UsageError(f"one checkpoint at most, and it comes first: {others[0]}")
    if arguments and (named := _checkpoint(Path(arguments[0]))):
        return named, tuple(arguments[1:])
    runs = find_runs()
    if not runs:
        named_what = f"{arguments[0]} is no checkpoint" if arguments else "no checkpoint named"
        raise CheckpointError(
            f"{named_what}, and no run under ./{RUNS}; begin with `charnn train TEXT`"
        )
    path = best_checkpoint(runs[0])
    status(f"checkpoint: {path}", quiet)
    return path, tuple(arguments)


def one_checkpoint(arguments: Sequence[str], quiet: bool) -> Path:
    """The checkpoint of a command that takes nothing else."""
    if len(arguments) > 1:
        raise click.UsageError(f"one checkpoint at most, not {len(arguments)}")
    if arguments and not _checkpoint(Path(arguments[0])):
        raise CheckpointError(
            f"{arguments[0]}: no run folder and no .safetensors file; `charnn runs` lists the runs"
        )
    return split_checkpoint(arguments, quiet)[0]


def open_checkpoint(path: Path, quiet: bool) -> "Checkpoint":
    """What is in a run folder or a checkpoint file, with a note where an older one had to do."""
    from charnn.runs.opening import open_model

    loaded, note = open_model(path)
    if note:
        status(f"note: {note}", quiet)
    return loaded


def _checkpoint(path: Path) -> Path | None:
    if path.suffix == ".safetensors":
        return path
    try:
        if (path / RUN_INFO).exists() and not is_run(path):
            raise CheckpointError(restart_advice(path))
        return best_checkpoint(path) if is_run(path) else None
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        return None  # a text, such as `charnn inspect` takes, and no name
