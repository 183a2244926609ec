"""Imports point one way: the table of the house, held against the code."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "charnn"

# Each room with what stands below it; a room may import from those and from itself.
BELOW: dict[str, set[str]] = {}
for room, rooms in (
    ("version", ()),
    ("synonyms", ()),
    ("words", ("synonyms",)),
    ("errors", ("words",)),
    ("threads", ()),
    ("files", ("errors",)),
    ("config", ("errors", "words")),
    ("arguments", ("config",)),
    ("device", ("arguments",)),
    ("device_name", ("device",)),
    ("torch_modes", ("device",)),
    ("cuda_graph", ()),
    ("text", ("files", "arguments")),
    ("model", ("text",)),
    ("tensor_file", ("errors",)),
    ("facts", ("text",)),
    ("checkpoint", ("model", "facts", "tensor_file", "torch_modes", "version")),
    ("training", ("checkpoint", "cuda_graph")),
    ("runs", ("training",)),
    ("sampling", ("checkpoint", "cuda_graph", "device_name")),  # knows nothing of training or runs
    ("insight", ("runs", "sampling")),
    ("settings", ()),
    ("language_model", ("insight", "settings")),
    ("api", ("language_model",)),
    ("__init__", ("api", "threads")),
    ("cli", ("__init__",)),
    ("__main__", ("cli",)),
):
    BELOW[room] = set(rooms).union(*(BELOW[r] for r in rooms))

FILES = sorted(PACKAGE.rglob("*.py"))


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    """The modules of the package that the file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path} imports relatively"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in found if name.split(".")[0] == "charnn"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path: Path) -> None:
    room = room_of(path)
    for name in imports(path):
        target = name.split(".")[1]
        if target not in BELOW:  # a public name of the package itself
            target = "__init__"
        assert target == room or target in BELOW[room], f"{room} imports {name}"


@pytest.mark.parametrize("room", sorted(p.name for p in PACKAGE.iterdir() if p.is_dir()))
def test_there_is_no_circle_within_a_folder(room: str) -> None:
    if room == "__pycache__":
        return
    inside = {
        path.stem: {n.split(".")[2] for n in imports(path) if n.startswith(f"charnn.{room}.")}
        for path in (PACKAGE / room).glob("*.py")
    }
    while inside:
        leaves = {name for name, needs in inside.items() if not needs & inside.keys()}
        assert leaves, f"a circle among {sorted(inside)}"
        inside = {name: needs for name, needs in inside.items() if name not in leaves}


def test_package_folders_import_nothing() -> None:
    for path in PACKAGE.glob("*/__init__.py"):
        assert not path.read_text().strip()


def test_the_settings_know_neither_torch_nor_click() -> None:
    text = (PACKAGE / "config.py").read_text()
    assert "import torch" not in text
    assert "import click" not in text


def test_only_one_file_imports_matplotlib() -> None:
    importers = set()
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if any(name.split(".")[0] in ("matplotlib", "mpl_toolkits") for name in names):
                importers.add(str(path.relative_to(PACKAGE)))
    assert importers == {str(Path("insight", "plot.py"))}
