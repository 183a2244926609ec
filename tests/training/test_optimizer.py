"""The optimizer, the learning-rate schedule and the loss scale."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from charnn.config import ModelConfig, TrainConfig
from charnn.errors import CheckpointError
from charnn.model.network import CharNetwork
from charnn.training.optimizer import (
    GROWTH_INTERVAL,
    MAX_SKIPPED,
    LossScale,
    Optimizer,
    learning_rate,
    next_loss_scale,
)


@given(st.lists(st.booleans(), max_size=40))
def test_the_loss_scale_halves_at_each_overflow_and_counts_those_in_a_row(
    steps: list[bool],
) -> None:
    numbers = LossScale().to_tensor()
    for overflow in steps:
        numbers = next_loss_scale(numbers, torch.tensor(overflow))
    scale = LossScale(numbers[0].item(), int(numbers[1]), int(numbers[2]))
    assert scale.scale == 2.0 ** (16 - sum(steps))
    in_a_row = 0
    for overflow in reversed(steps):
        if not overflow:
            break
        in_a_row += 1
    assert scale.skipped == in_a_row
    if not scale.exhausted:
        assert LossScale.from_tensor(scale.to_tensor()) == scale


def test_the_loss_scale_doubles_after_many_updates_without_an_overflow() -> None:
    numbers = LossScale().to_tensor()
    for _ in range(GROWTH_INTERVAL):
        assert numbers[0] == 2.0**16
        numbers = next_loss_scale(numbers, torch.tensor(False))
    assert LossScale.from_tensor(numbers) == LossScale(2.0**17)


def test_a_loss_scale_is_exhausted_below_one_or_after_many_overflows_in_a_row() -> None:
    assert LossScale(0.5).exhausted
    assert not LossScale(1.0).exhausted
    assert LossScale(2.0**16, 0, MAX_SKIPPED).exhausted
    assert not LossScale(2.0**16, 0, MAX_SKIPPED - 1).exhausted


@pytest.mark.parametrize("numbers", [[0, 0, 0], [-1, 0, 0], [1, -1, 0], [1, 1e9, 0], [1, 0, 99]])
def test_an_impossible_loss_scale_in_a_checkpoint_is_refused(numbers: list[float]) -> None:
    with pytest.raises(CheckpointError, match="impossible loss scale"):
        LossScale.from_tensor(torch.tensor(numbers, dtype=torch.float32))


def train_config(steps: int, warmup: float = 0.1) -> TrainConfig:
    return TrainConfig(
        steps=steps, batch_size=1, seq_len=1, learning_rate=0.5, seed=0, warmup=warmup
    )


@given(st.integers(5, 300), st.floats(0, 0.5))
def test_the_learning_rate_rises_to_its_peak_and_never_again(steps: int, warmup: float) -> None:
    config = train_config(steps, warmup)
    rates = [learning_rate(step, config) for step in range(steps)]
    peak = rates.index(max(rates))
    assert max(rates) == pytest.approx(0.5)
    assert rates[: peak + 1] == sorted(rates[: peak + 1])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert rates[-1] == pytest.approx(0.01)
    assert min(rates) > 0


def test_a_single_step_has_a_learning_rate() -> None:
    assert 0 < learning_rate(0, train_config(1)) <= 0.5


MODEL = ModelConfig(5, hidden_size=6, num_layers=2, embedding_size=4)
TRAIN = TrainConfig(steps=9, batch_size=3, seq_len=7, learning_rate=0.01, seed=4, optimizer="muon")


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_loaded_tensors_are_copied_in_place_and_missing_ones_become_zero(
    optimizer: str, cell: str
) -> None:
    network = CharNetwork(replace(MODEL, cell=cell))
    config = replace(TRAIN, optimizer=optimizer)
    first, second = Optimizer(network, config), Optimizer(network, config)
    for parameter in network.parameters():
        parameter.grad = torch.randn_like(parameter)
    first.set_learning_rate(0.01)
    first.step()
    saved = first.tensors()
    assert all(tensor.any() for tensor in saved.values())
    second.load_tensors(saved)
    for name, tensor in second.tensors().items():
        assert torch.equal(tensor, saved[name])
        assert tensor.data_ptr() != saved[name].data_ptr()
    second.load_tensors({})
    assert not any(tensor.any() for tensor in second.tensors().values())


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_skipped_step_changes_nothing_whatever_the_gradient(optimizer: str) -> None:
    network = CharNetwork(MODEL)
    combined = Optimizer(network, replace(TRAIN, optimizer=optimizer))
    combined.set_learning_rate(0.01)
    for value, skip, changes in (
        (1.0, 0.0, True),
        (torch.inf, 1.0, False),
        (torch.nan, 1.0, False),
    ):
        everything = dict(network.named_parameters()) | combined.tensors()
        before = {name: tensor.detach().clone() for name, tensor in everything.items()}
        for parameter in network.parameters():
            parameter.grad = torch.full_like(parameter, value)
        combined.step(torch.tensor(float(skip)))
        for name, tensor in everything.items():
            assert torch.equal(tensor, before[name]) != changes, name


def test_muon_trains_the_recurrent_layers_matrices_and_adamw_the_rest() -> None:
    saved = Optimizer(CharNetwork(MODEL), TRAIN).tensors()
    matrices = {name.removesuffix(".momentum") for name in saved if name.endswith(".momentum")}
    assert matrices == {f"layers.{n}.weight_{kind}_l0" for n in range(2) for kind in ("ih", "hh")}
    assert "head.weight.exp_avg" in saved
