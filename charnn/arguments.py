"""Checks of what Python functions are given: each returns a plain value or raises `SettingError`.

Numbers may be of any type, such as NumPy's. The fields of the config classes are checked there.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

from charnn.config import MAX_INT, check, plain
from charnn.errors import SettingError
from charnn.words import shown


def whole_number(name: str, value: Any, low: int, high: int = MAX_INT) -> int:
    """Return a whole number from `low` to `high`."""
    value = plain(value)
    check(name, value, int, _limits(low=low, high=high))
    return int(value)


def number(name: str, value: Any, *, low: float | None = None, above: float | None = None) -> float:
    """Return a finite number that is at least `low`, or above `above`."""
    value = plain(value)
    check(name, value, float, _limits(low=low, above=above))
    return float(value)


def flag(name: str, value: Any) -> bool:
    """Return True or False."""
    value = plain(value)
    check(name, value, bool, _limits())
    return bool(value)


def choice(name: str, value: Any, choices: Sequence[str]) -> str:
    """Return one of `choices`."""
    check(name, value, str, _limits(choices=tuple(choices)))
    return str(value)


def text(name: str, value: Any) -> str:
    """Return a text of any length."""
    if not isinstance(value, str):
        raise SettingError(f"`{name}` must be a text, not {shown(value)}")
    return value


def function(name: str, value: Any) -> Callable[..., Any]:
    """Return something that can be called."""
    if not callable(value):
        raise SettingError(f"`{name}` must be a function, not {shown(value)}")
    return value


def pattern(name: str, value: Any) -> re.Pattern[str]:
    """Return a regular expression, compiled."""
    if isinstance(value, re.Pattern) and isinstance(value.pattern, str):
        return value
    try:
        return re.compile(text(name, value))
    except (re.error, RecursionError, OverflowError) as error:
        raise SettingError(
            f"`{name}` is not a regular expression: {error}: {shown(value)}"
        ) from error


def _limits(**limits: Any) -> dict[str, Any]:
    return {"low": None, "high": None, "above": None, "choices": None} | limits
