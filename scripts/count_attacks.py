"""How many attacks does the test suite try, by kind?

A kind is a file of tests/attack; its first line says what every attack must end in. A test that
draws its inputs counts as often as it draws one, one with a parameter `tries` so often, and every
other test once, although some make many tries. The slow tests are in the second number.

    python scripts/count_attacks.py
"""

import ast
import contextlib
import io
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
ATTACKS = ROOT / "tests" / "attack"


class Counts:
    """A plugin of pytest that counts the collected tests."""

    def __init__(self) -> None:
        self.fast: Counter[Path] = Counter()
        self.all: Counter[Path] = Counter()

    def pytest_collection_modifyitems(self, items: list[pytest.Function]) -> None:
        """Count the tests before those that are not to run are left out."""
        for item in items:
            number = tries(item)
            self.all[item.path] += number
            if not any(map(item.get_closest_marker, ("slow", "medium", "gpu"))):
                self.fast[item.path] += number


def tries(item: pytest.Function) -> int:
    """Return the number of tries of a test."""
    callspec: Any = getattr(item, "callspec", None)
    if callspec is not None and "tries" in callspec.params:
        return int(callspec.params["tries"])
    settings = getattr(item.obj, "_hypothesis_internal_use_settings", None)
    return 1 if settings is None else settings.max_examples


def kind(path: Path) -> str:
    """Return the first line of a file's docstring."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or path.stem
    return text.splitlines()[0].rstrip(".")


def main() -> None:
    """Collect the tests and print the table."""
    counts, printed = Counts(), io.StringIO()
    with contextlib.redirect_stdout(printed):
        code = pytest.main(["--collect-only", "-q", "-m", "", str(ATTACKS)], plugins=[counts])
    if code:
        sys.exit(printed.getvalue())
    print("| kind | tries | with the slow ones |")
    print("|---|---|---|")
    for path in sorted(counts.all):
        print(f"| {kind(path)} | {counts.fast[path]:,} | {counts.all[path]:,} |")
    print(f"| in all | {counts.fast.total():,} | {counts.all.total():,} |")


if __name__ == "__main__":
    main()
