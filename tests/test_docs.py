"""Documents are up to date, and what they name exists."""

import importlib
import re
from pathlib import Path

import pytest

from tests.documented import ROOT, document

SCRIPTS = Path(__file__).parents[1] / "scripts"


def test_docs_cli_md_is_what_the_help_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(SCRIPTS)
    script = importlib.import_module("make_cli_docs")
    written = script.DOCUMENT.read_text(encoding="utf-8")
    assert written == script.cli_docs(), "run python scripts/make_cli_docs.py"


DOCUMENTS = [
    *ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("[dc]*/README.md")
]  # fmt: skip


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_to_a_file(path: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+)\)", path.read_text(encoding="utf-8"))
    relative = [target for target in targets if "://" not in target]
    assert [target for target in relative if not (path.parent / target).exists()] == []


def test_the_layout_names_files_that_exist() -> None:
    rows = re.findall(r"^\| (`.*?) \|", document("CONTRIBUTING.md").split("# Rules")[0], re.M)
    names = [name for row in rows for name in re.findall(r"`([^`]+)`", row)]
    assert len(names) > 10
    assert [name for name in names if not (ROOT / name).exists()] == []


def test_the_index_lists_every_document() -> None:
    linked = re.findall(r"\]\(([^)]+)\)", document("docs/index.md"))
    listed = {(ROOT / "docs" / target).resolve() for target in linked}
    assert listed >= {*(ROOT / "docs").rglob("*.md")} - {ROOT / "docs" / "index.md"}
