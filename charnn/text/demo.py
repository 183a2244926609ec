"""The text that every Python carries, so that the first command needs no download."""

import importlib


def built_in_text() -> str:
    """Python's language reference as `help("for")` shows it, about 470,000 characters."""
    topics: dict[str, str] = importlib.import_module("pydoc_data.topics").topics
    return "\n".join(topics[name] for name in sorted(topics))
