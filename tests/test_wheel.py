"""The wheel that a user installs is complete: the command runs, trains and is typed."""

import importlib.metadata
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from charnn.version import __version__
from tests.conftest import TINY, words
from tests.documented import ROOT


def _has(distribution: str, major: int = 0) -> bool:
    """Return True if the distribution is installed here, in this major version or a newer one."""
    try:
        return int(importlib.metadata.version(distribution).split(".")[0]) >= major
    except importlib.metadata.PackageNotFoundError:
        return False


pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="a POSIX layout of the environment"),
    pytest.mark.skipif(not _has("pip", 23), reason="needs pip 23"),
    pytest.mark.skipif(not _has("setuptools", 77), reason="needs setuptools 77"),
]
# What the checkout adds to the path must not hide what is missing from the wheel.
ENVIRONMENT = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}


def run(*command: str | Path, folder: Path) -> str:
    """Run a command in `folder` and return its output; the test fails if the command does."""
    done = subprocess.run(
        list(map(str, command)), cwd=folder, env=ENVIRONMENT, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built without network from a copy of the sources."""
    folder = tmp_path_factory.mktemp("build")
    source = folder / "source"
    ignored = shutil.ignore_patterns("__pycache__", ".*")
    shutil.copytree(ROOT / "charnn", source / "charnn", ignore=ignored)
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, source)
    pip = (sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check")
    run(*pip, "--no-deps", "--no-build-isolation", "--wheel-dir", folder, source, folder=folder)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python of a fresh environment with the wheel in it, and nothing of the checkout.

    The wheel's dependencies are those installed here: a `.pth` file adds this environment's
    packages to the path, but does not read its `.pth` files, one of which leads to the checkout
    where charnn is an editable installation.
    """
    folder = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", "--without-pip", folder, folder=folder)
    python = folder / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
    run(*pip, "--python", python, "install", "--no-deps", "--no-index", wheel, folder=folder)
    site = run(python, "-c", "import site; print(site.getsitepackages()[0])", folder=folder)
    libraries = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    Path(site.strip(), "dependencies.pth").write_text("\n".join(sorted(libraries)))
    return python


def test_the_wheel_holds_every_file_of_the_package(wheel: Path) -> None:
    there = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "charnn").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and not path.name.startswith(".")
    }
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if name.startswith("charnn/")}
    assert packed == there


def test_an_installed_wheel_trains_and_samples(installed: Path, tmp_path: Path) -> None:
    charnn = installed.parent / "charnn"
    where = run(installed, "-c", "import charnn; print(charnn.__file__)", folder=tmp_path)
    assert Path(where.strip()).is_relative_to(installed.parent.parent)
    assert __version__ in run(charnn, "--version", folder=tmp_path)
    (tmp_path / "words.txt").write_text(words(2000))
    best = run(charnn, "train", "words.txt", "--steps", "2", *TINY, "--out", "run", folder=tmp_path)
    assert (tmp_path / best.strip()).is_file()
    assert len(run(charnn, "sample", "run", "--length", "20", folder=tmp_path)) == 21


def test_mypy_finds_the_types_of_an_installed_wheel(installed: Path, tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    user = "import charnn\nreveal_type(charnn.load('run'))\nreveal_type(charnn.train('text'))\n"
    (tmp_path / "user.py").write_text(user)
    # Reading torch's own types would take a minute and show nothing about charnn's.
    settings = "[mypy]\nstrict = true\n[mypy-torch.*]\nfollow_imports = skip\n"
    (tmp_path / "mypy.ini").write_text(settings)
    mypy = (sys.executable, "-m", "mypy", "--cache-dir", tmp_path / "cache")
    found = run(*mypy, "--python-executable", installed, "user.py", folder=tmp_path)
    assert 'Revealed type is "charnn.language_model.LanguageModel"' in found
    assert 'Revealed type is "pathlib.Path"' in found
