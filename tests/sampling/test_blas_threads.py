"""A text takes the faster of one and two threads, whose numbers are the same."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from charnn.config import ModelConfig
from charnn.model.network import CharNetwork
from charnn.model.weights import Weights
from charnn.sampling import blas_threads
from charnn.sampling.blas_threads import ROUND, ROUNDS, ThreadChoice, blas_function, usual_threads
from charnn.sampling.engines import Engines

needs_openblas = pytest.mark.skipif(
    blas_function("set_num_threads") is None, reason="NumPy has no OpenBLAS here"
)


class Machine:
    """A clock, and the number of threads that is set; a step takes as long as `seconds` says."""

    def __init__(self, one: float, two: float) -> None:
        self.seconds, self.now, self.threads = {1: one, 2: two}, 0.0, 4
        self.used: list[int] = []

    def step(self, choice: ThreadChoice) -> None:
        choice.begin()
        self.used.append(self.threads)
        self.now += self.seconds[self.threads]
        choice.end()
        assert self.threads == 4  # the usual number again

    def function(self, name: str) -> Callable[..., int]:
        def set_threads(count: int) -> int:
            self.threads = count
            return 0

        return set_threads if name == "set_num_threads" else lambda: self.threads


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine(1.0, 0.6)
    monkeypatch.setattr(blas_threads, "blas_function", made.function)
    monkeypatch.setattr(blas_threads, "SETTING", blas_threads._Setting())
    monkeypatch.setattr("time.perf_counter", lambda: made.now)
    return made


def test_two_threads_are_taken_where_they_are_faster(machine: Machine) -> None:
    choice = ThreadChoice()
    for _ in range(50 * ROUND):
        machine.step(choice)
    assert machine.used == [1] * ROUND + [2] * 49 * ROUND


def test_one_thread_is_taken_beside_a_busy_process_and_two_after_it(machine: Machine) -> None:
    choice = ThreadChoice()
    for _ in range(10 * ROUND):
        machine.step(choice)
    machine.seconds[2] = 20.0
    for _ in range(100 * ROUND):
        machine.step(choice)
    assert machine.used[-50 * ROUND :].count(2) <= 4  # tried again, and dropped at once
    assert choice.count == 1
    machine.seconds[2] = 0.6
    for _ in range((ROUNDS + 1) * ROUND):
        machine.step(choice)
    assert choice.count == 2


def test_the_time_between_steps_does_not_count(machine: Machine) -> None:
    choice, machine.seconds[2] = ThreadChoice(), 20.0
    for place in range(20 * ROUND):
        machine.step(choice)
        machine.now += 1000.0 * (place == 3)  # a reader who pauses
    assert machine.used[2 * ROUND :].count(2) == 0


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_a_given_number_of_threads_stays_and_is_two_at_most(machine: Machine, threads: int) -> None:
    choice = ThreadChoice(threads)
    for _ in range(2 * ROUND):
        machine.step(choice)
    assert set(machine.used) == {min(threads, 2)}


def test_the_last_of_several_steps_restores_the_usual_threads(machine: Machine) -> None:
    first, second = ThreadChoice(1), ThreadChoice(2)
    first.begin()
    second.begin()
    first.end()
    assert machine.threads == 2
    second.end()
    assert machine.threads == 4


@needs_openblas
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
@pytest.mark.parametrize("H", [96, 100, 333])
def test_one_and_two_threads_compute_the_same_bits(cell: str, H: int) -> None:
    torch.manual_seed(1)
    network = CharNetwork(ModelConfig(65, H, 2, 16, cell=cell))
    logits = []
    for threads in (1, 2):
        engines = Engines(network.weights(), threads=threads)
        workspace = engines.read(engines.one(), range(20))
        logits.append(workspace.logits.copy())
    assert np.array_equal(*logits)


@pytest.fixture
def eight_threads() -> Iterator[None]:
    """Let NumPy use eight threads, more than compute the same bits as one."""
    set_threads, before = blas_function("set_num_threads"), usual_threads()
    assert set_threads
    set_threads(8)
    yield
    set_threads(before)


@needs_openblas
def test_threads_of_python_get_the_bits_of_one_and_leave_numpy_as_it_was(
    eight_threads: None,
) -> None:
    torch.manual_seed(1)
    engine = Engines(CharNetwork(ModelConfig(65, 384, 2, 16, cell="gru")).weights()).one()
    state = np.zeros((1, 1, 2, 384), np.float32)

    def logits(_: int) -> bytes:
        workspace = engine.start(state)
        return b"".join(engine.step([n % 65], workspace).tobytes() for n in range(40))

    alone = logits(0)
    with ThreadPoolExecutor(3) as pool:
        assert set(pool.map(logits, range(6))) == {alone}
    assert usual_threads() == 8


@needs_openblas
def test_an_interrupted_step_leaves_numpy_as_it_was(
    eight_threads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engines(CharNetwork(ModelConfig(65, 100, 1, 16)).weights()).one()
    workspace = engine.start(np.zeros((2, 1, 1, 100), np.float32))
    monkeypatch.setattr(workspace.layers[0], "multiply", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        engine.step([1], workspace)
    assert usual_threads() == 8


def test_an_engine_works_without_openblas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blas_threads, "blas_function", lambda name: None)
    silent = blas_threads._Setting()
    for module in ("blas_threads", "numpy_engine"):
        monkeypatch.setattr(f"charnn.sampling.{module}.SETTING", silent)
    weights: Weights = CharNetwork(ModelConfig(65, 100, 1, 16)).weights()
    engines = Engines(weights)
    assert np.isfinite(engines.read(engines.one(), range(5)).logits).all()
