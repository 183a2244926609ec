"""Every setting with its default, help and limits, as frozen dataclasses.

The command line builds its options from these classes and checkpoints are read back through them,
so a value outside its limits is refused wherever it comes from. Imports neither torch nor click.
"""

import contextlib
import math
import numbers
import sys
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from types import NoneType
from typing import Any, Self, get_args, get_type_hints

from charnn.errors import SettingError
from charnn.words import did_you_mean, shown

DEFAULT_MINUTES = 5.0  # of training, when no budget is given
MAX_FLOAT = sys.float_info.max
MAX_INT = 2**63 - 1
MAX_THREADS = 1024  # of a CPU
MAX_WIDTH = 10_000  # of a beam search
MAX_STRING = 200  # characters, because messages show the value


def setting(
    help: str,
    *,
    default: Any = MISSING,
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
    choices: tuple[str, ...] | None = None,
    endless: bool = False,
) -> Any:
    """Return a dataclass field whose metadata holds its help and limits.

    `low` and `high` are inclusive bounds, `above` is an exclusive lower bound. `endless` marks a
    setting whose value None means that there is no limit.
    """
    limits = {"help": help, "low": low, "high": high, "above": above, "choices": choices}
    return field(default=default, metadata=limits | {"endless": endless})


class Settings:
    """Base of the config classes: checks types and limits when created, reads and writes JSON."""

    def __post_init__(self) -> None:
        for name in self.names():
            object.__setattr__(self, name, self.checked(name, getattr(self, name)))

    @classmethod
    def checked(cls, name: str, value: Any) -> Any:
        """Return a value for one of the settings as a plain one; raise `SettingError` unless it is
        of the setting's type and within its limits."""
        value, limits = plain(value), cls.__dataclass_fields__[name].metadata  # type: ignore[attr-defined]
        if (
            limits["endless"] and isinstance(value, float | str) and value in (math.inf, "inf")
        ):  # as the command line has it
            value = None
        check(name, value, get_type_hints(cls)[name], limits)
        return value

    @classmethod
    def names(cls) -> list[str]:
        """Return the names of the settings."""
        return [f.name for f in fields(cls)]  # type: ignore[arg-type]

    def to_json(self) -> dict[str, Any]:
        """Return the settings as plain JSON values."""
        return asdict(self)  # type: ignore[call-overload]

    @classmethod
    def from_json(cls, values: Any) -> Self:
        """Rebuild settings from what `to_json` returned.

        Raises `SettingError` if a setting is unknown, missing or outside its limits.
        """
        known = {f.name: f for f in fields(cls)}  # type: ignore[arg-type]
        if not isinstance(values, Mapping):
            raise SettingError(f"{cls.__name__} is not a JSON object of settings")
        for name in values:
            if name not in known:
                like = did_you_mean(str(name), known)
                raise SettingError(f"no setting called {str(name)[:50]!r}{like}")
        for name, f in known.items():
            if name not in values and f.default is MISSING:
                raise SettingError(f"{cls.__name__} has no value for the setting {name!r}")
        return cls(**values)


def plain(value: Any) -> Any:
    """Return a number of another type, such as NumPy's, as Python's own; else the value itself."""
    if type(value).__module__ == "numpy" and getattr(value, "ndim", None) == 0:
        return value.item()
    if isinstance(value, numbers.Integral) and not isinstance(value, bool):
        return int(value)
    if isinstance(value, numbers.Real) and not isinstance(value, int):
        with contextlib.suppress(OverflowError):
            return float(value)
    return value


def check(name: str, value: Any, kind: Any, limits: Mapping[str, Any]) -> None:
    """Raise `SettingError` unless `value` is of type `kind` and within `limits`."""
    if value is None and NoneType in get_args(kind):
        return
    types = tuple(get_args(kind)) or (kind,)
    int_as_float = isinstance(value, int) and float in types
    if isinstance(value, bool) != (bool in types) or not (isinstance(value, types) or int_as_float):
        expected = " or ".join(t.__name__ for t in types if t is not NoneType)
        raise SettingError(f"`{name}` must be of type {expected}, not {shown(value)}")
    # Very large integers are refused too, so that later arithmetic cannot overflow.
    if float in types and not (-MAX_FLOAT <= value <= MAX_FLOAT):
        raise SettingError(f"`{name}` must be a finite number, not {shown(value)}")
    low, high, above, choices = (limits[k] for k in ("low", "high", "above", "choices"))
    if isinstance(value, str) and len(value) > MAX_STRING:
        raise SettingError(f"`{name}` must have at most {MAX_STRING} characters, not {len(value)}")
    if choices and value not in choices:
        raise SettingError(f"`{name}` must be one of {', '.join(choices)}, not {shown(value)}")
    if low is not None and value < low:
        raise SettingError(f"`{name}` must be at least {low}, not {shown(value)}")
    if above is not None and value <= above:
        raise SettingError(f"`{name}` must be above {above}, not {shown(value)}")
    if high is not None and value > high:
        raise SettingError(f"`{name}` must be at most {high}, not {shown(value)}")


@dataclass(frozen=True)
class TextConfig(Settings):
    """Settings that decide how files become symbols."""

    tokenizer: str = setting(
        "Read Unicode characters or bytes. Bytes suit any file; there are 256 symbols of them.",
        default="char",
        choices=("char", "byte"),
    )
    encoding: str = setting("Character encoding of the text files.", default="utf-8")
    encoding_errors: str = setting(
        "Bytes that the encoding does not know: strict is an error, replace reads them as U+FFFD, "
        "skip leaves them out.",
        default="strict",
        choices=("strict", "replace", "skip"),
    )
    min_count: int = setting(
        "Replace characters that occur fewer times than this with one unknown symbol.",
        default=1,
        low=1,
        high=10**12,
    )
    keep_newlines: bool = setting(
        "Keep byte-order marks, CRLF and CR instead of removing the mark and converting to LF.",
        default=False,
    )
    val_fraction: float = setting(
        "Share of the text, taken from its end, used for validation; 0 disables validation. "
        "Records are assigned by hash, the occurrences of frequent ones to both parts.",
        default=0.1,
        low=0.0,
        high=0.9,
    )
    lines: bool = setting(
        "Treat each line as a record. That is a name, a title or a molecule, for example. Records "
        "are shuffled, and each is read and generated from the zero state.",
        default=False,
    )


@dataclass(frozen=True)
class ModelConfig(Settings):
    """Shape of the network, which can be rebuilt from it and the weights."""

    vocabulary_size: int = setting("Number of symbols in the vocabulary.", low=2, high=1_114_113)
    hidden_size: int = setting("Units in each recurrent layer.", low=1, high=65_536)
    num_layers: int = setting("Number of stacked recurrent layers.", low=1, high=64)
    embedding_size: int = setting("Size of each character's embedding vector.", low=1, high=65_536)
    cell: str = setting(
        "Recurrent cell.",
        default="lstm",
        choices=("lstm", "gru", "rnn"),
    )
    dropout: float = setting(
        "Dropout probability. It applies to the embedding and to each layer's outputs.",
        default=0.0,
        low=0.0,
        high=0.95,
    )

    def check_layer(self, layer: int) -> None:
        """Raise `SettingError` unless the network has this layer, counted from 0."""
        if not 0 <= layer < self.num_layers:
            raise SettingError(
                f"no layer {layer}: the model has {_range('layer', self.num_layers)}"
            )

    def check_unit(self, layer: int, unit: int) -> None:
        """Raise `SettingError` unless the layer has this unit, both counted from 0."""
        if not (0 <= layer < self.num_layers and 0 <= unit < self.hidden_size):
            raise SettingError(
                f"no unit {layer}:{unit}: the model has {_range('layer', self.num_layers)}, each "
                f"with {_range('unit', self.hidden_size)}"
            )


def _range(noun: str, count: int) -> str:
    return f"{noun}s 0 to {count - 1}" if count > 1 else f"only {noun} 0"


@dataclass(frozen=True)
class TrainConfig(Settings):
    """Settings of a training run that affect the trained weights."""

    steps: int = setting("Weight updates in the whole run.", low=1, high=10**12)
    batch_size: int = setting(
        "Lanes read in parallel. Each lane is a part of the text that is read in order.",
        low=1,
        high=1_000_000,
    )
    seq_len: int = setting(
        "Characters per update. This is the window of truncated backpropagation through time.",
        low=1,
        high=1_000_000_000,
    )
    learning_rate: float = setting("Peak learning rate of the schedule.", above=0.0)
    seed: int = setting("Random seed.", low=0, high=MAX_INT)
    clip: float = setting(
        "Scale gradients down to this global norm if theirs is larger.", default=1.0, above=0.0
    )
    warmup: float = setting(
        "Share of the steps during which the learning rate rises to its peak.",
        default=0.03,
        low=0.0,
        high=1.0,
    )
    final_rate: float = setting(
        "Learning rate at the end, as a share of the peak.", default=0.02, low=0.0, high=1.0
    )
    optimizer: str = setting(
        "muon applies orthogonalized updates to the recurrent layers' matrices, AdamW to the rest.",
        default="adamw",
        choices=("adamw", "muon"),
    )
    weight_decay: float = setting(
        "Decoupled weight decay (multiplied by the learning rate).",
        default=0.01,
        low=0.0,
    )
    beta2: float = setting(
        "Decay rate of AdamW's second-moment estimate.", default=0.99, low=0.0, high=0.999999
    )
    max_rollbacks: int = setting(
        "Times that training may return to the last snapshot, at half the learning rate, because "
        "the loss or the gradient is not finite; then the run stops.",
        default=3,
        low=0,
        high=100,
    )
    precision: str = setting(
        "Number format of the activations; weights stay fp32. fp16 needs CUDA.",
        default="fp32",
        choices=("fp32", "bf16", "fp16"),
    )
    deterministic: bool = setting(
        "On CUDA, use only deterministic kernels, so that a resumed run gives exactly the weights "
        "of an uninterrupted one; slower. CPU runs are always deterministic.",
        default=False,
    )
    replanned_step: int = setting(
        "Step at which the rest of the schedule was last fitted to the time left; 0 if never.",
        default=0,
        low=0,
        high=10**12,
    )
    replanned_share: float = setting(
        "Share of the schedule that was done at that step.", default=0.0, low=0.0, high=1.0
    )


@dataclass(frozen=True)
class ValidationConfig(Settings):
    """Settings of validation, which does not affect the trained weights unless it stops the run."""

    val_every: int = setting("Steps between validations.", low=1)
    val_characters: int = setting(
        "Number of characters read by each validation, spread evenly.", default=1_000_000, low=2
    )
    patience: int = setting(
        "Stop after this many validations without improvement; 0 disables early stopping.",
        default=0,
        low=0,
    )


@dataclass(frozen=True)
class SampleConfig(Settings):
    """Settings that decide how text is sampled from a model."""

    length: int | None = setting(
        "Characters to generate, or inf. Those of the prime are not counted; inf means no limit.",
        default=500,
        low=0,
        high=MAX_INT,
        endless=True,
    )
    temperature: float = setting(
        "Higher is more varied. Lower is more predictable; 0 always takes the likeliest character.",
        default=0.8,
        low=0.0,
    )
    top_k: int | None = setting("Sample only from the K likeliest characters.", default=None, low=1)
    top_p: float | None = setting(
        "Sample only from the likeliest characters whose probabilities add up to this.",
        default=None,
        above=0.0,
        high=1.0,
    )
    min_p: float | None = setting(
        "Sample only characters at least this many times as likely as the likeliest one.",
        default=None,
        low=0.0,
        high=1.0,
    )
    typical: float | None = setting(
        "Sample only from the most typical characters, those whose surprise is closest to the "
        "expected one, whose probabilities add up to this.",
        default=None,
        above=0.0,
        high=1.0,
    )
    repetition_penalty: float = setting(
        "Make recently seen characters this many times less likely; 1 disables the penalty.",
        default=1.0,
        low=0.01,
        high=1e6,
    )
    repetition_window: int = setting(
        "Number of recent characters that the repetition penalty applies to.",
        default=64,
        low=1,
        high=1_000_000,
    )
    no_repeat: int | None = setting(
        "Never repeat a sequence of N characters, including those of the prime.",
        default=None,
        low=1,
        high=1_000_000,
    )
    seed: int | None = setting(
        "Random seed; the same seed gives the same text. Chosen at random unless given.",
        default=None,
        low=0,
        high=MAX_INT,
    )
