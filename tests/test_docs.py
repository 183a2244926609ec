"""Documents are up to date, what they name exists, and the examples of the docstrings run."""

import doctest
import importlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import charnn
from charnn import api, language_model
from tests.conftest import words
from tests.documented import ROOT, blocks, document

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


def test_docs_python_md_is_what_the_docstrings_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(SCRIPTS)
    script = importlib.import_module("make_python_docs")
    written = script.DOCUMENT.read_text(encoding="utf-8")
    assert written == script.document(), "run python scripts/make_python_docs.py"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the runs that the examples name."""
    folder = tmp_path_factory.mktemp("examples")
    (folder / "corpus.txt").write_text(words(20_000) + "p")
    (folder / "names.txt").write_text(words(2000).replace(" ", "\n"))
    sizes: Any = {"hidden_size": 6, "num_layers": 1, "embedding_size": 5, "seed": 1}
    runs = folder / "checkpoints"
    charnn.train(folder / "corpus.txt", steps=4, out=runs / "corpus", **sizes)
    charnn.train(folder / "names.txt", steps=4, lines=True, out=runs / "names", **sizes)
    return folder


def examples() -> Iterator[Any]:
    finder = doctest.DocTestFinder(recurse=False)
    documented = [getattr(api, name) for name in ("train", "resume", "load", "curves")]
    methods = vars(language_model.LanguageModel).items()
    documented += [f for name, f in methods if not name.startswith("_") and callable(f)]
    for function in documented:
        for test in finder.find(function, function.__qualname__, globs={"charnn": charnn}):
            yield pytest.param(test, id=test.name)


@pytest.mark.parametrize("example", list(examples()))
def test_examples_run(
    example: doctest.DocTest, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    assert example.examples, "a public function without an example"
    doctest.DebugRunner().run(example, clear_globs=False)


@pytest.mark.medium
def test_the_example_with_several_processes_runs(
    run_folder: Path, tmp_path: Path, text_file: Path
) -> None:
    example = next(block for _, block in blocks(document("docs/python.md")) if "spawn" in block)
    shutil.copytree(run_folder, tmp_path / "checkpoints" / "corpus")
    (tmp_path / "example.py").write_text(example)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "example.py"], cwd=tmp_path, capture_output=True, text=True, timeout=120,
        env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    model = charnn.load(run_folder)
    assert done.stdout == f"{[model.sample('st', length=20, seed=n) for n in range(4)]}\n"
