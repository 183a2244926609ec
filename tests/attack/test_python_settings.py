"""Wrong settings in Python are errors of one line, and NumPy's numbers are as good as Python's."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import charnn
from charnn.errors import CharnnError
from charnn.language_model import LanguageModel


@pytest.fixture(scope="module")
def model(run_folder: Path) -> LanguageModel:
    return charnn.load(run_folder)


def drawn(result: Any) -> Any:
    """Draw what is only drawn when it is asked for."""
    return list(result) if isinstance(result, Iterator) else result


Call = Callable[[Any], Any]
WRONG: dict[str, Call] = {
    "beam(-2)": lambda m: m.beam(-2, length=5),
    "beam(0)": lambda m: m.beam(0, length=5),
    "beam(2.5)": lambda m: m.beam(2.5, length=5),
    "beam(10**9)": lambda m: m.beam(10**9, length=5),
    "beam(length=None)": lambda m: m.beam(2, length=None),
    "beam(length=-1)": lambda m: m.beam(2, length=-1),
    "samples(-1)": lambda m: m.samples(-1, length=5),
    "samples('3')": lambda m: m.samples("3", length=5),
    "samples(True)": lambda m: m.samples(True, length=5),
    "samples(length=None)": lambda m: m.samples(2, length=None),
    "alternatives=-1": lambda m: m.samples(1, length=5, alternatives=-1),
    "alternatives=1.0": lambda m: m.samples(1, length=5, alternatives=1.0),
    "stop=[1]": lambda m: m.sample(stop=[1]),
    "stop=1": lambda m: m.sample(stop=1),
    "stop=None": lambda m: m.sample(stop=None),
    "stop=['']": lambda m: m.sample(stop=[""]),
    "stop=[b'']": lambda m: m.sample(stop=[b""]),
    "length=2**63": lambda m: m.sample(length=2**63),
    "length=10**400": lambda m: m.sample(length=10**400),
    "length=1.5": lambda m: m.sample(length=1.5),
    "length=np.float64": lambda m: m.sample(length=np.float64(5)),
    "length='x' * 10**6": lambda m: m.sample(length="x" * 10**6),
    "seed=-1": lambda m: m.sample(seed=np.int64(-1)),
    "temperature=nan": lambda m: m.sample(temperature=np.float32("nan")),
    "prime=1": lambda m: m.sample(1),
    "prime=b'a'": lambda m: m.sample(b"a"),
}


@pytest.mark.parametrize("call", WRONG.values(), ids=WRONG.keys())
def test_a_wrong_setting_is_refused_in_one_line(model: LanguageModel, call: Call) -> None:
    with pytest.raises(CharnnError) as caught:
        drawn(call(model))
    line = str(caught.value)
    assert line.isprintable()
    assert len(line) < 300


RIGHT: dict[str, tuple[Call, Call]] = {
    "length": (
        lambda m: m.sample(length=np.int64(9), seed=np.uint8(3)),
        lambda m: m.sample(length=9, seed=3),
    ),
    "temperature": (
        lambda m: m.sample(length=9, seed=3, temperature=np.float32(0.5), top_k=np.int16(3)),
        lambda m: m.sample(length=9, seed=3, temperature=0.5, top_k=3),
    ),
    "samples": (
        lambda m: m.samples(np.int64(2), length=9, seed=3, alternatives=np.int8(1)),
        lambda m: m.samples(2, length=9, seed=3, alternatives=1),
    ),
    "beam": (lambda m: m.beam(np.int64(2), length=np.int64(4)), lambda m: m.beam(2, length=4)),
    "no samples": (lambda m: m.samples(0, length=5), lambda m: []),
    "no beam": (lambda m: [one.text for one in m.beam(2, length=0)], lambda m: [""]),
    "stop": (
        lambda m: m.sample(length=99, seed=3, stop=b"a"),
        lambda m: m.sample(length=99, seed=3, stop=iter(["a"])),
    ),
}


@pytest.mark.parametrize(("call", "same"), RIGHT.values(), ids=RIGHT.keys())
def test_other_numbers_and_edges_are_taken(model: LanguageModel, call: Call, same: Call) -> None:
    assert drawn(call(model)) == drawn(same(model))
