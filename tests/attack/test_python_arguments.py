"""Every argument of every public function is used or refused with a CharnnError, whatever it is."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import charnn as package
from charnn.errors import CharnnError, SettingError
from charnn.settings import SampleSettings, TrainSettings
from tests.conftest import words

charnn: Any = package  # wrong types are what is tested


class PathLike:
    """A path of a type of its own."""

    def __init__(self, path: object) -> None:
        self._path = path

    def __fspath__(self) -> Any:
        return self._path


VALUES: dict[str, Any] = {
    "None": None, "True": True, "minus 1": -1, "0": 0, "nan": float("nan"), "inf": float("inf"),
    "huge": 10**30, "very huge": 10**400, "half": 0.5, "x": "x", "empty": "", "number": "1",
    "NUL": "a\0b", "long": "x" * 5000, "surrogate": "\ud800", "bytes": b"", "list": [],
    "list of None": [None], "dict": {}, "object": object(), "function": len, "int64": np.int64(1),
    "float32": np.float32(0.5), "NumPy bool": np.bool_(True), "array": np.zeros(3),
    "tensor": torch.zeros(2), "path": Path("nowhere"), "like a path": PathLike("nowhere"),
    "like bytes": PathLike(b"x"), "regex": "(", "class": int,
}  # fmt: skip

TINY: dict[str, Any] = {"steps": 1, "seed": 1, "hidden_size": 4, "num_layers": 1}
BUDGET = ("minutes", "epochs", "steps")


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a text and the runs `run` and, of records, `lines`."""
    folder = tmp_path_factory.mktemp("arguments")
    (folder / "text.txt").write_text(words(900))
    for name, lines in (("run", False), ("lines", True)):
        charnn.train(folder / "text.txt", out=folder / name, lines=lines, **TINY)
    return folder


@pytest.fixture
def here(desk: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.chdir(tmp_path)
    return desk


def _load(desk: Path, **arguments: Any) -> object:
    return charnn.load(arguments.pop("path", desk / "run"), **arguments)


def _curves(desk: Path, **arguments: Any) -> object:
    return charnn.curves(arguments.get("run", desk / "run"))


def _train(desk: Path, **arguments: Any) -> object:
    corpus = arguments.pop("corpus", desk / "text.txt")
    if "init_from" in arguments:  # whose sizes are those of the run
        return charnn.train(corpus, steps=1, seed=1, **arguments)
    if set(arguments) & set(BUDGET):
        raise_at_once(arguments)
    return charnn.train(corpus, **{**TINY, **arguments})


def raise_at_once(arguments: dict[str, Any]) -> None:
    """Let a run of any length end with its first report."""

    def stop(_: object) -> None:
        raise SettingError("enough")

    arguments |= {"steps": arguments.get("steps"), "on_report": stop}


def _resume(desk: Path, **arguments: Any) -> object:
    folder, corpus = arguments.pop("folder", desk / "run"), arguments.pop("corpus", None)
    if set(arguments) & set(BUDGET):
        raise_at_once(arguments)
    return charnn.resume(folder, *([] if corpus is None else [corpus]), **arguments)


def method(name: str, run: str = "run", **given: Any) -> Callable[..., object]:
    """Return a function that calls a method of the model with some arguments of its own."""

    def call(desk: Path, **arguments: Any) -> object:
        found = getattr(charnn.load(desk / run), name)(**{**given, **arguments})
        return list(zip(range(9), found, strict=False)) if isinstance(found, Iterator) else found

    return call


SAMPLE = tuple(SampleSettings.__annotations__)
FUNCTIONS: dict[str, tuple[Callable[..., object], tuple[str, ...]]] = {
    "load": (_load, ("path", "device", "precision")),
    "curves": (_curves, ("run",)),
    "train": (
        _train,
        ("corpus", "out", *BUDGET, "val", "device", "seed", "threads", "init_from", "save_every",
         "keep", "force", "on_report", "progress", *TrainSettings.__annotations__),
    ),
    "resume": (
        _resume,
        ("folder", "corpus", *BUDGET, "val", "device", "threads", "save_every", "patience",
         "keep", "force", "on_report", "progress"),
    ),
    "stream": (method("stream", length=2), ("prime", "stop", *SAMPLE)),
    "samples": (method("samples", count=2, length=2), ("count", "prime", "stop", "alternatives")),
    "records": (
        method("records", "lines", count=1, length=2),
        ("count", "prime", "unique", "novel", "keep", "validator", "max_tries"),
    ),
    "beam": (method("beam", width=2, length=2), ("width", "prime", "length", "stop")),
    "score": (method("score", text=words(20)), ("text", "protocol", "window")),
    "inspect": (method("inspect", text="st"), ("text",)),
    "find_units": (method("find_units", text=words(600)), ("text", "properties", "best")),
    "gradients": (
        method("gradients", text=words(90), distance=2, positions=2),
        ("text", "distance", "positions"),
    ),
    "with_clamps": (lambda desk, clamp: charnn.load(desk / "run").with_clamps(clamp), ("clamp",)),
    "Clamp": (
        lambda desk, **a: charnn.load(desk / "run").with_clamps(
            charnn.Clamp(**{"layer": 0, "unit": 0, "value": 0.5, **a})
        ),
        ("layer", "unit", "value"),
    ),
}  # fmt: skip
CASES = [(name, argument) for name, (_, arguments) in FUNCTIONS.items() for argument in arguments]


@pytest.mark.medium
@pytest.mark.parametrize(("function", "argument"), CASES, ids=map("-".join, CASES))
def test_any_argument_is_used_or_refused_in_one_short_line(
    function: str, argument: str, here: Path
) -> None:
    wrong = {}
    for name, value in VALUES.items():
        try:
            FUNCTIONS[function][0](here, **{argument: value})
        except CharnnError as error:
            message = str(error)
            if len(message) > 600 or "\n" in message:
                wrong[name] = f"{len(message)} characters: {message:.200}"
        except Exception as error:
            if argument != "on_report":  # whose errors are the user's own
                wrong[name] = repr(error)[:200]
    assert not wrong


@pytest.mark.parametrize("number", [int, np.int64, np.int8, np.uint16, float, np.float32])
def test_numbers_may_be_of_any_type(number: Callable[[int], Any], here: Path) -> None:
    model: Any = charnn.load(PathLike(str(here / "run")))
    plain = model.sample("st", length=9, temperature=1, seed=2)
    if number in (float, np.float32):
        assert model.sample("st", length=9, temperature=number(1), seed=2) == plain
        with pytest.raises(SettingError, match="`length` must be of type int"):
            model.sample(length=number(9))
        return
    assert model.sample("st", length=number(9), temperature=number(1), seed=number(2)) == plain
    best = charnn.train(
        here / "text.txt", steps=number(1), hidden_size=number(4), threads=number(1),
        seed=number(1), save_every=number(1), out=PathLike("new"),
    )  # fmt: skip
    assert charnn.load(best).gradients(distance=number(3), positions=number(2)).positions == 2
    assert charnn.resume(PathLike("new"), steps=number(2)) == best


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, r: list(r.records(1, keep="(")), "`keep` is not a regular expression"),
        (lambda m, r: list(r.records(-1)), "`count` must be at least 0"),
        (lambda m, r: list(r.records(1, max_tries=0)), "`max_tries` must be at least 1"),
        (lambda m, r: m.gradients(distance=0), "`distance` must be at least 1"),
        (lambda m, r: m.gradients(positions=0), "`positions` must be at least 1"),
        (lambda m, r: m.find_units(words(900), best=-1), "`best` must be at least 1"),
        (lambda m, r: m.find_units(words(900), {"x": len}), "the property 'x' must return"),
        (lambda m, r: charnn.train(minutes="1"), "`minutes` must be of type float"),
        (lambda m, r: charnn.train(save_every=float("nan")), "`save_every` must be a finite"),
        (lambda m, r: charnn.train(save_every=-1), "`save_every` must be at least 0"),
        (lambda m, r: charnn.train(threads="2"), "`threads` must be of type int"),
        (lambda m, r: charnn.train(device=None), "`device` must be a text, not None"),
        (lambda m, r: charnn.resume("run", steps="40"), "`steps` must be of type int"),
        (lambda m, r: charnn.load(m.folder, "cpu", precision="fp16"), "for a GPU"),
    ],
)
def test_an_argument_that_cannot_be_used_is_named(
    call: Callable[..., object], message: str, here: Path
) -> None:
    with pytest.raises(SettingError, match=message):
        call(charnn.load(here / "run"), charnn.load(here / "lines"))


def test_a_text_without_an_end_is_refused_where_all_of_it_is_returned(desk: Path) -> None:
    model = charnn.load(desk / "run")
    for call in (model.sample, lambda **settings: model.samples(2, **settings)):
        with pytest.raises(SettingError, match="without a `length` or a `stop` no sample ends"):
            call(length=None)
    assert len(next(iter(model.stream(length=None, seed=1)))) == 1
    assert charnn.load(desk / "lines").sample(length=None, seed=1).count("\n") == 0
