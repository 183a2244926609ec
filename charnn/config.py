"""What can be set: every setting with its default, help and limits, written once.

The command line builds its options from these classes and checkpoints are read back through them,
so a value outside its limits is refused wherever it comes from. Knows neither torch nor click.
"""

import sys
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from typing import Any, Self, get_args, get_type_hints

from charnn.errors import SettingError

DEFAULT_MINUTES = 5.0  # of training, when no budget is given
LARGEST = sys.float_info.max
LONGEST = 200  # characters of a setting that is a text: it is shown in messages


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
    """A dataclass field whose metadata holds its help and limits; `above` is an open bound, and
    `endless` says that None means without end."""
    limits = {"help": help, "low": low, "high": high, "above": above, "choices": choices}
    return field(default=default, metadata=limits | {"endless": endless})


class Settings:
    """Base of the config classes: checks types and limits when made, reads and writes JSON."""

    def __post_init__(self) -> None:
        for name, kind in get_type_hints(type(self)).items():
            value, limits = getattr(self, name), self.__dataclass_fields__[name].metadata  # type: ignore[attr-defined]
            check(name, value, kind, limits)

    @classmethod
    def names(cls) -> list[str]:
        """The names of the settings."""
        return [f.name for f in fields(cls)]  # type: ignore[arg-type]

    def to_json(self) -> dict[str, Any]:
        """The settings as plain JSON values."""
        return asdict(self)  # type: ignore[call-overload]

    @classmethod
    def from_json(cls, values: Any) -> Self:
        """Rebuild from `to_json`'s result; `SettingError` names an unknown or missing field."""
        known = {f.name: f for f in fields(cls)}  # type: ignore[arg-type]
        if not isinstance(values, Mapping):
            raise SettingError(f"{cls.__name__} is not a table of settings")
        for name in values:
            if name not in known:
                raise SettingError(f"{cls.__name__} has no setting called {name!r}")
        for name, f in known.items():
            if name not in values and f.default is MISSING:
                raise SettingError(f"{cls.__name__} lacks the setting {name!r}")
        return cls(**values)


def check(name: str, value: Any, kind: Any, limits: Mapping[str, Any]) -> None:
    """Raise `SettingError` unless `value` is of type `kind` and within `limits`."""
    if value is None and type(None) in get_args(kind):
        return
    types = tuple(get_args(kind)) or (kind,)
    whole_as_float = isinstance(value, int) and float in types
    if isinstance(value, bool) != (bool in types) or not (
        isinstance(value, types) or whole_as_float
    ):
        raise SettingError(f"{name} {value!r} is not {' or '.join(t.__name__ for t in types)}")
    if float in types and not (-LARGEST <= value <= LARGEST):  # so that arithmetic cannot overflow
        raise SettingError(f"{name} {value!r} is not a finite number")
    low, high, above, choices = (limits[k] for k in ("low", "high", "above", "choices"))
    if isinstance(value, str) and len(value) > LONGEST:
        raise SettingError(f"{name} is longer than {LONGEST} characters")
    if choices and value not in choices:
        raise SettingError(f"{name} {value!r} is none of {', '.join(choices)}")
    if low is not None and value < low:
        raise SettingError(f"{name} {value} is below {low}")
    if above is not None and value <= above:
        raise SettingError(f"{name} {value} is not above {above}")
    if high is not None and value > high:
        raise SettingError(f"{name} {value} is above {high}")


@dataclass(frozen=True)
class TextConfig(Settings):
    """How files become symbols."""

    tokenizer: str = setting(
        "What one symbol is: a Unicode character, or a byte (any file, 256 symbols).",
        default="char",
        choices=("char", "byte"),
    )
    encoding: str = setting("Character encoding of the text files.", default="utf-8")
    min_count: int = setting(
        "Characters seen fewer times than this become one unknown symbol.", default=1, low=1
    )
    keep_newlines: bool = setting(
        "Keep a byte-order mark, CRLF and CR as they are instead of turning them into LF.",
        default=False,
    )
    val_fraction: float = setting(
        "Share of the text, at its end, that validates instead of training; 0 validates nothing. "
        "Of records, a hash of each decides.",
        default=0.1,
        low=0.0,
        high=0.9,
    )
    lines: bool = setting(
        "Every line is a record: a name, a title, a molecule. Records are shuffled, and each is "
        "read and written from the same beginning.",
        default=False,
    )


@dataclass(frozen=True)
class ModelConfig(Settings):
    """The network's shape; with the weights it is all that is needed to rebuild it."""

    vocabulary_size: int = setting("Number of symbols.", low=2, high=1_114_113)
    hidden_size: int = setting("Units in each recurrent layer.", low=1, high=65_536)
    num_layers: int = setting("Recurrent layers on top of each other.", low=1, high=64)
    embedding_size: int = setting("Numbers that stand for one symbol.", low=1, high=65_536)
    cell: str = setting(
        "Recurrent cell. On a CPU lstm trains fastest: torch runs the others step by step.",
        default="lstm",
        choices=("lstm", "gru", "rnn"),
    )
    dropout: float = setting(
        "Share of each layer's outputs zeroed while training.", default=0.0, low=0.0, high=0.95
    )

    def check_layer(self, layer: int) -> None:
        """`SettingError` unless there is such a layer, counted from 0."""
        if not 0 <= layer < self.num_layers:
            raise SettingError(f"no layer {layer}: the model's layers are {_span(self.num_layers)}")

    def check_unit(self, layer: int, unit: int) -> None:
        """`SettingError` unless there is such a unit in such a layer, both counted from 0."""
        if not (0 <= layer < self.num_layers and 0 <= unit < self.hidden_size):
            raise SettingError(
                f"no unit {layer}:{unit}: the model's layers are {_span(self.num_layers)}, the "
                f"units of each {_span(self.hidden_size)}"
            )


def _span(count: int) -> str:
    return f"0 to {count - 1}" if count > 1 else "0 alone"


@dataclass(frozen=True)
class TrainConfig(Settings):
    """Everything about a training run that decides what is learned."""

    steps: int = setting("Weight updates in the whole run.", low=1, high=10**12)
    batch_size: int = setting(
        "Lanes: places of the text that are read in parallel.", low=1, high=1_000_000
    )
    seq_len: int = setting(
        "Characters between two updates (the truncated-BPTT window).", low=1, high=1_000_000_000
    )
    learning_rate: float = setting("Highest learning rate of the schedule.", above=0.0)
    seed: int = setting("Where every random choice of the run starts.", low=0, high=2**63 - 1)
    clip: float = setting(
        "Gradients with a larger global norm are scaled to it.", default=1.0, above=0.0
    )
    warmup: float = setting(
        "Share of the steps in which the learning rate rises.", default=0.03, low=0.0, high=1.0
    )
    final_rate: float = setting(
        "Share of the learning rate that is left at the end.", default=0.02, low=0.0, high=1.0
    )
    optimizer: str = setting(
        "muon moves the recurrent layers' matrices by orthogonal updates, the rest by adamw.",
        default="adamw",
        choices=("adamw", "muon"),
    )
    weight_decay: float = setting(
        "Times the learning rate, the share by which weights shrink in a step.",
        default=0.01,
        low=0.0,
    )
    beta2: float = setting("Decay of AdamW's second moment.", default=0.99, low=0.0, high=0.999999)
    max_rollbacks: int = setting(
        "Returns to the last snapshot, at half the learning rate, when the loss or the gradient is "
        "not finite; after so many the run stops.",
        default=3,
        low=0,
        high=100,
    )
    precision: str = setting(
        "Numbers that activations are computed in; weights stay fp32. fp16 is for CUDA.",
        default="fp32",
        choices=("fp32", "bf16", "fp16"),
    )
    deterministic: bool = setting(
        "On CUDA, use only kernels that give the same bits each time, so that a resumed run ends "
        "as an uninterrupted one; slower. A CPU does so always.",
        default=False,
    )


@dataclass(frozen=True)
class ValidationConfig(Settings):
    """When a run is judged, which changes nothing of what it learns."""

    val_every: int = setting("Steps between two validations.", low=1)
    val_characters: int = setting(
        "Characters of the validation part that a validation reads.", default=1_000_000, low=2
    )
    patience: int = setting(
        "Stop after this many validations without a better one; 0 never does.", default=0, low=0
    )


@dataclass(frozen=True)
class SampleConfig(Settings):
    """How text is drawn from a model."""

    length: int | None = setting(
        "Characters to write after the prime at most; inf writes until it is stopped.",
        default=500,
        low=0,
        endless=True,
    )
    temperature: float = setting(
        "Below 1 plays safe, above 1 dares more, 0 always takes the likeliest.",
        default=0.8,
        low=0.0,
    )
    top_k: int | None = setting("Draw among the K likeliest characters only.", default=None, low=1)
    top_p: float | None = setting(
        "Draw among the likeliest characters that have this much probability together only.",
        default=None,
        above=0.0,
        high=1.0,
    )
    min_p: float | None = setting(
        "Draw only what is at least this many times as likely as the likeliest character.",
        default=None,
        low=0.0,
        high=1.0,
    )
    typical: float | None = setting(
        "Draw only among the characters that are about as surprising as expected, which have this "
        "much probability together.",
        default=None,
        above=0.0,
        high=1.0,
    )
    repetition_penalty: float = setting(
        "Makes a character that was just written so many times less likely.",
        default=1.0,
        low=0.01,
        high=1e6,
    )
    repetition_window: int = setting(
        "How many characters back that looks.", default=64, low=1, high=1_000_000
    )
    no_repeat: int | None = setting(
        "Never write the same N characters in a row a second time, the prime's included.",
        default=None,
        low=1,
        high=1_000_000,
    )
    seed: int | None = setting(
        "The same seed writes the same text; drawn, and told on stderr, unless given.",
        default=None,
        low=0,
        high=2**63 - 1,
    )
