"""Types of options and arguments: how a value is read, and what the shell completes it to."""

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from charnn.cli.checkpoints import named_run
from charnn.config import MAX_FLOAT, MAX_INT
from charnn.files import named_path
from charnn.runs.find import find_runs

Item = CompletionItem
MOST = 1e9  # of minutes and of epochs, so that nothing computed from them overflows
# Names that no shell acts on; bash would insert any other without quotes, to be run as typed.
UNQUOTED = r"\w[\w.+@%=-]*"


class _Number(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.4 on only
    """A number from `low`, or above `above`, to `high`."""

    read: Callable[[Any], float]
    high: float

    def __init__(
        self, low: float | None = None, high: float | None = None, above: float | None = None
    ) -> None:
        self._low, self._above = low, above
        self._high = self.high if high is None else high

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            number = type(self).read(value)
        except ValueError:
            self.fail(f"{value!r:.50} is not a {self.name}", param, ctx)
        if isinstance(number, float) and not math.isfinite(number):
            self.fail(f"{value!r:.50} is not a finite number", param, ctx)
        if not self._is_within(number):
            self.fail(f"{value!s:.50} must be {self._range(number)}", param, ctx)
        return number

    def _is_within(self, number: float) -> bool:
        if self._above is not None and not number > self._above:
            return False
        least = -self.high if self._low is None else self._low
        return least <= number <= self._high

    def _range(self, number: float) -> str:
        """Return the limits in words; that of all numbers only where this one exceeds it."""
        lowest = [] if self._low is None else [f"at least {self._low:g}"]
        if self._above is not None:
            lowest = [f"above {self._above:g}"]
        all_numbers = self._high == self.high and lowest and number <= self._high
        highest = [] if all_numbers else [f"at most {self._shown(self._high)}"]
        return " and ".join([*lowest, *highest])

    @staticmethod
    def _shown(limit: float) -> str:
        return str(limit) if isinstance(limit, int) else f"{limit:.15g}"


class Whole(_Number):
    """A whole number of at most 64 bits."""

    name, read, high = "whole number", int, MAX_INT


class Real(_Number):
    """A finite number."""

    name, read, high = "number", float, MAX_FLOAT


class OrEndless(Whole):
    """A whole number, or `inf`, which becomes None."""

    name = "whole number or inf"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return None if value == "inf" else super().convert(value, param, ctx)


class Unit(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.4 on only
    """A unit of the model, as its layer and its number in the layer."""

    name = "L:N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not (match := re.fullmatch(r"(\d{1,9}):(\d{1,9})", value, re.ASCII)):
            self.fail(f"{value!r}: a unit is LAYER:NUMBER, both from 0, such as 0:17", param, ctx)
        return int(match[1]), int(match[2])


class Clamped(Unit):
    """A unit and the value that it is clamped to."""

    name = "L:N=VALUE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        unit, _, typed = value.partition("=")
        try:
            number = float(typed)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            self.fail(f"{value!r}: not LAYER:NUMBER=VALUE, such as 0:17=1", param, ctx)
        return (*super().convert(unit, param, ctx), number)


class Part(click.ParamType):  # type: ignore[type-arg]
    """One of several equal parts, as its number and theirs."""

    name = "K/N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        match = re.fullmatch(r"([1-9]\d{0,8})/([1-9]\d{0,8})", value, re.ASCII)
        if not match or int(match[1]) > int(match[2]):
            self.fail(f"{value!r}: not PART/PARTS, such as 1/4 to 4/4", param, ctx)
        return int(match[1]), int(match[2])


class Regex(click.ParamType):  # type: ignore[type-arg]
    """A regular expression."""

    name = "regex"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return re.compile(value)
        except re.error as error:
            self.fail(f"{value!r}: {error}", param, ctx)


class TextFile(click.ParamType):  # type: ignore[type-arg]
    """A file, folder or glob that is opened later, or `-`; the shell completes file names."""

    name = "file"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        named_path(value)
        return value

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[Item]:
        return [Item(incomplete, type="file")]


class Checkpoint(TextFile):
    """A run's name, a run folder or a checkpoint file; the shell completes names, then files."""

    name = "checkpoint"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[Item]:
        runs = [run.name for run in find_runs() if run.name.startswith(incomplete)]
        names = [name for name in runs if re.fullmatch(UNQUOTED, name)]
        return [*super().shell_complete(ctx, param, incomplete), *map(Item, names)]


class CheckpointOrText(Checkpoint):
    """A checkpoint, or a text that is typed as it is, which may be empty."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return value


class OutPath(click.Path):
    """The path of a file or folder to write."""

    def __init__(self, *, dir_okay: bool = True) -> None:
        super().__init__(path_type=Path, dir_okay=dir_okay, allow_dash=True)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return super().convert(str(named_path(value)), param, ctx)


class Run(Checkpoint):
    """A run; its name becomes the path of its folder."""

    name = "run"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        return named_run(value)
