"""Read and write checkpoints: weights, configs, vocabulary and training state in one file.

A checkpoint is a safetensors file: it holds tensors, and JSON under the metadata key `charnn`, but
nothing executable. There is only one metadata key, because safetensors writes several in random
order. The file contains no time, host, path or command, so that equal runs write equal bytes.

Reading does not trust the file. Only a regular file is opened, its header must fit its size before
anything is allocated (see `charnn.tensor_file`), a checksum covers the content, every field is
checked by its config class, every tensor's name, type and shape against the model, and every number
must be finite.
"""

import errno
import json
import math
import os
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from charnn.config import ModelConfig, TextConfig, TrainConfig
from charnn.errors import (
    CharnnError,
    CheckpointError,
    DamagedError,
    MissingCheckpointError,
    VocabularyError,
    short,
)
from charnn.facts import CorpusFacts, Figures, Progress, RunFacts
from charnn.files import explained, open_regular, replace_proven, replacing
from charnn.model.weights import MAX_WEIGHT, Arrays, Weights, in_range, weight_shapes
from charnn.tensor_file import DTYPES, TensorFile
from charnn.text.bloom import BloomFilter
from charnn.text.tokenizer import Tokenizer, from_json
from charnn.version import __version__

if TYPE_CHECKING:
    import torch

    from charnn.model.network import CharNetwork

FORMAT = 1
_KEY = "charnn"
# Names of tensors, or what they begin with.
_WEIGHTS, _TRAINING, _BEST, _KNOWN = "model.", "training.", "best.", "records.known"
_NAME = re.compile(r"(model|training|best)\.[a-z0-9_.]+|records\.known")
_MAX_DIMENSIONS = 4  # of the recurrent states
_OTHER_STATE = 1 << 26  # bytes, of the random generators of up to 1,000 processes and more
FIELDS = {
    "format", "version", "model", "text", "train", "tokenizer", "corpus", "figures", "progress",
    "crc32",
}  # fmt: skip
_RUN = "run"  # a further field, only in a checkpoint that can be resumed; older ones lack it


@dataclass(frozen=True)
class Checkpoint:
    """A model and how it was trained; with `progress` and `training_tensors` it can be resumed."""

    model: ModelConfig
    text: TextConfig
    train: TrainConfig
    tokenizer: Tokenizer
    corpus: CorpusFacts
    figures: Figures
    weights: Arrays
    progress: Progress | None = None
    # Optimizer state, recurrent states and random generators; see `TrainState.tensors`.
    training_tensors: Arrays = field(default_factory=dict)
    known: BloomFilter | None = None  # the records of the user's list, if the text is one
    run: RunFacts | None = None  # None: not to be resumed, or written by an older charnn
    best_weights: Arrays = field(default_factory=dict)  # of `run.unsaved_best`

    def network(self, device: "torch.device | str" = "cpu") -> "CharNetwork":
        """Return the network with its weights, in evaluation mode on `device`."""
        from charnn.model.network import CharNetwork  # imports torch
        from charnn.torch_modes import default_torch_modes

        with default_torch_modes():
            return CharNetwork.of_weights(Weights(self.model, self.weights)).to(device).eval()


def save(path: Path, checkpoint: Checkpoint, previous: Path | None = None) -> None:
    """Write `checkpoint` to `path`, either completely or not at all.

    With `previous`, the old file keeps that name until the new one has been read back.
    """
    import safetensors.numpy  # only where something is saved

    about = {
        "format": FORMAT,
        "version": __version__,
        "model": checkpoint.model.to_json(),
        "text": checkpoint.text.to_json(),
        "train": checkpoint.train.to_json(),
        "tokenizer": checkpoint.tokenizer.to_json(),
        "corpus": checkpoint.corpus.to_json(),
        "figures": checkpoint.figures.to_json(),
        "progress": checkpoint.progress and checkpoint.progress.to_json(),
    }
    if checkpoint.run is not None:
        about[_RUN] = checkpoint.run.to_json()
    parts = {
        _WEIGHTS: checkpoint.weights,
        _TRAINING: checkpoint.training_tensors,
        _BEST: checkpoint.best_weights,
    }
    tensors = {prefix + name: a for prefix, part in parts.items() for name, a in part.items()}
    if checkpoint.known is not None:
        tensors[_KNOWN] = checkpoint.known.bits
    about["crc32"] = _crc32(about, tensors)
    data = safetensors.numpy.save(tensors, {_KEY: json.dumps(about, sort_keys=True)})
    with explained(f"saving {path}", "check its folder and the free space"):
        if previous is not None:
            replace_proven(path, data, previous)
        else:
            with replacing(path) as file:
                file.write(data)


def load(path: Path, *, weights: bool = True) -> Checkpoint:
    """Read a checkpoint, wherever it was trained.

    With `weights=False` only the metadata is read and returned, which is fast. Raises
    `DamagedError` if the file is missing or damaged, otherwise `CheckpointError` if it is not a
    checkpoint of this format.
    """
    try:
        handle = open_regular(path, follow=True)
    except FileNotFoundError as error:
        raise MissingCheckpointError(f"{path}: no such file; check the name") from error
    except OSError as error:
        raise _unreadable(path, error) from error
    with os.fdopen(handle, "rb") as file:
        try:
            stored = TensorFile(file)
            if (text := stored.metadata.get(_KEY)) is None:
                raise CheckpointError(
                    "a safetensors file, but not one that charnn wrote; name a run folder"
                )
            return _checked(stored, text, weights)
        except DamagedError as error:
            raise DamagedError(f"{path}: {short(error)}") from error
        except CheckpointError as error:
            raise CheckpointError(f"{path}: {short(error)}") from error
        except OSError as error:
            raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> CheckpointError:
    """Return the error about a file that the system does not let us read."""
    # Of the system's errors, only a failing disk says something about the file's content.
    kind = DamagedError if error.errno == errno.EIO else CheckpointError
    if error.errno == errno.EINVAL:
        return kind(f"{path}: not a checkpoint (not a regular file); name a run folder")
    return kind(f"{path}: cannot be read ({short(error)}); check its permissions and its disk")


def _checked(file: TensorFile, text: str, weights: bool) -> Checkpoint:
    """Return the checkpoint in an open file, whose metadata is `text`."""
    try:
        about = json.loads(text)
        problem = _format_problem(about)
        if not problem:
            return _read(file, about, weights)
    except CharnnError as error:
        problem = short(error).partition("; ")[0]  # advice on settings does not mend a file
        raise DamagedError(f"{problem}; use another checkpoint") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        problem = f"the metadata is damaged ({type(error).__name__}); use another checkpoint"
        raise DamagedError(problem) from error
    raise CheckpointError(problem)


def _read(file: TensorFile, about: Any, weights: bool) -> Checkpoint:
    """Return the checkpoint in an open file whose metadata is `about`, checked field by field."""
    if not isinstance(about, dict):
        raise CheckpointError("the metadata is not a JSON object")
    if about.keys() - {_RUN} != FIELDS or type(about["format"]) is not int:
        raise CheckpointError("the metadata does not have the fields of this format")
    model = ModelConfig.from_json(about["model"])
    tokenizer = from_json(about["tokenizer"])
    if tokenizer.vocabulary_size != model.vocabulary_size:
        symbols, expected = tokenizer.vocabulary_size, model.vocabulary_size
        raise CheckpointError(f"the vocabulary has {symbols} symbols, but the model {expected}")
    text, progress = TextConfig.from_json(about["text"]), about["progress"]
    if text.tokenizer != tokenizer.kind:
        raise CheckpointError(
            f"the vocabulary is one of {tokenizer.kind}s, but the text of {text.tokenizer}s"
        )
    loaded = Checkpoint(
        model,
        text,
        TrainConfig.from_json(about["train"]),
        tokenizer,
        CorpusFacts.from_json(about["corpus"]),
        Figures.from_json(about["figures"]),
        {},
        None if progress is None else Progress.from_json(progress),
        run=RunFacts.from_json(about[_RUN]) if _RUN in about else None,
    )
    _check_sizes(file, loaded)
    _check_known(file, loaded)
    if not weights:
        return loaded
    tensors = {name: file.read(name) for name in file.entries}
    crc = about.pop("crc32")
    if crc != _crc32(about, tensors):
        raise CheckpointError("the content does not match its checksum: the file is damaged")
    check_finite(tensors)
    check_weights({name: t for name, t in tensors.items() if name.startswith((_WEIGHTS, _BEST))})
    model_tensors, training_tensors, best_tensors = (
        {name.removeprefix(p): t for name, t in tensors.items() if name.startswith(p)}
        for p in (_WEIGHTS, _TRAINING, _BEST)
    )
    count, bits = loaded.corpus.num_known, tensors.get(_KNOWN)
    known = None if bits is None or count is None else BloomFilter(bits, count)
    return replace(
        loaded,
        weights=model_tensors,
        training_tensors=training_tensors,
        best_weights=best_tensors,
        known=known,
    )


def _format_problem(about: Any) -> str:
    """Return what to do about a file in another format, or "" if it is in this one."""
    number = about.get("format") if isinstance(about, dict) else None
    if type(number) is not int or number == FORMAT:
        return ""
    version = str(about.get("version"))
    if not re.fullmatch(r"[0-9][0-9A-Za-z.+]{0,30}", version):
        return f"in format {number}, but this charnn reads format {FORMAT}; try a newer version"
    return (
        f"written by charnn {version} in format {number}, but this charnn reads format {FORMAT}; "
        f"`pip install charnn=={version}` to read it"
    )


def _check_sizes(file: TensorFile, loaded: Checkpoint) -> None:
    """Check the tensors' names, types and sizes against the settings before allocating memory."""
    model, entries = loaded.model, file.entries
    met = {name: entry.shape for name, entry in entries.items()}
    unknown = [
        n for n, shape in met.items() if not _NAME.fullmatch(n) or len(shape) > _MAX_DIMENSIONS
    ]
    unknown += [n for n, entry in entries.items() if entry.dtype not in DTYPES]
    floats = (_WEIGHTS, _BEST)
    unknown += [n for n in met if n.startswith(floats) and entries[n].dtype != "F32"]
    if unknown:
        raise CheckpointError(f"unexpected tensor {min(unknown)[:80]!r}")
    if model.num_layers > len(met):  # even without memory, building so many layers takes long
        raise CheckpointError("the weights do not fit the model's sizes: layers are missing")
    unsaved_best = loaded.run is not None and loaded.run.unsaved_best is not None
    prefixes = (_WEIGHTS, _BEST) if unsaved_best else (_WEIGHTS,)
    shapes = weight_shapes(model)
    expected = {prefix + name: shape for prefix in prefixes for name, shape in shapes.items()}
    weights = {name: shape for name, shape in met.items() if name.startswith(floats)}
    if weights != expected:
        wrong = sorted(n for n in {*weights, *expected} if weights.get(n) != expected.get(n))
        names = ", ".join(n.removeprefix(_WEIGHTS)[:80] for n in wrong[:3])
        raise CheckpointError(f"the weights do not fit the model's sizes: {names}")
    training = sum(entry.size for name, entry in entries.items() if name.startswith(_TRAINING))
    if training > _most_training_bytes(loaded, sum(map(math.prod, shapes.values()))):
        raise CheckpointError(f"{training:,} bytes of training state do not fit the model's sizes")


def _most_training_bytes(loaded: Checkpoint, parameters: int) -> int:
    """Return what the training state takes at most: optimizer, lanes and random generators.

    The snapshot has the weights and all of this once more.
    """
    if loaded.progress is None:
        return 0
    model = loaded.model
    lanes = 2 * loaded.train.batch_size * model.num_layers * model.hidden_size
    return 2 * 4 * (3 * parameters + lanes) + _OTHER_STATE


def _check_known(file: TensorFile, loaded: Checkpoint) -> None:
    """Check the Bloom filter of the known records against the metadata."""
    present = _KNOWN in file.entries
    facts = loaded.corpus
    counted = {facts.records is not None, facts.num_known is not None}
    if counted | {loaded.text.lines} != {present}:
        raise CheckpointError("texts of records, and no others, need a filter of their records")
    if present:
        part, count = file.entries[_KNOWN], facts.num_known or 0
        if part.dtype != "U8" or part.shape != (BloomFilter.num_bytes(count),):
            raise CheckpointError("the filter of records does not fit the number of records")
        try:
            loaded.tokenizer.encode("\n")
        except VocabularyError as error:
            raise CheckpointError("the text consists of lines, but has no line end") from error


def check_finite(tensors: Arrays) -> None:
    """Raise `CheckpointError` if an array holds an infinity or a NaN."""
    for name, tensor in tensors.items():
        if not np.isfinite(tensor).all():
            raise CheckpointError(f"{name} holds numbers that are not finite")


def check_weights(weights: Arrays) -> None:
    """Raise `CheckpointError` if a weight is so large that predictions might not be finite."""
    for name, tensor in weights.items():
        if not in_range(tensor):
            raise CheckpointError(
                f"{name} holds numbers that are not finite or above {MAX_WEIGHT:g}, so the model "
                "predicts nothing: the learning rate of its training was too high"
            )


def _crc32(about: Mapping[str, Any], arrays: Arrays) -> int:
    """Return the checksum of everything in the file but itself, to detect accidental damage."""
    crc = zlib.crc32(json.dumps(about, sort_keys=True).encode())
    for name, array in sorted(arrays.items()):
        # "torch." stands before the types since the first files of this format.
        crc = zlib.crc32(f"{name} torch.{array.dtype} {array.shape}".encode(), crc)
        crc = zlib.crc32(array.reshape(-1).view(np.uint8).data, crc)
    return crc
