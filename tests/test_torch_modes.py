"""PyTorch's global modes, which the user sets, change nothing that charnn computes; and charnn
leaves them as they are."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import charnn
from charnn.torch_modes import default_torch_modes, in_default_torch_modes
from tests.conftest import words

TINY: dict[str, Any] = {
    "hidden_size": 6, "num_layers": 2, "embedding_size": 5, "batch_size": 3, "seq_len": 8,
    "dropout": 0.2, "seed": 1,
}  # fmt: skip


@contextlib.contextmanager
def setting(function: Callable[[Any], object], value: object, after: object) -> Iterator[None]:
    function(value)
    try:
        yield
    finally:
        function(after)


Mode = Callable[[], Any]
MODES: dict[str, Mode] = {
    "float64": lambda: setting(torch.set_default_dtype, torch.float64, torch.float32),
    "bfloat16": lambda: setting(torch.set_default_dtype, torch.bfloat16, torch.float32),
    "float16": lambda: setting(torch.set_default_dtype, torch.float16, torch.float32),
    "default device": lambda: setting(torch.set_default_device, "meta", None),
    "device block": lambda: torch.device("meta"),
    "no_grad": torch.no_grad,
    "grad disabled": lambda: setting(torch.set_grad_enabled, False, True),
    "inference_mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "deterministic": lambda: setting(torch.use_deterministic_algorithms, True, False),
    "flush denormal": lambda: setting(torch.set_flush_denormal, True, False),
    "random state": lambda: setting(torch.manual_seed, 123, 1),
}


@contextlib.contextmanager
def all_modes() -> Iterator[None]:
    """Within the block, all modes are set that can be set together."""
    with contextlib.ExitStack() as stack:
        for name in ("float64", "default device", "inference_mode", "autocast", "deterministic",
                     "flush denormal", "random state"):  # fmt: skip
            stack.enter_context(MODES[name]())
        yield


def modes() -> tuple[object, ...]:
    """Everything that a mode may have changed."""
    return (
        torch.get_default_dtype(), torch.get_default_device(), torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu"),
        torch.get_autocast_dtype("cpu"), torch.is_autocast_cache_enabled(),
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(), torch.backends.cudnn.benchmark,
        np.float32(1e-40) * np.float32(1) == 0, torch.get_rng_state().numpy().tobytes(),
        np.random.get_state()[1].tobytes(), torch.get_num_threads(),  # type: ignore[index]
    )  # fmt: skip


def _train(text: Path, folder: Path) -> bytes:
    # `init_from` reads a checkpoint and computes the mean of its embeddings
    best = charnn.train(text, out=folder, steps=4, init_from=text.parent / "first", **{
        name: value for name, value in TINY.items() if name not in SIZES
    })  # fmt: skip
    return best.read_bytes() + best.with_name("last.safetensors").read_bytes()


SIZES = {"hidden_size", "num_layers", "embedding_size"}


def _resume(text: Path, folder: Path) -> bytes:
    charnn.train(text, out=folder, steps=2, **TINY)
    best = charnn.resume(folder, steps=4)
    return best.read_bytes() + best.with_name("last.safetensors").read_bytes()


def _load(text: Path, folder: Path) -> str:
    network = charnn.load(text.parent / "first").network
    return str({name: (t.dtype, t.device, t.tolist()) for name, t in network.state_dict().items()})


def _model(text: Path) -> charnn.LanguageModel:
    return charnn.load(text.parent / "first")


def _clamped(text: Path, _: Path) -> str:
    return _model(text).with_clamps(charnn.Clamp(0, 3, 1.0)).sample("st", length=20, seed=1)


ENTRANCES: dict[str, Callable[[Path, Path], object]] = {
    "train": _train,
    "resume": _resume,
    "load": _load,
    "sample": lambda text, _: _model(text).sample("st", length=20, seed=1, top_p=0.9, no_repeat=3),
    "samples": lambda text, _: list(
        _model(text).samples(3, "st", length=9, seed=1, alternatives=2, typical=0.9)
    ),
    "stream": lambda text, _: list(_model(text).stream("st", length=20, seed=1)),
    "beam": lambda text, _: _model(text).beam(3, "st", length=6),
    "score": lambda text, _: _model(text).score("stein\nest").nats,
    "inspect": lambda text, _: _model(text).inspect("stein").logits.tolist(),
    "find_units": lambda text, _: _model(text).find_units(words(1000)).to_json(),
    "gradients": lambda text, _: _model(text).gradients(distance=4, positions=3).to_json(),
    "clamps": _clamped,
    "records": lambda text, _: list(
        charnn.load(text.parent / "lines").records(3, unique=True, seed=1, max_tries=9)
    ),
}


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text, with the runs `first` and, of records, `lines` beside it."""
    folder = tmp_path_factory.mktemp("modes")
    text = folder / "words.txt"
    text.write_text(words(1500))
    charnn.train(text, out=folder / "first", steps=2, **TINY)
    charnn.train(text, out=folder / "lines", steps=2, lines=True, **TINY)
    return text


@pytest.fixture(scope="module")
def expected(desk: Path) -> dict[str, object]:
    """The result of each entrance without a mode."""
    return {
        name: entrance(desk, desk.parent / f"plain {name}") for name, entrance in ENTRANCES.items()
    }


each_mode = pytest.mark.parametrize(
    "mode",
    [all_modes, *(pytest.param(mode, marks=pytest.mark.medium) for mode in MODES.values())],
    ids=["all", *MODES],
)


@pytest.mark.parametrize("entrance", ENTRANCES)
@each_mode
def test_a_mode_changes_no_result_and_is_left_as_it_was(
    mode: Mode, entrance: str, desk: Path, expected: dict[str, object], tmp_path: Path
) -> None:
    with mode():
        before = modes()
        result = ENTRANCES[entrance](desk, tmp_path / "run")
        assert modes() == before
    assert result == expected[entrance]


@each_mode
def test_between_the_pieces_of_a_stream_the_users_mode_applies(mode: Mode, desk: Path) -> None:
    model = _model(desk)
    with mode():
        before = modes()
        for _ in model.stream("st", length=5, seed=1):
            assert modes() == before


@each_mode
def test_on_report_runs_in_the_users_mode(mode: Mode, desk: Path, tmp_path: Path) -> None:
    with mode():
        before = modes()
        met: list[tuple[object, ...]] = []
        charnn.train(
            desk, out=tmp_path / "run", steps=2, on_report=lambda _: met.append(modes()),
            threads=torch.get_num_threads(), **TINY,
        )  # fmt: skip
        assert met
        assert set(met) == {before}


def test_deterministic_kernels_are_for_the_block_only() -> None:
    before = modes()
    with default_torch_modes(deterministic=True):
        assert torch.are_deterministic_algorithms_enabled()
        with default_torch_modes():
            assert torch.are_deterministic_algorithms_enabled()  # a text sampled during the run
    assert modes() == before
    for enabled in in_default_torch_modes(
        (torch.are_deterministic_algorithms_enabled() for _ in range(2)), deterministic=True
    ):
        assert enabled
        assert modes() == before


def test_threads_that_overlap_leave_the_users_mode() -> None:
    with MODES["float64"]():
        one, other = default_torch_modes(), default_torch_modes()
        one.__enter__()
        other.__enter__()
        assert torch.get_default_dtype() is torch.float32
        # as another thread would, which has inference mode for itself but not the data type
        other.__exit__(None, None, None)
        assert torch.get_default_dtype() is torch.float32
        one.__exit__(None, None, None)
        assert torch.get_default_dtype() is torch.float64
