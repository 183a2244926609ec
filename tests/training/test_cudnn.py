"""When PyTorch takes cuDNN's persistent kernel, and what keeps a run from it."""

from dataclasses import replace

import pytest

from charnn.config import ModelConfig, TrainConfig
from charnn.training.cudnn import Card, unmet_conditions
from charnn.training.plan import Budget, make_plan
from charnn.training.recipe import Facts
from tests.training.test_plan import Machine

CARD = Card("a card", (9, 0), 132, 80 << 30)
MODEL = ModelConfig(65, hidden_size=512, num_layers=2, embedding_size=256)
TRAIN = TrainConfig(10, batch_size=64, seq_len=64, learning_rate=1e-3, seed=1, precision="fp16")


def test_nothing_keeps_a_suitable_run_from_it() -> None:
    assert unmet_conditions(MODEL, TRAIN, CARD) == []


@pytest.mark.parametrize(
    ("model", "train", "said"),
    [
        ({"cell": "gru"}, {}, "--cell gru (lstm has it)"),
        ({"hidden_size": 500}, {}, "--hidden-size 500 (512 has it)"),
        ({"hidden_size": 2048}, {}, "--hidden-size 2048 (1024 has it)"),
        ({"hidden_size": 60}, {}, "--hidden-size 60 (128 has it)"),
        ({"embedding_size": 300}, {}, "--embedding-size 300 (256 has it)"),
        ({}, {"precision": "bf16"}, "--precision bf16 (fp16 has it)"),
        ({}, {"batch_size": 20}, "--batch-size 20 (24 has it)"),
        ({}, {"batch_size": 200}, "--batch-size 200 (128 has it)"),
    ],
)
def test_what_misses_it_is_named_with_what_would_not(
    model: dict[str, object], train: dict[str, object], said: str
) -> None:
    assert unmet_conditions(replace(MODEL, **model), replace(TRAIN, **train), CARD) == [said]  # type: ignore[arg-type]


def test_lanes_are_those_of_one_process() -> None:
    train = replace(TRAIN, batch_size=40)
    assert unmet_conditions(MODEL, train, CARD) == []
    assert unmet_conditions(MODEL, train, CARD, processes=2) == ["--batch-size 40 (48 has it)"]


@pytest.mark.parametrize(
    "card", [replace(CARD, processors=84), replace(CARD, capability=(7, 5)),
             replace(CARD, capability=(8, 6), processors=100)]
)  # fmt: skip
def test_other_cards_have_it_for_no_network(card: Card) -> None:
    (why,) = unmet_conditions(MODEL, TRAIN, card)
    assert "not one of the cards" in why


@pytest.mark.parametrize("symbols", [30_000, 1_000_000, 10**9])
@pytest.mark.parametrize("record", [None, 3.0, 40.0])
@pytest.mark.parametrize("processes", [1, 3, 4])
def test_a_plan_for_a_card_can_have_it(symbols: int, record: float | None, processes: int) -> None:
    facts = Facts(
        symbols, symbols // 9, 65, 1, on_cpu=False, on_cuda=True, record_length=record,
        world_size=processes,
    )  # fmt: skip
    plan = make_plan(facts, Budget(minutes=10), {}, Machine())
    assert unmet_conditions(plan.model, plan.train, CARD, processes) == []


def test_a_plan_for_several_processes_gives_each_as_many_lanes() -> None:
    for processes in (2, 3, 5):
        facts = Facts(10**6, 10**5, 65, 1, world_size=processes)
        lanes = make_plan(facts, Budget(steps=10), {}, Machine()).train.batch_size
        assert lanes % processes == 0
        assert 16 <= lanes < 16 + processes
