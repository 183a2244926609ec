"""Options built from the config classes, and options that several commands share."""

import types
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, fields
from typing import Any, get_args, get_type_hints

import click

from charnn.cli.help import Decorated, option
from charnn.cli.terminal import set_quiet
from charnn.cli.types import OrEndless, Real, Whole
from charnn.config import Settings

AUTO = "auto"  # typed for a setting that is chosen automatically, the same as leaving it out
# Chosen automatically even though their config class has a default.
CHOSEN = ("dropout", "optimizer", "weight_decay", "precision")
METAVARS = {"encoding": "NAME", "top_k": "K"}  # where the type says too little


def settings(
    kind: type[Settings],
    *names: str,
    group: str = "Options",
    rare: bool = False,
    chosen: str = "",
) -> Callable[[Decorated], Decorated]:
    """Return a decorator that adds an option for each named field of a config class.

    The help, limits and default are the field's. With `chosen` the default is not passed on: an
    option that was not typed is None, and `chosen` names in the help what decides instead.
    """
    hints = get_type_hints(kind)
    by_name = {field.name: field for field in fields(kind)}  # type: ignore[arg-type]

    def decorate(command: Decorated) -> Decorated:
        for name in reversed(names):
            given = _settings(by_name[name], hints[name], chosen)
            command = option(flag(name), group=group, rare=rare, **given)(command)
        return command

    return decorate


def _settings(field: Field[Any], hint: Any, chosen: str) -> dict[str, Any]:
    """Return what `option` takes for a field of a config class."""
    base = next((t for t in get_args(hint) if t is not types.NoneType), hint)
    limits = field.metadata
    given: dict[str, Any] = {"help": limits["help"]}
    if base is bool:
        return given | {"is_flag": True}
    given["type"] = _type(base, limits)
    is_share = base is float and limits["high"] is not None and limits["high"] <= 1
    if not limits["choices"]:
        given["metavar"] = METAVARS.get(field.name) or _metavar(base, is_share)
    elif chosen and field.name in CHOSEN:
        given["type"] = click.Choice([*limits["choices"], AUTO])
    notes = [_range(limits)] if is_share else []
    if not chosen:
        given["default"] = None if field.default is MISSING else field.default
    elif field.default is MISSING or field.name in CHOSEN:
        notes.append(f"default: {chosen}")
    else:
        notes.append(f"default: {field.default}")
    return given | {"notes": "; ".join(notes)}


def _type(base: type, limits: Mapping[str, Any]) -> "click.ParamType[Any]":
    if limits["choices"]:
        return click.Choice(limits["choices"])
    if base is str:
        return click.STRING
    bounds = (limits["low"], limits["high"], limits["above"])
    if limits["endless"]:
        return OrEndless(*bounds)
    return Whole(*bounds) if base is int else Real(*bounds)


def _metavar(base: type, is_share: bool) -> str:
    """Return P for a share or a probability, X for another number, N for a whole number."""
    if base is float:
        return "P" if is_share else "X"
    return "N" if base is int else "TEXT"


def _range(limits: Mapping[str, Any]) -> str:
    high = f"{limits['high']:g}"
    return f"up to {high}" if limits["low"] is None else f"{limits['low']:g} to {high}"


def flag(name: str) -> str:
    """Return the option of a setting, such as --seq-len for `seq_len`."""
    return "--" + name.replace("_", "-")


def device_option(command: Decorated) -> Decorated:
    """Add --device, which all commands that compute share."""
    text = "auto, cpu, cuda, cuda:1 or mps. auto means CUDA if it is available, otherwise the CPU."
    return option("--device", default="auto", metavar="NAME", group="General", help=text)(command)


def quiet_option(command: Decorated) -> Decorated:
    """Add --quiet, which leaves only errors on stderr."""

    def callback(context: click.Context, param: click.Parameter, value: bool) -> None:
        if value:
            set_quiet()

    return option(
        "-q", "--quiet", is_flag=True, is_eager=True, expose_value=False, callback=callback,
        group="General", help="Print only errors.",
    )(command)  # fmt: skip


def json_option(command: Decorated) -> Decorated:
    """Add --json, for programs that read the result."""
    text = "Print the result as JSON."
    return option("--json", "as_json", is_flag=True, group="Output", help=text)(command)


def encoding_options(command: Decorated) -> Decorated:
    """Add the options of commands that read a text with a trained model."""
    for decorate in (
        option(
            "--skip-unknown", is_flag=True, group="Text", rare=True,
            help="Leave out characters that the model does not know.",
        ),
        option(
            "--encoding-errors", type=click.Choice(["strict", "replace", "skip"]), group="Text",
            rare=True, help="What to do with bytes of TEXT that the encoding does not know.",
            notes="default: as trained",
        ),
        option(
            "--encoding", metavar="NAME", group="Text", rare=True,
            help="Character encoding of TEXT.", notes="default: as trained",
        ),
    ):  # fmt: skip
        command = decorate(command)
    return command
