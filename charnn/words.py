"""Wording shared by messages."""


def plural(count: int, singular: str, irregular: str | None = None) -> str:
    """Return a count with its noun: the singular for 1, else the plural; thousands separated.

    >>> plural(1, "character"), plural(2000, "character"), plural(0, "entry", "entries")
    ('1 character', '2,000 characters', '0 entries')
    """
    return f"{count:,} {singular if count == 1 else irregular or f'{singular}s'}"
