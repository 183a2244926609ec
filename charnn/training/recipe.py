"""The measured rules behind a plan: which size, lanes, learning rate and regularization suit a run.

Pure functions and small tables. The experiments are in docs/recipe/.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from charnn.config import ModelConfig, TrainConfig
from charnn.training.cudnn import LANE_MULTIPLE, MAX_LANES
from charnn.training.memory import estimate_memory


@dataclass(frozen=True)
class Size:
    """A hidden size and when it pays: the budget reads at least `characters`, the text has at
    least `text` symbols."""

    hidden_size: int
    characters: float
    text: float


# Updates and epochs matter far more than width: a size is right once the budget lets it read a few
# times as many characters as it has parameters. Measured on tiny shakespeare up to 512 units; the
# larger sizes are extrapolated.
SIZES = (
    Size(128, 0, 0),
    Size(256, 0.5e6, 10e3),
    Size(384, 3e6, 300e3),
    Size(512, 7e6, 500e3),
    Size(768, 20e6, 5e6),
    Size(1024, 40e6, 20e6),
)
NUM_LAYERS = 2
MAX_EMBEDDING_SIZE = 512


@dataclass(frozen=True)
class Batching:
    """The lanes, the characters between updates, and Muon's learning rate that goes with them."""

    lanes: int
    window: int
    learning_rate: float


DEFAULT_BATCHING = Batching(16, 64, 6e-3)
# Where bfloat16 products are fast, a step of twice the lanes takes only a sixth longer.
BFLOAT16_BATCHING = Batching(32, 64, 12e-3)
SMALL_TEXT = 100e3  # characters; an epoch of a smaller text should still have many updates
SMALL_TEXT_BATCHING = Batching(8, 32, 6e-3)
ADAMW_RATE = 3e-3  # for every batching: 6e-3 with 32 lanes did not learn Chinese
# Trained weights need a lower rate, and a longer warm-up because the optimizer's moments are new.
FINE_TUNING_RATE, FINE_TUNING_WARMUP = 0.25, 0.1
MAX_LANES_FACTOR = 16  # more lanes for records that are much shorter than a window

# Overfitting grows with exposure = parameters x epochs / characters; dropout and Muon's weight
# decay rise with its logarithm from these exposures on. Both harm a text that is read a few times.
DECAY_FROM, DECAY_GROWTH, MIN_DECAY, MAX_DECAY = 5.5, 0.15, 0.01, 0.4
DROPOUT_FROM, DROPOUT_GROWTH, MAX_DROPOUT = 26, 0.17, 0.3


@dataclass(frozen=True)
class Facts:
    """The facts about corpus and machine that a plan depends on, besides the budget."""

    train_symbols: int
    val_symbols: int
    vocabulary_size: int
    seed: int
    memory: float = math.inf  # bytes that the run may take
    on_cpu: bool = True
    on_cuda: bool = False
    fast_bfloat16: bool = False  # the device multiplies bfloat16 matrices faster than float32
    record_length: float | None = None  # mean symbols of a record, in a text of records
    pretrained: bool = False  # the run starts from trained weights
    world_size: int = 1  # processes that share the lanes
    threads: int = 0  # CPU threads of the run; 0: as many as torch is set to
    may_choose_bfloat16: bool = False  # bfloat16 may be fast: AVX-512 has it, AMX is not there
    may_choose_threads: bool = False  # one thread may be taken instead of all


@dataclass(frozen=True)
class Candidate:
    """A model and training settings that a plan may choose."""

    model: ModelConfig
    train: TrainConfig

    def per_process(self, world_size: int) -> tuple[ModelConfig, TrainConfig]:
        """Return what one of the processes holds."""
        lanes = max(1, self.train.batch_size // world_size)
        return self.model, replace(self.train, batch_size=lanes)

    def fits(self, facts: Facts) -> bool:
        """Return whether one process has the memory for it."""
        return estimate_memory(*self.per_process(facts.world_size), facts.on_cpu) <= facts.memory


def candidate(size: Size, facts: Facts, given: Mapping[str, Any]) -> Candidate:
    """Return the settings for a size; `given` settings replace those of the recipe."""
    precision = given.get("precision") or default_precision(facts, given.get("cell", "lstm"))
    batching = default_batching(facts.train_symbols, precision)
    values = {
        "vocabulary_size": facts.vocabulary_size,
        "hidden_size": size.hidden_size,
        "num_layers": NUM_LAYERS,
        "embedding_size": min(given.get("hidden_size", size.hidden_size), MAX_EMBEDDING_SIZE),
        "steps": 1,
        "batch_size": batching.lanes * _lanes_factor(batching, facts.record_length),
        "seq_len": batching.window,
        "optimizer": "muon",
        "precision": precision,
        "seed": facts.seed,
    } | dict(given)
    rate = ADAMW_RATE if values["optimizer"] == "adamw" else batching.learning_rate
    if facts.pretrained:
        rate *= FINE_TUNING_RATE
        values.setdefault("warmup", FINE_TUNING_WARMUP)
    values.setdefault("learning_rate", rate)
    model, train = (
        kind(**{f.name: values[f.name] for f in fields(kind) if f.name in values})
        for kind in (ModelConfig, TrainConfig)
    )
    assert isinstance(model, ModelConfig)
    assert isinstance(train, TrainConfig)
    symbols = train.seq_len if facts.record_length is None else facts.record_length
    room = max(1, int((facts.train_symbols - 1) / symbols))  # lanes that the text has room for
    lanes = min(train.batch_size, room)
    if "batch_size" not in given:
        lanes = _divisible(lanes, room, facts)
    return Candidate(model, replace(train, batch_size=lanes))


def _lanes_factor(batching: Batching, record_length: float | None) -> int:
    """Return by how much to raise the lanes, because short records fill little of a window."""
    if record_length is None:
        return 1
    return max(1, min(MAX_LANES_FACTOR, round(batching.window / record_length)))


def _divisible(lanes: int, room: int, facts: Facts) -> int:
    """Round the lanes up so that every process has equally many; on CUDA to a multiple for which
    cuDNN has its persistent kernel, where the text has room."""
    multiple, most = facts.world_size, room
    if facts.on_cuda and room >= LANE_MULTIPLE * facts.world_size:
        multiple, most = LANE_MULTIPLE * facts.world_size, min(room, MAX_LANES * facts.world_size)
    return max(multiple, min(math.ceil(lanes / multiple), most // multiple) * multiple)


def default_precision(facts: Facts, cell: str) -> str:
    """Return the fastest precision that was measured to learn as well, for this cell and device.

    Only the LSTM is one operator on a CPU, and cuDNN's persistent kernel takes fp16 alone.
    """
    if cell != "lstm":
        return "fp32"
    if facts.on_cuda:
        return "fp16"
    return "bf16" if facts.fast_bfloat16 and facts.on_cpu else "fp32"


def default_batching(symbols: int, precision: str) -> Batching:
    """Return the lanes, window and learning rate for a training text of `symbols`."""
    if symbols < SMALL_TEXT:
        return SMALL_TEXT_BATCHING
    return BFLOAT16_BATCHING if precision == "bf16" else DEFAULT_BATCHING


def dropout(exposure: float) -> float:
    """Return the dropout for an exposure, in twentieths."""
    rate = DROPOUT_GROWTH * math.log(max(1.0, exposure / DROPOUT_FROM))
    return round(20 * min(rate, MAX_DROPOUT)) / 20


def weight_decay(exposure: float) -> float:
    """Return Muon's weight decay for an exposure, in hundredths."""
    rate = MIN_DECAY + DECAY_GROWTH * math.log(max(1.0, exposure / DECAY_FROM))
    return round(min(rate, MAX_DECAY), 2)
