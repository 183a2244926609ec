"""Corpus, device and budget become sizes, schedule and steps."""

import itertools
import math
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch

from charnn.arguments import number
from charnn.checkpoint import Checkpoint
from charnn.config import ModelConfig, Settings, TextConfig, TrainConfig, ValidationConfig
from charnn.device import fast_bfloat16, has_bfloat16_lstm
from charnn.errors import SettingError
from charnn.model.evaluate import lanes_layout
from charnn.text.corpus import Corpus
from charnn.text.records import mean_record_length
from charnn.training import recipe
from charnn.training.distributed import SINGLE_PROCESS, World
from charnn.training.memory import available_per_process, check_memory, parameter_count
from charnn.training.pace import TimeLimit
from charnn.training.recipe import SIZES, Candidate, Facts, Size, candidate
from charnn.training.speed import Speed, SpeedTest
from charnn.training.validations import (
    affords_full,
    plan_validation,
    plan_validations,
    symbols_per_step,
)
from charnn.words import about, did_you_mean, plural

MIN_STEPS = 10
MAX_EPOCHS = 20  # a run of minutes ends here
PROBE_SECONDS, MEASURE_SECONDS = 0.5, 3.0
CHOICE_GAIN = 1.1  # one thread, or bfloat16, is taken where it is this much faster
BUSY_FACTOR = 1.5  # steps that take this much longer than undisturbed ones are reported
# What may be given instead of chosen; the rest follows from corpus and budget.
PLANNED = {*ModelConfig.names(), *TrainConfig.names(), *ValidationConfig.names()} - {
    "vocabulary_size", "steps", "seed", "val_characters", "replanned_step", "replanned_share",
}  # fmt: skip
SHAPE = ("cell", "hidden_size", "num_layers", "embedding_size")


@dataclass(frozen=True)
class Budget:
    """The length of training: exactly one of the three."""

    minutes: float | None = None
    epochs: float | None = None
    steps: int | None = None

    def __post_init__(self) -> None:
        given = self.to_json()
        if len(given) != 1:
            raise SettingError("give only one of `minutes`, `epochs` and `steps`")
        for name, value in given.items():
            steps = name == "steps"
            checked = TrainConfig.checked(name, value) if steps else number(name, value, above=0)
            object.__setattr__(self, name, checked)

    @property
    def seconds(self) -> float:
        """The budget in seconds; 0 if it is not a time."""
        return 60 * (self.minutes or 0.0)

    def to_json(self) -> dict[str, float]:
        """Return the limit that is set."""
        return {name: value for name, value in vars(self).items() if value is not None}


@dataclass(frozen=True)
class PlanRequest:
    """The wishes of a user for a plan; everything else is chosen.

    `given` holds fields of `ModelConfig`, `TrainConfig` and `ValidationConfig` (see `PLANNED`).
    `threads` 0 chooses the CPU threads. `force` allows more memory than there seems to be.
    """

    budget: Budget
    given: Mapping[str, Any] = field(default_factory=dict)
    seed: int | None = None
    threads: int = 0
    force: bool = False

    def __post_init__(self) -> None:
        for name in sorted(set(self.given) - PLANNED):
            like = did_you_mean(name, {*PLANNED, *TextConfig.names()})
            raise SettingError(f"no setting called {name[:50]}{like}")
        given = {name: _checked(name, value) for name, value in self.given.items()}
        object.__setattr__(self, "given", given)


def _checked(name: str, value: Any) -> Any:
    """Return a setting that a plan may be given, checked by the class that it belongs to."""
    classes: tuple[type[Settings], ...] = (ModelConfig, TrainConfig, ValidationConfig)
    return next(kind for kind in classes if name in kind.names()).checked(name, value)


@dataclass(frozen=True)
class Plan:
    """Everything that is decided before step 1, and one line that says why."""

    model: ModelConfig
    train: TrainConfig
    validation: ValidationConfig
    why: str
    threads: int = 0  # CPU threads to train with; 0: as many as torch is set to
    limit: TimeLimit | None = None  # of a run of minutes


class Speedometer(Protocol):
    """Measures this machine; asked only when the budget is in minutes."""

    def measure(
        self, model: ModelConfig, train: TrainConfig, seconds: float, threads: int = 0
    ) -> Speed:
        """Measure the speed of training this model for about `seconds`, with `threads` CPU threads
        (0: as many as torch is set to)."""

    def elapsed(self) -> float:
        """Return the seconds of the budget that are used up already."""


def plan_run(
    request: PlanRequest,
    corpus: Corpus,
    device: torch.device,
    init_from: Checkpoint | None = None,
    world: World = SINGLE_PROCESS,
) -> Plan:
    """Plan a run on the corpus; with `init_from` its shape is that of the checkpoint.

    All processes of a world call this together, because each must measure its own speed at the
    same time; the plan of rank 0 counts.

    Raises:
        SettingError: a setting does not fit the device or the weights, or the run would need more
            memory than there is.
    """
    given = request.given if init_from is None else _with_shape(request.given, init_from.model)
    check_precision(given.get("precision", ""), given.get("cell", "lstm"), device)
    on_cpu = device.type == "cpu"
    facts = Facts(
        train_symbols=len(corpus.train),
        val_symbols=len(corpus.validation),
        vocabulary_size=corpus.tokenizer.vocabulary_size,
        seed=secrets.randbits(32) if request.seed is None else request.seed,
        memory=math.inf if request.force else available_per_process(device),
        on_cpu=on_cpu,
        on_cuda=device.type == "cuda",
        fast_bfloat16=fast_bfloat16(device),
        record_length=mean_record_length(corpus.train),
        pretrained=init_from is not None,
        world_size=world.size,
        threads=request.threads,
        may_choose_bfloat16=(
            on_cpu
            and request.budget.minutes is not None
            and "precision" not in given
            and given.get("cell", "lstm") == "lstm"
            and not fast_bfloat16(device)
            and has_bfloat16_lstm(device)
        ),
        may_choose_threads=(
            on_cpu and world.size == 1 and not request.threads and torch.get_num_threads() > 1
        ),
    )
    speed_test = SpeedTest(corpus.train, device, world.size)
    plan = make_plan(facts, request.budget, given, speed_test)
    if request.budget.minutes is not None:
        left = request.budget.seconds - speed_test.elapsed()
        most = max(plan.train.steps, _max_steps(plan.train, facts))
        threads = torch.get_num_threads() if facts.may_choose_threads else 0
        limit = TimeLimit(time.monotonic() + left, most, threads)
        plan = replace(plan, limit=limit)
    return world.broadcast(lambda: plan)


def _with_shape(given: Mapping[str, Any], model: ModelConfig) -> dict[str, Any]:
    """Return the settings with the shape that trained weights have."""
    shape = {name: getattr(model, name) for name in SHAPE}
    for name, fixed in shape.items():
        if given.get(name, fixed) != fixed:
            raise SettingError(
                f"{name} {given[name]} does not fit the weights ({fixed}); leave it out"
            )
    return {**given, **shape}


def check_precision(precision: str, cell: str, device: torch.device) -> None:
    """Raise `SettingError` where this device cannot train in that precision."""
    if precision == "fp16" and device.type != "cuda":  # oneDNN has no LSTM in float16
        raise SettingError(f"precision fp16 needs CUDA, not {device}; train in bf16 or fp32")
    if precision == "bf16" and cell == "lstm" and not has_bfloat16_lstm(device):
        raise SettingError(
            "precision bf16: this CPU has no LSTM in bfloat16 (it needs AVX-512); train in fp32"
        )


def make_plan(
    facts: Facts, budget: Budget, given: Mapping[str, Any], speedometer: Speedometer
) -> Plan:
    """Choose every setting that is not `given`.

    Equal arguments give equal plans; with a budget in minutes the measured speed is one of them.
    """
    sizes = SIZES[:1] if "hidden_size" in given else SIZES
    if budget.minutes is not None:
        facts = _choose_computation(sizes[:2][-1], facts, budget, given, speedometer)
    candidates = [candidate(size, facts, given) for size in sizes]
    chosen = candidates[0]
    check_memory(*chosen.per_process(facts.world_size), facts.memory, facts.on_cpu)
    for size, larger in zip(SIZES[1:], candidates[1:], strict=False):
        if size.text > facts.train_symbols or not larger.fits(facts):
            break
        if _characters_read(larger, facts, budget, speedometer) < size.characters:
            break
        chosen = larger
    model, train = chosen.model, chosen.train
    steps, busy = _affordable_steps(model, train, facts, budget, speedometer)
    train = replace(train, steps=steps)
    symbols = max(1, facts.train_symbols)  # an empty text is refused later
    epochs = steps * symbols_per_step(train, facts.record_length) / symbols
    exposure = parameter_count(model) * epochs / symbols
    if "dropout" not in given:
        model = replace(model, dropout=recipe.dropout(exposure))
    if "weight_decay" not in given and train.optimizer == "muon":
        train = replace(train, weight_decay=recipe.weight_decay(exposure))
    validation = plan_validation(train, facts.val_symbols, given, facts.record_length)
    return Plan(model, train, validation, _why(model, train, facts, budget) + busy, facts.threads)


def _choose_computation(
    typical: Size, facts: Facts, budget: Budget, given: Mapping[str, Any], speedometer: Speedometer
) -> Facts:
    """Return the facts with the threads, all (0) or 1, and the precision that read the most
    characters a second at this size, where they may be chosen.

    Beside another busy process threads wait for each other at every operation, and one alone may
    be the fastest. Mean step times are compared, because the waiting counts.
    """
    threads = (0, 1) if facts.may_choose_threads else (facts.threads,)
    bfloat16 = [facts.fast_bfloat16]
    if facts.may_choose_bfloat16:
        bfloat16 = [False, True]
    choices = [
        replace(facts, threads=count, fast_bfloat16=fast)
        for fast, count in itertools.product(bfloat16, threads)
    ]
    if len(choices) == 1:
        return facts
    probe, rates = min(PROBE_SECONDS, budget.seconds / 50), []
    for choice in choices:
        some = candidate(typical, choice, given)
        speed = speedometer.measure(some.model, some.train, probe, choice.threads)
        gain = 1 if choice is choices[0] else CHOICE_GAIN
        rates.append(symbols_per_step(some.train, facts.record_length) / speed.step / gain)
    return choices[rates.index(max(rates))]


def _characters_read(
    some: Candidate, facts: Facts, budget: Budget, speedometer: Speedometer
) -> float:
    """Return how many characters the candidate reads within the budget."""
    if budget.epochs is not None:
        return budget.epochs * facts.train_symbols
    window = symbols_per_step(some.train, facts.record_length)
    if budget.steps is not None:
        return float(budget.steps * window)
    probe = min(PROBE_SECONDS, budget.seconds / 50)
    speed = speedometer.measure(some.model, some.train, probe, facts.threads)
    return budget.seconds / speed.undisturbed * window


def _affordable_steps(
    model: ModelConfig, train: TrainConfig, facts: Facts, budget: Budget, speedometer: Speedometer
) -> tuple[int, str]:
    """Return the steps that the budget pays for, and a remark if the machine is busy, or ''."""
    window = symbols_per_step(train, facts.record_length)
    if budget.steps is not None:
        return budget.steps, ""
    if budget.epochs is not None:
        return epoch_steps(budget.epochs, train, facts.train_symbols, facts.record_length), ""
    measured = min(MEASURE_SECONDS, budget.seconds / 20)
    speed = speedometer.measure(model, train, measured, facts.threads)
    left = max(0.0, budget.seconds - speedometer.elapsed())
    rough = max(1, math.ceil(left / speed.step))  # measuring may have used up the budget
    every, characters, read = plan_validations(rough, window, facts.val_symbols)
    left -= (speed.validated_character * read + speed.save) * math.ceil(rough / every)
    if characters < facts.val_symbols and affords_full(rough * window, facts.val_symbols):
        left -= speed.validated_character * lanes_layout(facts.val_symbols).characters_read
    steps = max(MIN_STEPS, min(_max_steps(train, facts), int(left / speed.step)))
    slower = speed.step / speed.undisturbed
    busy = f"; the machine is busy, so steps take {slower:.1f} times as long"
    return steps, busy if slower > BUSY_FACTOR else ""


def _max_steps(train: TrainConfig, facts: Facts) -> int:
    """Return the steps of the longest run of minutes."""
    window = symbols_per_step(train, facts.record_length)
    return math.ceil(MAX_EPOCHS * facts.train_symbols / window)


def epoch_steps(
    epochs: float, train: TrainConfig, symbols: int, record_length: float | None = None
) -> int:
    """Return the steps that make `epochs` passes over a text of `symbols`."""
    steps = min(epochs * symbols / symbols_per_step(train, record_length), 1e15)
    return max(1, math.ceil(steps))


def _why(model: ModelConfig, train: TrainConfig, facts: Facts, budget: Budget) -> str:
    epochs = (
        train.steps * symbols_per_step(train, facts.record_length) / max(1, facts.train_symbols)
    )
    layers = plural(model.num_layers, f"{model.cell.upper()} layer")
    line = (
        f"{layers} of {plural(model.hidden_size, 'unit')}, dropout {model.dropout:g}; "
        f"{plural(train.batch_size, 'lane')} x {train.seq_len}, {plural(train.steps, 'step')}, "
        f"{about(epochs)} epoch{'s' * (about(epochs) != '1')} of the text"
    )
    if budget.minutes is not None:
        complete = epochs >= 0.99 * MAX_EPOCHS
        line += ", complete before the time is up" if complete else f" in {budget.minutes:g} min"
    if train.precision == "bf16" and facts.may_choose_bfloat16:
        line += ", bfloat16"
    if facts.threads:
        line += f", {plural(facts.threads, 'CPU thread')}"
    return line
