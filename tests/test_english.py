"""Docstrings begin plainly; outside charnn/cli, no string names an option and nothing prints."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "charnn"

RIDDLE = re.compile(r"(What|How|Whether|As|Of)\b")
OPTION = re.compile(r"(^| )--[a-z]")

Definition = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def nodes(path: Path) -> Iterator[ast.AST]:
    return ast.walk(ast.parse(path.read_text(encoding="utf-8")))


FILES = sorted(PACKAGE.rglob("*.py"))
LIBRARY = [path for path in FILES if path.relative_to(PACKAGE).parts[0] != "cli"]
every_file = pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
library_file = pytest.mark.parametrize("path", LIBRARY, ids=lambda path: path.name)


@every_file
def test_a_docstring_begins_with_a_verb_or_a_noun(path: Path) -> None:
    docstrings = [
        (getattr(node, "name", path.stem), ast.get_docstring(node) or "")
        for node in nodes(path)
        if isinstance(node, Definition)
    ]
    assert not [(name, text) for name, text in docstrings if RIDDLE.match(text)]


@library_file
def test_no_text_of_the_library_names_a_command_line_option(path: Path) -> None:
    texts = [
        node.value
        for node in nodes(path)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    assert not [text for text in texts if OPTION.search(text)]


@library_file
def test_the_library_prints_nothing(path: Path) -> None:
    found = []
    for node in nodes(path):
        match node:
            case ast.Call(func=ast.Name(id="print")):
                found.append("print")
            case ast.Import(names=aliases):
                found += [alias.name for alias in aliases]
            case ast.ImportFrom(module=str(module)):
                found.append(module)
    forbidden = {"print", "tqdm", "click"}
    if path.name == "api.py":  # whose `progress=True` shows a bar in a notebook
        forbidden.remove("tqdm")
    assert not forbidden & {name.split(".")[0] for name in found}
