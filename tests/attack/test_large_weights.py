"""A model predicts with finite numbers, or is refused in one line when it is opened."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

import charnn
from charnn import checkpoint
from charnn.checkpoint import Checkpoint
from charnn.config import ModelConfig
from charnn.errors import CharnnError, SettingError
from charnn.model.network import CharNetwork, arrays_of
from charnn.model.weights import MAX_WEIGHT
from charnn.sampling.products import HalfProduct
from tests.attack.checks import no_traceback, one_line_error

COMMANDS = [
    ("sample", "--length", "9", "--format", "jsonl", "--logprobs", "2"),
    ("sample", "--length", "9", "--beam", "3", "--format", "jsonl"),
    ("eval", "--json"),
    ("inspect", "tin", "--json"),
]


def saved(trained: Checkpoint, cell: str, folder: Path, size: float) -> Path:
    """Save a model of this cell whose weights are all + or - `size`; return its path."""
    torch.manual_seed(3)
    model = ModelConfig(trained.model.vocabulary_size, 6, 2, 5, cell=cell)

    def large(weight: Tensor) -> Tensor:
        return torch.where(torch.rand_like(weight) < 0.5, -size, size)

    weights = arrays_of({name: large(t) for name, t in CharNetwork(model).state_dict().items()})
    path = folder / "large.safetensors"
    checkpoint.save(path, replace(trained, model=model, weights=weights, progress=None))
    return path


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_the_largest_weights_give_finite_numbers_everywhere(
    trained: Checkpoint, tmp_path: Path, text_file: Path, cell: str
) -> None:
    path = saved(trained, cell, tmp_path, MAX_WEIGHT)
    for command, *options in COMMANDS:
        first = [text_file] if command == "eval" else []
        result = no_traceback(command, path, *first, *options, "--quiet")
        assert result.exit_code == 0, result.stderr

        def refuse(name: str) -> None:
            raise AssertionError(f"{name} is not JSON")

        json.loads(result.stdout, parse_constant=refuse)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: " ".join(command))
def test_larger_weights_are_refused_in_one_line(
    trained: Checkpoint, tmp_path: Path, command: tuple[str, ...]
) -> None:
    path = saved(trained, "lstm", tmp_path, 1e38)
    name, *options = command
    error = one_line_error(name, path, *options)
    for said in (str(path), "1e+15", "use another checkpoint", "learning rate"):
        assert said in error
    with pytest.raises(CharnnError, match="use another checkpoint"):
        charnn.load(path)


def test_weights_that_float16_cannot_sum_are_refused() -> None:
    with pytest.raises(SettingError, match="too large for `fp16`"):
        HalfProduct(torch.full((3, 4), 20_000.0), torch.zeros(3))
