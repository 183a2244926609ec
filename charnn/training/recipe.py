"""Corpus and budget become sizes, schedule and steps: a pure function and a small table."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol

from charnn.config import ModelConfig, TrainConfig, ValidationConfig
from charnn.errors import SettingError
from charnn.model.evaluate import MAX_LANES_CHARACTERS, lanes_layout
from charnn.training.cudnn import LANES, MOST_LANES
from charnn.training.memory import estimate, parameters, refuse_too_large
from charnn.training.speed import Speed

VALIDATION_SHARE = 0.08  # of the cost of training; the promise is under a tenth
MOST_VALIDATIONS = 20
FEWEST_VALIDATIONS = 10  # rather than fewer, each reads less of a long validation part
SHORTEST_VALIDATION = 2_000  # characters; less would be noise
FORWARD_COST = 1 / 3  # of a training step: the backward pass costs two forward passes
STEPS_AT_LEAST = 10


@dataclass(frozen=True)
class Budget:
    """How long to train: exactly one of the three."""

    minutes: float | None = None
    epochs: float | None = None
    steps: int | None = None

    def __post_init__(self) -> None:
        given = {k: v for k, v in vars(self).items() if v is not None}
        if len(given) != 1:
            raise SettingError("give one of --minutes, --epochs and --steps")
        for name, value in given.items():
            if not (math.isfinite(value) and value > 0):
                raise SettingError(f"{name} {value} is not above 0")


@dataclass(frozen=True)
class Size:
    """A row of the table: worth training when the budget reads `characters` or more, in a text of
    `text` or more."""

    hidden_size: int
    characters: float
    text: float


@dataclass(frozen=True)
class Reading:
    """How a text is read: lanes, characters between updates, and the learning rate for it."""

    lanes: int
    window: int
    learning_rate: float  # Muon's


ADAMW_RATE = 3e-3  # however the text is read: 6e-3 with 32 lanes did not learn Chinese
USUAL = Reading(16, 64, 6e-3)
# Where products of bfloat16 are fast, a step of twice the lanes takes only a sixth longer.
FAST = Reading(32, 64, 12e-3)
# With trained weights: gentler, and slower at first, because the optimizer knows nothing yet.
TUNING_RATE, TUNING_WARMUP = 0.25, 0.1
MORE_LANES = 16  # times, of records that are shorter than a window
SMALL_TEXT = 100e3  # characters; below, an epoch shall still have many updates
SMALL = Reading(8, 32, 6e-3)
# Updates and epochs beat width by far: a size is right once the budget lets it read a few times as
# many characters as it has parameters. Measured on tiny shakespeare (see BENCHMARKS.md); the rows
# beyond 512 are drawn out from there, not measured.
SIZES = (
    Size(128, 0, 0),
    Size(256, 0.5e6, 10e3),
    Size(384, 3e6, 300e3),
    Size(512, 7e6, 500e3),
    Size(768, 20e6, 5e6),
    Size(1024, 40e6, 20e6),
)
NUM_LAYERS = 2
EMBEDDING_AT_MOST = 512
EPOCHS_AT_MOST = 20  # a run of minutes ends here
# What many weights read often is learned by heart. Weights times readings for each character of the
# text: where that is so much, weight decay (Muon's) and dropout begin, and grow with its logarithm.
# Both harm where a text is read a few times only; a small text wants dropout most.
DECAY_FROM, DECAY_GROWTH, LEAST_DECAY, DECAY_AT_MOST = 5.5, 0.15, 0.01, 0.4
DROPOUT_FROM, DROPOUT_GROWTH, DROPOUT_AT_MOST = 26, 0.17, 0.3
PROBE_SECONDS, MEASURE_SECONDS = 0.5, 3.0
SINGLE_THREAD_GAIN = 1.1  # times as fast as all threads, from which on one thread is chosen
BUSY = 1.5  # times slower than undisturbed steps, from which on it is told


@dataclass(frozen=True)
class Facts:
    """What the choice depends on besides the budget."""

    train_symbols: int
    val_symbols: int
    vocabulary_size: int
    seed: int
    memory: float = math.inf  # bytes that the run may take
    on_cpu: bool = True
    fast_bfloat16: bool = False  # whether products of bfloat16 matrices are
    record: float | None = None  # mean symbols of a record, in a text of records
    trained: bool = False  # whether it begins with weights that were trained before
    processes: int = 1  # that share the lanes, alike
    on_cuda: bool = False
    threads: int = 0  # CPU threads that the run may use; 0: as many as torch is set to
    choose_threads: bool = False  # whether one thread may be chosen instead


@dataclass(frozen=True)
class Plan:
    """Everything that is decided before step 1, and one line that says why."""

    model: ModelConfig
    train: TrainConfig
    validation: ValidationConfig
    why: str
    threads: int = 0  # CPU threads to train with; 0: as many as torch is set to


class Speedometer(Protocol):
    """Measures this machine; asked only when the budget is in minutes."""

    def measure(
        self, model: ModelConfig, train: TrainConfig, seconds: float, threads: int = 0
    ) -> Speed:
        """Measure the speed of training this model for about `seconds`, with so many CPU threads
        (0: as many as torch is set to)."""

    def elapsed(self) -> float:
        """Seconds of the budget that are over already."""


def make_plan(
    facts: Facts, budget: Budget, given: Mapping[str, Any], speedometer: Speedometer
) -> Plan:
    """Choose what is not `given` (fields of the three configs of a plan).

    Equal arguments give equal plans; with a budget in minutes the measured speed is one of them.
    """
    sizes = SIZES[:1] if "hidden_size" in given else SIZES
    candidates = [_candidate(size, facts, given) for size in sizes]
    chosen = candidates[0]
    if budget.minutes is not None and facts.choose_threads:
        typical = candidates[min(1, len(candidates) - 1)]
        facts = replace(facts, threads=_threads(typical, facts, budget, speedometer))
    refuse_too_large(*_of_one(chosen, facts), facts.memory, facts.on_cpu)
    for size, candidate in zip(SIZES[1:], candidates[1:], strict=False):
        if size.text > facts.train_symbols or _too_large(candidate, facts):
            break
        if _characters(candidate, facts, budget, speedometer) < size.characters:
            break
        chosen = candidate
    model, train = chosen
    steps, disturbed = _steps(model, train, facts, budget, speedometer)
    train = replace(train, steps=steps)
    symbols = max(1, facts.train_symbols)  # a text too short is refused later
    epochs = steps * symbols_read(train, facts.record) / symbols
    exposure = parameters(model) * epochs / symbols
    if "dropout" not in given:
        model = replace(model, dropout=dropout(exposure))
    if "weight_decay" not in given and train.optimizer == "muon":
        train = replace(train, weight_decay=weight_decay(exposure))
    validation = plan_validation(train, facts.val_symbols, given, facts.record)
    why = _why(model, train, facts, budget) + disturbed
    return Plan(model, train, validation, why, facts.threads)


def _threads(candidate: "Candidate", facts: Facts, budget: Budget, speedometer: Speedometer) -> int:
    """Return the thread count that trains this candidate faster: all, or 1.

    Beside another busy process threads wait for each other at every operation, and one alone may
    be the fastest. Steps are compared by their mean, because waiting is what counts.
    """
    probe = min(PROBE_SECONDS, _seconds(budget) / 50)
    steps = {count: speedometer.measure(*candidate, probe, count).step for count in (0, 1)}
    return 1 if steps[1] * SINGLE_THREAD_GAIN < steps[0] else facts.threads


def dropout(exposure: float) -> float:
    """For so many weights times readings for each character; in twentieths."""
    rate = DROPOUT_GROWTH * math.log(max(1.0, exposure / DROPOUT_FROM))
    return round(20 * min(rate, DROPOUT_AT_MOST)) / 20


def weight_decay(exposure: float) -> float:
    """Muon's, for so many weights times readings for each character; in hundredths."""
    rate = LEAST_DECAY + DECAY_GROWTH * math.log(max(1.0, exposure / DECAY_FROM))
    return round(min(rate, DECAY_AT_MOST), 2)


Candidate = tuple[ModelConfig, TrainConfig]


def _candidate(size: Size, facts: Facts, given: Mapping[str, Any]) -> Candidate:
    precision = given.get("precision") or _precision(facts, given.get("cell", "lstm"))
    how = reading(facts.train_symbols, precision)
    lanes = how.lanes
    if facts.record is not None:  # short ones fill few places of a window
        lanes *= max(1, min(MORE_LANES, round(how.window / facts.record)))
    defaults = {
        "vocabulary_size": facts.vocabulary_size,
        "hidden_size": size.hidden_size,
        "num_layers": NUM_LAYERS,
        "embedding_size": min(given.get("hidden_size", size.hidden_size), EMBEDDING_AT_MOST),
        "steps": 1,
        "batch_size": lanes,
        "seq_len": how.window,
        "optimizer": "muon",
        "precision": precision,
        "seed": facts.seed,
    }
    values = defaults | dict(given)
    adamw = values["optimizer"] == "adamw"
    rate = ADAMW_RATE if adamw else how.learning_rate
    if facts.trained:
        rate *= TUNING_RATE
        values.setdefault("warmup", TUNING_WARMUP)
    values.setdefault("learning_rate", rate)
    both = [
        {f.name: values[f.name] for f in fields(kind) if f.name in values}
        for kind in (ModelConfig, TrainConfig)
    ]
    train = TrainConfig(**both[1])
    lane = train.seq_len if facts.record is None else facts.record
    most = max(1, int((facts.train_symbols - 1) / lane))  # lanes that the text has room for
    lanes = min(train.batch_size, most)
    if "batch_size" not in given:
        lanes = _shared(lanes, most, facts)
    return ModelConfig(**both[0]), replace(train, batch_size=lanes)


def _shared(lanes: int, most: int, facts: Facts) -> int:
    """So many lanes or a few more, so that each process has as many; on a card as many as its fast
    kernel takes, where the text has room."""
    share, at_most = facts.processes, most
    if facts.on_cuda and most >= LANES * facts.processes:
        share, at_most = LANES * facts.processes, min(most, MOST_LANES * facts.processes)
    return max(share, min(math.ceil(lanes / share), at_most // share) * share)


def _of_one(candidate: Candidate, facts: Facts) -> Candidate:
    """What one process holds."""
    model, train = candidate
    return model, replace(train, batch_size=max(1, train.batch_size // facts.processes))


def _too_large(candidate: Candidate, facts: Facts) -> bool:
    return estimate(*_of_one(candidate, facts), facts.on_cpu) > facts.memory


def _precision(facts: Facts, cell: str) -> str:
    """The fast one for the cell that is one operator; bf16 was measured to be as good."""
    if cell != "lstm":
        return "fp32"
    if facts.on_cuda:
        return "fp16"  # cuDNN's persistent kernel knows no other
    return "bf16" if facts.fast_bfloat16 and facts.on_cpu else "fp32"


def reading(symbols: int, precision: str) -> Reading:
    """How a training text of that many symbols is read unless told otherwise."""
    if symbols < SMALL_TEXT:
        return SMALL
    return FAST if precision == "bf16" else USUAL


def _characters(
    candidate: Candidate, facts: Facts, budget: Budget, speedometer: Speedometer
) -> float:
    """How many characters the candidate reads within the budget."""
    model, train = candidate
    if budget.epochs is not None:
        return budget.epochs * facts.train_symbols
    window = symbols_read(train, facts.record)
    if budget.steps is not None:
        return float(budget.steps * window)
    seconds = _seconds(budget)
    probe = min(PROBE_SECONDS, seconds / 50)
    speed = speedometer.measure(model, train, probe, facts.threads)
    return seconds / speed.undisturbed * window


def _steps(
    model: ModelConfig, train: TrainConfig, facts: Facts, budget: Budget, speedometer: Speedometer
) -> tuple[int, str]:
    """The steps that the budget pays for; and what to say if the machine had other work."""
    window = symbols_read(train, facts.record)
    if budget.steps is not None:
        return budget.steps, ""
    if budget.epochs is not None:
        return epoch_steps(budget.epochs, train, facts.train_symbols, facts.record), ""
    seconds = _seconds(budget)
    measured = min(MEASURE_SECONDS, seconds / 20)
    speed = speedometer.measure(model, train, measured, facts.threads)
    left = max(0.0, seconds - speedometer.elapsed())
    rough = max(1, math.ceil(left / speed.step))  # the measuring may have taken all of it
    every, _, read = _validations(rough, window, facts.val_symbols)
    left -= (speed.validated_character * read + speed.save) * math.ceil(rough / every)
    most = math.ceil(EPOCHS_AT_MOST * facts.train_symbols / window)
    steps = max(STEPS_AT_LEAST, min(most, int(left / speed.step)))
    slower = speed.step / speed.undisturbed
    busy = f"; other work on this machine makes each step {slower:.1f} times slower"
    return steps, busy if slower > BUSY else ""


def symbols_read(train: TrainConfig, record: float | None) -> float:
    """What a step reads, about: of records, one a lane, or the part of it that fits a window."""
    if record is None:
        return train.batch_size * train.seq_len
    return train.batch_size * record / math.ceil(record / train.seq_len)


def epoch_steps(
    epochs: float, train: TrainConfig, symbols: int, record: float | None = None
) -> int:
    """The steps that read a text of so many symbols that often."""
    steps = min(epochs * symbols / symbols_read(train, record), 1e15)
    return max(1, math.ceil(steps))


def plan_validation(
    train: TrainConfig, symbols: int, given: Mapping[str, Any], record: float | None = None
) -> ValidationConfig:
    """When a run is judged on a validation part of so many symbols."""
    window = symbols_read(train, record)
    every, characters, _ = _validations(train.steps, window, symbols)
    values = {"val_every": every, "val_characters": characters} | dict(given)
    return ValidationConfig(**{k: v for k, v in values.items() if k in ValidationConfig.names()})


def _validations(steps: int, window: float, symbols: int) -> tuple[int, int, int]:
    """Steps between validations, the characters of the validation part that each may use, and
    those that go through the network for it."""
    affordable = VALIDATION_SHARE * steps * window / FORWARD_COST
    characters = int(affordable / FEWEST_VALIDATIONS)
    characters = max(2, min(max(characters, SHORTEST_VALIDATION), MAX_LANES_CHARACTERS, symbols))
    read = lanes_layout(characters).characters_read if symbols > 1 else 0
    often = int(affordable / read) if read else MOST_VALIDATIONS
    often = max(1, min(often, MOST_VALIDATIONS, steps // FEWEST_VALIDATIONS))
    return math.ceil(steps / often), characters, read


def _seconds(budget: Budget) -> float:
    return 60 * (budget.minutes or 0.0)


def _why(model: ModelConfig, train: TrainConfig, facts: Facts, budget: Budget) -> str:
    epochs = train.steps * symbols_read(train, facts.record) / max(1, facts.train_symbols)
    layers = f"{model.num_layers} {model.cell.upper()} layer{'s' * (model.num_layers > 1)}"
    line = (
        f"{layers} of {model.hidden_size} units, dropout {model.dropout:g}; "
        f"{train.batch_size} lanes x {train.seq_len}, {train.steps:,} steps: "
        f"the {facts.train_symbols:,} training characters are read {epochs:.2g} times"
    )
    if budget.minutes is not None:
        full = epochs >= 0.99 * EPOCHS_AT_MOST
        line += ", enough before the minutes are over" if full else f" in {budget.minutes:g} min"
    return line
