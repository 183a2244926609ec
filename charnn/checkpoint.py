"""One safetensors file: weights, config, vocabulary, figures, and what is needed to go on.

Nothing in it can run: tensors, and JSON under the single metadata key `charnn` (with several keys
safetensors' file is not byte-stable, their order being random per process). No clock, host, path
or command is in it, so that equal runs make equal files. What is loaded is doubted: a size limit
before anything is parsed, a checksum over all of it, every field checked against the config
classes, every weight against the sizes, and nothing that is not finite.
"""

import errno
import json
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from charnn.config import ModelConfig, Settings, TextConfig, TrainConfig, setting
from charnn.errors import (
    CharnnError,
    CheckpointError,
    DamagedError,
    MissingCheckpointError,
    SettingError,
    VocabularyError,
)
from charnn.files import explained, replace_proven, replacing
from charnn.model.network import CharNetwork
from charnn.text.bloom import BloomFilter
from charnn.text.tokenizer import Tokenizer, from_json
from charnn.version import __version__

FORMAT = 1
HEADER_AT_MOST = 1 << 24  # bytes; a vocabulary of all of Unicode just fits
_KEY = "charnn"
_WEIGHTS = "model."
_TRAINING = "training."
_KNOWN = "records.known"
_NAME = re.compile(r"(model|training)\.[a-z0-9_.]+|records\.known")
_DTYPES = {"F32", "U8"}
_DIMENSIONS = 4  # the lanes' states have most
FIELDS = {
    "format", "version", "model", "text", "train", "tokenizer", "corpus", "figures", "progress",
    "crc32",
}  # fmt: skip


def _count(help: str) -> Any:
    return setting(help, low=0, high=2**63 - 1)


@dataclass(frozen=True)
class CorpusFacts(Settings):
    """What a checkpoint remembers of its corpus: enough to recognise it, not where it lay."""

    sha256: str = setting("Of the text.")
    characters: int = _count("Of the whole text.")
    train_characters: int = _count("Of the part to learn from.")
    records: int | None = setting(
        "Records to learn from, in a text of records.", default=None, low=1, high=2**63 - 1
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not re.fullmatch("[0-9a-f]{64}", self.sha256):
            raise SettingError("sha256 is not 64 hexadecimal digits")


@dataclass(frozen=True)
class Figures(Settings):
    """What a model's training came to."""

    step: int = _count("Updates made.")
    parameters: int = _count("Numbers that were learned.")
    val_nats_per_char: float | None = setting("Of the best validation.", default=None)


@dataclass(frozen=True)
class Progress(Settings):
    """How far a run has come, and where a rollback would take it."""

    step: int = _count("Updates made.")
    epoch: int = _count("Readings of the text that are over.")
    window: int = _count("Windows of this reading that are over.")
    rollbacks: int = setting("Returns to a snapshot so far.", low=0, high=1000)
    snapshot_step: int = _count("Updates made when the snapshot was taken.")
    snapshot_epoch: int = _count("Readings then.")
    snapshot_window: int = _count("Windows then.")


@dataclass(frozen=True)
class Checkpoint:
    """A model and how it came to be; with `progress` and `training_tensors`, also how to go on."""

    model: ModelConfig
    text: TextConfig
    train: TrainConfig
    tokenizer: Tokenizer
    corpus: CorpusFacts
    figures: Figures
    weights: Mapping[str, Tensor]
    progress: Progress | None = None
    training_tensors: Mapping[str, Tensor] = field(default_factory=dict)  # optimizer, state, random
    known: BloomFilter | None = None  # the records it learned from, if it did from records

    def network(self, device: torch.device | str = "cpu") -> CharNetwork:
        """The network, rebuilt by its constructor, ready to predict."""
        network = CharNetwork(self.model)
        network.load_state_dict(dict(self.weights))
        return network.to(device).eval()


def save(path: Path, checkpoint: Checkpoint, previous: Path | None = None) -> None:
    """Write `checkpoint` to `path`, whole or not at all.

    With `previous` the old file is kept under that name until the new one has been read back.
    """
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
    tensors = {_WEIGHTS + name: tensor for name, tensor in checkpoint.weights.items()}
    tensors |= {_TRAINING + name: tensor for name, tensor in checkpoint.training_tensors.items()}
    if checkpoint.known is not None:
        tensors[_KNOWN] = torch.from_numpy(checkpoint.known.bits)
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    about["crc32"] = _crc32(about, plain)
    data = safetensors.torch.save(plain, {_KEY: json.dumps(about, sort_keys=True)})
    with explained(f"saving {path}", "check its folder and the free space"):
        if previous is not None:
            replace_proven(path, data, previous)
        else:
            with replacing(path) as file:
                file.write(data)


def load(path: Path, *, weights: bool = True) -> Checkpoint:
    """Read a checkpoint, onto the CPU wherever it was trained; `CheckpointError` if it is none,
    and `DamagedError` if it may have been one.

    Without `weights` the tensors are left out: what the file says of itself, quickly.
    """
    try:
        if path.exists() and not path.is_file():
            raise CheckpointError(f"{path}: not a checkpoint (no regular file); name a run folder")
        with path.open("rb") as plain:
            header = int.from_bytes(plain.read(8), "little")
        if header > HEADER_AT_MOST:
            raise DamagedError(f"{path}: not a checkpoint (a header of {header:,} bytes)")
        with safetensors.safe_open(path, framework="pt", device="cpu") as file:
            text = (file.metadata() or {}).get(_KEY)
            if text is None:
                raise CheckpointError(f"{path}: a safetensors file, but not one that charnn wrote")
            return _checked(path, file, text, weights)
    except FileNotFoundError as error:
        raise MissingCheckpointError(f"{path}: no such file; check the name") from error
    except (OSError, safetensors.SafetensorError) as error:
        passing = isinstance(error, OSError) and error.errno not in (None, errno.EIO)
        kind = CheckpointError if passing else DamagedError
        raise kind(f"{path}: not a checkpoint ({_line(error)}); name a run folder") from error


def _checked(path: Path, file: Any, text: str, weights: bool) -> Checkpoint:
    """What the open file holds, or an error that names the file."""
    try:
        about = json.loads(text)
        other = _other_format(about)
        if not other:
            return _read(file, about, weights)
    except CharnnError as error:
        raise DamagedError(f"{path}: {_line(error)}") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        problem = f"the checkpoint's metadata is damaged ({type(error).__name__})"
        raise DamagedError(f"{path}: {problem}; use another checkpoint") from error
    raise CheckpointError(f"{path}: {other}")


def _line(error: Exception) -> str:
    """What an error says, fit for one line whatever the file put into it."""
    line = "".join(c if c.isprintable() else "\ufffd" for c in str(error))
    return line if len(line) <= 300 else f"{line[:300]}…"


def _read(file: Any, about: Any, weights: bool) -> Checkpoint:
    """The checkpoint in an open file whose metadata is `about`, checked field by field."""
    if not isinstance(about, dict):
        raise CheckpointError("the metadata is not a table; use another checkpoint")
    if about.keys() != FIELDS or type(about["format"]) is not int:
        raise CheckpointError("the metadata has other fields than this format")
    model = ModelConfig.from_json(about["model"])
    tokenizer = from_json(about["tokenizer"])
    if tokenizer.vocabulary_size != model.vocabulary_size:
        symbols = tokenizer.vocabulary_size
        raise CheckpointError(
            f"the vocabulary has {symbols} symbols, the model {model.vocabulary_size}"
        )
    text, progress = TextConfig.from_json(about["text"]), about["progress"]
    if text.tokenizer != tokenizer.kind:
        raise CheckpointError(f"a {tokenizer.kind} vocabulary for a text of {text.tokenizer}s")
    loaded = Checkpoint(
        model,
        text,
        TrainConfig.from_json(about["train"]),
        tokenizer,
        CorpusFacts.from_json(about["corpus"]),
        Figures.from_json(about["figures"]),
        {},
        None if progress is None else Progress.from_json(progress),
    )
    _check_sizes(file, model)
    _check_known(file, loaded)
    if not weights:
        return loaded
    tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    crc = about.pop("crc32")
    if crc != _crc32(about, tensors):
        raise CheckpointError("its content does not fit its checksum: the file is damaged")
    check_finite(tensors)
    parts = [
        {name.removeprefix(p): t for name, t in tensors.items() if name.startswith(p)}
        for p in (_WEIGHTS, _TRAINING)
    ]
    count, bits = loaded.corpus.records, tensors.get(_KNOWN)
    known = None if bits is None or count is None else BloomFilter(bits.numpy(), count)
    return Checkpoint(
        **vars(loaded) | {"weights": parts[0], "training_tensors": parts[1], "known": known}
    )


def _other_format(about: Any) -> str:
    """What to say of a file in another format, or nothing."""
    number = about.get("format") if isinstance(about, dict) else None
    if type(number) is not int or number == FORMAT:
        return ""
    version = str(about.get("version"))
    if not re.fullmatch(r"[0-9][0-9A-Za-z.+]{0,30}", version):
        return f"in format {number}, and this charnn reads {FORMAT}; a newer one may read it"
    return (
        f"written by charnn {version} in format {number}, and this charnn reads format {FORMAT}; "
        f"`pip install charnn=={version}`"
    )


def _check_sizes(file: Any, model: ModelConfig) -> None:
    """Hold the tensors' names, types and shapes against the model, before any memory is taken."""
    slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
    met = {name: tuple(part.get_shape()) for name, part in slices.items()}
    odd = [n for n, shape in met.items() if not _NAME.fullmatch(n) or len(shape) > _DIMENSIONS]
    odd += [n for n, part in slices.items() if part.get_dtype() not in _DTYPES]
    odd += [n for n in met if n.startswith(_WEIGHTS) and slices[n].get_dtype() != "F32"]
    if odd:
        raise CheckpointError(f"a tensor of no use here: {min(odd)[:80]!r}")
    if model.num_layers > len(met):  # a network of so many layers need not even be thought of
        raise CheckpointError("the weights do not fit the model's sizes: layers are missing")
    with torch.device("meta"):  # shapes without memory
        network = CharNetwork(model)
    expected = {_WEIGHTS + name: tuple(t.shape) for name, t in network.state_dict().items()}
    weights = {name: shape for name, shape in met.items() if name.startswith(_WEIGHTS)}
    if weights != expected:
        wrong = sorted(n for n in {*weights, *expected} if weights.get(n) != expected.get(n))
        names = ", ".join(n.removeprefix(_WEIGHTS)[:80] for n in wrong[:3])
        raise CheckpointError(f"the weights do not fit the model's sizes: {names}")


def _check_known(file: Any, loaded: Checkpoint) -> None:
    """Hold the filter of known records against what the file says of its text."""
    there = _KNOWN in file.keys()  # noqa: SIM118
    if there != loaded.text.lines or there != (loaded.corpus.records is not None):
        raise CheckpointError("a filter of known records goes with a text of records, and is one")
    if there:
        part, count = file.get_slice(_KNOWN), loaded.corpus.records or 0
        if part.get_dtype() != "U8" or part.get_shape() != [BloomFilter.num_bytes(count)]:
            raise CheckpointError("the filter of known records is not one of so many records")
        try:
            loaded.tokenizer.encode("\n")
        except VocabularyError as error:
            raise CheckpointError("a text of records, and no line end in its vocabulary") from error


def check_finite(tensors: Mapping[str, Tensor]) -> None:
    """`CheckpointError` unless every number is one."""
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise CheckpointError(f"{name} holds numbers that are not finite")


def _crc32(about: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> int:
    """A checksum over everything in the file but itself: finds damage, proves nothing else."""
    crc = zlib.crc32(json.dumps(about, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        crc = zlib.crc32(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode(), crc)
        crc = zlib.crc32(cast(Any, tensor.reshape(-1).view(torch.uint8).numpy()), crc)
    return crc
