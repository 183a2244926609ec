"""The bounds that a message names are those that are accepted, and one step beyond is refused."""

import math
import re
from typing import Any

import click
import pytest

from charnn.cli.main import COMMANDS, main
from charnn.cli.types import Real, Whole
from charnn.config import (
    ModelConfig,
    SampleConfig,
    Settings,
    TextConfig,
    TrainConfig,
    ValidationConfig,
)
from charnn.errors import SettingError

CONFIGS: list[type[Settings]] = [
    ModelConfig, SampleConfig, TextConfig, TrainConfig, ValidationConfig,
]  # fmt: skip
SETTINGS = [
    pytest.param(config, name, bound, id=f"{name}-{bound}")
    for config in CONFIGS
    for name in config.names()
    for bound in ("low", "high", "above")
    if config.__dataclass_fields__[name].metadata[bound] is not None  # type: ignore[attr-defined]
]
CONTEXT = click.Context(main)
OPTIONS = [
    pytest.param(option, id=f"{command} {option.opts[-1]}")
    for command in COMMANDS
    for option in main.get_command(CONTEXT, command).params  # type: ignore[union-attr]
    if isinstance(option.type, Whole | Real)
]


def beyond(bound: float, direction: float) -> float:
    """Return the next number in this direction."""
    if isinstance(bound, int):
        return bound + int(direction)
    return math.nextafter(bound, direction * math.inf)


@pytest.mark.parametrize(("config", "name", "bound"), SETTINGS)
def test_a_setting_takes_its_bounds_and_nothing_beyond(
    config: type[Settings], name: str, bound: str
) -> None:
    field: Any = config.__dataclass_fields__[name]  # type: ignore[attr-defined]
    limit = field.metadata[bound]
    within = beyond(limit, 1) if bound == "above" else limit
    assert config.checked(name, within) == within
    outside = limit if bound == "above" else beyond(limit, 1 if bound == "high" else -1)
    with pytest.raises(SettingError, match=rf"`{name}` must be (at least|at most|above) ") as error:
        config.checked(name, outside)
    (advised,) = re.findall(r"(?:at least|at most|above) ([^,]+),", str(error.value))
    assert type(limit)(advised) == limit


def said(option: click.Parameter, typed: str) -> str:
    """Return why an option refuses a value, or ""."""
    try:
        option.type.convert(typed, option, CONTEXT)
    except click.BadParameter as error:
        return error.message
    return ""


@pytest.mark.parametrize("option", OPTIONS)
def test_an_option_takes_the_bounds_that_its_message_names(option: click.Parameter) -> None:
    for typed in ("-1e308", "1e308") if isinstance(option.type, Real) else (-(2**80), 2**80):
        message = said(option, str(typed))
        for words, number in re.findall(r"(at least|at most|above) ([\d.e+-]+)", message):
            if words == "above":
                assert said(option, number)
                assert not said(option, repr(beyond(float(number), 1)))
            else:
                assert not said(option, number), message
                value = float(number) if isinstance(option.type, Real) else int(number)
                assert said(option, repr(beyond(value, 1 if words == "at most" else -1)))
        if message:
            wanted = "at most" if float(typed) > 0 else "at least|above"
            assert re.search(wanted, message), message
