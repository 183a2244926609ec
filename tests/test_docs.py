"""Generated documents are up to date."""

import importlib
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[1] / "scripts"


def test_docs_cli_md_is_what_the_help_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(SCRIPTS)
    script = importlib.import_module("make_cli_docs")
    written = script.DOCUMENT.read_text(encoding="utf-8")
    assert written == script.cli_docs(), "run python scripts/make_cli_docs.py"
