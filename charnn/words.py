"""Wording shared by messages."""

import math
from collections.abc import Iterable, Sequence

from charnn.synonyms import our_setting

_MAX_SHOWN = 80  # characters of a value in a message
ALIKE = 0.8  # similarity of a suggested name: `novl` for `novel`, but not for `poem`


def plural(count: int, singular: str, irregular: str | None = None) -> str:
    """Return a count with its noun: the singular for 1, else the plural; thousands separated.

    >>> plural(1, "character"), plural(2000, "character"), plural(0, "entry", "entries")
    ('1 character', '2,000 characters', '0 entries')
    """
    return f"{count:,} {singular if count == 1 else irregular or f'{singular}s'}"


def listed(names: Sequence[str], most: int = 3) -> str:
    """Return the first names of a list, and the number of the others.

    >>> listed(["a", "b"]), listed(["a", "b", "c", "d", "e"])
    ('a, b', 'a, b, c and 2 others')
    """
    others = len(names) - most
    shown = ", ".join(names[:most])
    return f"{shown} and {plural(others, 'other')}" if others > 0 else shown


def about(value: float) -> str:
    """Return a number to two digits, never as a power of ten.

    >>> about(0.0412), about(1.0), about(163.2), about(12_345)
    ('0.041', '1', '160', '12,000')
    """
    rounded = float(f"{value:.2g}")
    return f"{rounded:,.0f}" if abs(rounded) >= 10 else f"{rounded:.9f}".rstrip("0").rstrip(".")


def loss(nats: float, unit: str, bytes_per_char: float | None = None) -> str:
    """Return a loss per symbol in nats and bits; of bytes also per character, if that is known.

    >>> loss(0.5, "byte", 3.0)
    '0.5000 nats/byte, 0.7213 bits/byte (1.5000 nats/char, 2.1640 bits/char)'
    """
    shown = f"{nats:.4f} nats/{unit}, {nats / math.log(2):.4f} bits/{unit}"
    if bytes_per_char is None:
        return shown
    return f"{shown} ({loss(nats * bytes_per_char, 'char')})"


def shown(value: object) -> str:
    """Return a value that is not what was expected, as a message shows it: one short line."""
    try:
        line = repr(value)
    except Exception:  # that of another's object, or an integer of too many digits
        line = f"an object of type {type(value).__name__}"
    line = " ".join(line.split())
    return line if len(line) <= _MAX_SHOWN else f"{line[:_MAX_SHOWN]}…"


def closest(name: str, names: Iterable[str]) -> str | None:
    """Return the one of `names` that is most like a misspelt one, or None.

    >>> closest("hiden_size", ["hidden_size", "seq_len"])
    'hidden_size'
    """
    import difflib  # only where a name is wrong

    return next(iter(difflib.get_close_matches(name[:200], list(names), 1, ALIKE)), None)


def did_you_mean(setting: str, settings: Iterable[str]) -> str:
    """Return the end of a message about a setting that is not one of `settings`."""
    like = closest(our_setting(setting), settings)
    return f"; did you mean `{like}`?" if like else ""
