"""The settings that keep a run from cuDNN's persistent kernel, and those that allow it."""

import re
from dataclasses import replace

import pytest

from charnn.config import ModelConfig, TrainConfig
from charnn.training.cudnn import CudaDevice, unmet_conditions
from charnn.training.plan import Budget, make_plan
from charnn.training.recipe import Facts
from tests.training.test_plan import Machine

GPU = CudaDevice("a GPU", (9, 0), 132, 80 << 30)
MODEL = ModelConfig(65, hidden_size=512, num_layers=2, embedding_size=256)
TRAIN = TrainConfig(10, batch_size=64, seq_len=64, learning_rate=1e-3, seed=1, precision="fp16")


def test_a_suitable_run_meets_all_conditions() -> None:
    assert unmet_conditions(MODEL, TRAIN, GPU) == []


UNMET = pytest.mark.parametrize(
    ("model", "train", "expected"),
    [
        ({"cell": "gru"}, {}, '`cell="gru"` (try lstm)'),
        ({"hidden_size": 500}, {}, "`hidden_size=500` (try 512)"),
        ({"hidden_size": 2048}, {}, "`hidden_size=2048` (try 1024)"),
        ({"hidden_size": 60}, {}, "`hidden_size=60` (try 128)"),
        ({"embedding_size": 300}, {}, "`embedding_size=300` (try 256)"),
        ({}, {"precision": "bf16"}, '`precision="bf16"` (try fp16)'),
        ({}, {"batch_size": 20}, "`batch_size=20` (try 24)"),
        ({}, {"batch_size": 200}, "`batch_size=200` (try 128)"),
        (
            {"cell": "rnn", "hidden_size": 1024},
            {"batch_size": 128},
            '`cell="rnn"` with so many units and lanes (try `batch_size=88`)',
        ),
    ],
)


@UNMET
def test_an_unmet_condition_names_the_setting_and_the_nearest_that_would_meet_it(
    model: dict[str, object], train: dict[str, object], expected: str
) -> None:
    conditions = unmet_conditions(replace(MODEL, **model), replace(TRAIN, **train), GPU)  # type: ignore[arg-type]
    assert conditions == [expected]


@UNMET
def test_a_setting_that_is_advised_meets_all_conditions(
    model: dict[str, object], train: dict[str, object], expected: str
) -> None:
    met = re.fullmatch(r"`(\w+)=.*\(try (?:`(\w+)=)?(\w+)`?\)", expected)
    assert met is not None
    name, value = met[2] or met[1], int(met[3]) if met[3].isdigit() else met[3]
    model, train = (
        given | {name: value} if name in config.names() else given
        for given, config in ((model, ModelConfig), (train, TrainConfig))
    )
    assert unmet_conditions(replace(MODEL, **model), replace(TRAIN, **train), GPU) == []  # type: ignore[arg-type]


def test_the_number_of_lanes_is_that_of_one_process() -> None:
    train = replace(TRAIN, batch_size=40)
    assert unmet_conditions(MODEL, train, GPU) == []
    assert unmet_conditions(MODEL, train, GPU, processes=2) == ["`batch_size=40` (try 48)"]


@pytest.mark.parametrize(
    "gpu",
    [
        replace(GPU, multiprocessors=84),
        replace(GPU, capability=(7, 5)),
        replace(GPU, capability=(8, 6), multiprocessors=100),
    ],
)
def test_older_and_smaller_gpus_have_the_kernel_for_no_network(gpu: CudaDevice) -> None:
    (condition,) = unmet_conditions(MODEL, TRAIN, gpu)
    assert "not one of the GPUs" in condition


@pytest.mark.parametrize("symbols", [30_000, 1_000_000, 10**9])
@pytest.mark.parametrize("record", [None, 3.0, 40.0])
@pytest.mark.parametrize("processes", [1, 3, 4])
def test_a_plan_for_a_gpu_meets_all_conditions(
    symbols: int, record: float | None, processes: int
) -> None:
    facts = Facts(
        symbols, symbols // 9, 65, 1, on_cpu=False, on_cuda=True, record_length=record,
        world_size=processes,
    )  # fmt: skip
    plan = make_plan(facts, Budget(minutes=10), {}, Machine())
    assert unmet_conditions(plan.model, plan.train, GPU, processes) == []


def test_a_plan_for_several_processes_gives_each_the_same_number_of_lanes() -> None:
    for processes in (2, 3, 5):
        facts = Facts(10**6, 10**5, 65, 1, world_size=processes)
        lanes = make_plan(facts, Budget(steps=10), {}, Machine()).train.batch_size
        assert lanes % processes == 0
        assert 16 <= lanes < 16 + processes
