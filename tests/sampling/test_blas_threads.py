"""A text takes the faster of one and two threads, whose numbers are the same."""

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
        self.seconds, self.now, self.threads = {1: one, 2: two}, 0.0, 0
        self.used: list[int] = []

    def step(self, choice: ThreadChoice) -> None:
        choice.begin()
        self.used.append(self.threads)
        self.now += self.seconds[self.threads]
        choice.end()
        assert self.threads == 4  # the usual number again

    def set(self, threads: int) -> int:
        self.threads = threads
        return 0


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine(1.0, 0.6)
    monkeypatch.setattr(blas_threads, "blas_function", lambda name: made.set)
    monkeypatch.setattr(blas_threads, "usual_threads", lambda: 4)
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


def test_a_given_number_of_threads_stays(machine: Machine) -> None:
    for count in (1, 2):
        choice, machine.used = ThreadChoice(count), []
        for _ in range(2 * ROUND):
            machine.step(choice)
        assert set(machine.used) == {count}


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


@needs_openblas
def test_numpy_has_its_usual_threads_after_each_step() -> None:
    network = CharNetwork(ModelConfig(65, 100, 1, 16))
    get, set_threads = blas_function("get_num_threads"), blas_function("set_num_threads")
    assert get
    assert set_threads
    before, engines = usual_threads(), Engines(network.weights(), threads=1)
    workspace = engines.read(engines.one(), [1])
    engines.one().step([2], workspace)
    assert get() == before


def test_an_engine_works_without_openblas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blas_threads, "blas_function", lambda name: None)
    monkeypatch.setattr(blas_threads, "usual_threads", lambda: 0)
    weights: Weights = CharNetwork(ModelConfig(65, 100, 1, 16)).weights()
    engines = Engines(weights)
    assert np.isfinite(engines.read(engines.one(), range(5)).logits).all()
