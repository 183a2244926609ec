"""A training state is saved, restored and rolled back bit by bit."""

from dataclasses import replace

import pytest
import torch

from charnn.errors import CheckpointError
from charnn.training.loop import train_steps
from tests.training.small_run import (
    FP16_MODEL,
    FP16_TRAIN,
    MODEL,
    TRAIN,
    assert_equal,
    copy_of,
    overflow_when,
    resumed,
    start,
    train_to_end,
)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_a_resumed_run_equals_an_uninterrupted_one(cell: str, optimizer: str) -> None:
    model, train = replace(MODEL, cell=cell), replace(TRAIN, optimizer=optimizer)
    expected, expected_state = train_to_end(model, train)
    first, batches = start(model, train)
    steps = train_steps(first, batches, train)
    begun = [next(steps) for _ in range(5)]
    second = resumed(first, model, train)
    torch.manual_seed(99)
    assert begun + list(train_steps(second, batches, train)) == expected
    assert_equal(copy_of(second), expected_state)


def test_the_state_of_another_optimizer_is_refused() -> None:
    state, batches = start()
    next(train_steps(state, batches, TRAIN))
    with pytest.raises(CheckpointError, match=r"optimizer\.layers\.0\.weight_hh_l0\.exp_avg"):
        resumed(state, train=replace(TRAIN, optimizer="muon"))


@pytest.mark.medium
def test_a_run_that_has_skipped_every_update_can_be_resumed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    overflow_when(monkeypatch, lambda state: state.step < 4)
    expected, _ = train_to_end(FP16_MODEL, FP16_TRAIN)
    first, batches = start(FP16_MODEL, FP16_TRAIN)
    steps = train_steps(first, batches, FP16_TRAIN)
    begun = [next(steps) for _ in range(3)]
    second = resumed(first, FP16_MODEL, FP16_TRAIN)
    assert begun + list(train_steps(second, batches, FP16_TRAIN)) == expected


def test_a_snapshot_is_loaded_in_place() -> None:
    """A CUDA graph knows tensors by their addresses."""
    train = replace(TRAIN, optimizer="muon")
    state, batches = start(train=train)
    steps = train_steps(state, batches, train)
    for _ in range(2):
        next(steps)
    addresses = {name: tensor.data_ptr() for name, tensor in state._live_tensors().items()}
    snapshot, expected = state.to_snapshot(), copy_of(state)
    for _ in range(3):
        next(steps)
    state.load_snapshot(snapshot)
    assert_equal(copy_of(state), expected)
    for name, tensor in state._live_tensors().items():
        assert "random" in name or tensor.data_ptr() == addresses[name]


def test_the_random_numbers_of_the_run_and_its_caller_do_not_mix() -> None:
    undisturbed, _ = train_to_end()
    torch.manual_seed(77)
    expected = torch.rand(3)
    torch.manual_seed(77)
    state, batches = start()
    drawn, reports = [torch.rand(1)], []
    for report in train_steps(state, batches, TRAIN):
        reports.append(report)
        if len(drawn) < 3:
            drawn.append(torch.rand(1))
    assert reports == undisturbed
    assert torch.equal(torch.cat(drawn), expected)
