"""One safetensors file: weights, config, vocabulary, figures, and what is needed to go on.

Nothing in it can run: tensors, and JSON under the single metadata key `charnn` (with several keys
safetensors' file is not byte-stable, their order being random per process). No clock, host, path
or command is in it, so that equal runs make equal files.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from charnn.config import ModelConfig, TextConfig, TrainConfig
from charnn.errors import CharnnError, CheckpointError
from charnn.files import explained, replacing
from charnn.model.network import CharNetwork
from charnn.text.tokenizer import Tokenizer, from_json
from charnn.version import __version__

FORMAT = 1
_KEY = "charnn"
_WEIGHTS = "model."
_TRAINING = "training."


@dataclass(frozen=True)
class CorpusFacts:
    """What a checkpoint remembers of its corpus: enough to recognise it, not where it lay."""

    sha256: str
    characters: int
    train_characters: int


@dataclass(frozen=True)
class Checkpoint:
    """A model and how it came to be; with `training_tensors`, also how to go on."""

    model: ModelConfig
    text: TextConfig
    train: TrainConfig
    tokenizer: Tokenizer
    corpus: CorpusFacts
    figures: Mapping[str, float | int | None]
    weights: Mapping[str, Tensor]
    progress: Mapping[str, Any] = field(default_factory=dict)  # plain JSON: step, position, …
    training_tensors: Mapping[str, Tensor] = field(default_factory=dict)  # optimizer, state, random

    def network(self, device: torch.device | str = "cpu") -> CharNetwork:
        """The network, rebuilt by its constructor, ready to predict."""
        network = CharNetwork(self.model)
        expected = {name: tensor.shape for name, tensor in network.state_dict().items()}
        met = {name: tensor.shape for name, tensor in self.weights.items()}
        if met != expected:
            wrong = sorted(
                name for name in {*met, *expected} if met.get(name) != expected.get(name)
            )
            raise CheckpointError(f"the weights do not fit the model's sizes: {', '.join(wrong)}")
        network.load_state_dict(dict(self.weights))
        return network.to(device).eval()


def save(path: Path, checkpoint: Checkpoint) -> None:
    """Write `checkpoint` to `path`, whole or not at all."""
    metadata = {
        "format": FORMAT,
        "version": __version__,
        "model": checkpoint.model.to_json(),
        "text": checkpoint.text.to_json(),
        "train": checkpoint.train.to_json(),
        "tokenizer": checkpoint.tokenizer.to_json(),
        "corpus": vars(checkpoint.corpus),
        "figures": dict(checkpoint.figures),
        "progress": dict(checkpoint.progress),
    }
    tensors = {_WEIGHTS + name: tensor for name, tensor in checkpoint.weights.items()}
    tensors |= {_TRAINING + name: tensor for name, tensor in checkpoint.training_tensors.items()}
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    data = safetensors.torch.save(plain, {_KEY: json.dumps(metadata, sort_keys=True)})
    with (
        explained(f"saving {path}", "check its folder and the free space"),
        replacing(path) as file,
    ):
        file.write(data)


def load(path: Path) -> Checkpoint:
    """Read a checkpoint, onto the CPU wherever it was trained; `CheckpointError` if it is none."""
    try:
        with safetensors.safe_open(path, framework="pt", device="cpu") as file:
            text = (file.metadata() or {}).get(_KEY)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no such file; `charnn runs` lists what there is") from error
    except (OSError, safetensors.SafetensorError) as error:
        raise CheckpointError(f"{path}: not a checkpoint ({error}); name a run folder") from error
    if text is None:
        raise CheckpointError(f"{path}: a safetensors file, but not one that charnn wrote")
    try:
        return _from_metadata(json.loads(text), tensors)
    except CharnnError as error:
        raise CheckpointError(f"{path}: {error}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{path}: the checkpoint's metadata is damaged ({error!r})"
        ) from error


def _from_metadata(metadata: Any, tensors: Mapping[str, Tensor]) -> Checkpoint:
    if metadata["format"] != FORMAT:
        version = metadata["version"]
        raise CheckpointError(
            f"written by charnn {version} in format {metadata['format']}, and this charnn reads "
            f"format {FORMAT}; `pip install charnn=={version}`"
        )
    model = ModelConfig.from_json(metadata["model"])
    tokenizer = from_json(metadata["tokenizer"])
    if tokenizer.vocabulary_size != model.vocabulary_size:
        symbols = tokenizer.vocabulary_size
        raise CheckpointError(
            f"the vocabulary has {symbols} symbols, the model {model.vocabulary_size}"
        )
    return Checkpoint(
        model,
        TextConfig.from_json(metadata["text"]),
        TrainConfig.from_json(metadata["train"]),
        tokenizer,
        CorpusFacts(**metadata["corpus"]),
        metadata["figures"],
        _part(tensors, _WEIGHTS),
        metadata["progress"],
        _part(tensors, _TRAINING),
    )


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }
