"""The settings that Python functions take as keyword arguments, typed.

They are the fields of the classes in `charnn.config`, which hold their defaults, help and limits; a
test holds the two together. With them a type checker refuses `sample(lenght=3)`.
"""

from typing import TypedDict


class SampleSettings(TypedDict, total=False):
    """Fields of `charnn.config.SampleConfig`."""

    length: int | None
    temperature: float
    top_k: int | None
    top_p: float | None
    min_p: float | None
    typical: float | None
    repetition_penalty: float
    repetition_window: int
    no_repeat: int | None
    seed: int | None


class TrainSettings(TypedDict, total=False):
    """Fields of `TextConfig`, `ModelConfig`, `TrainConfig` and `ValidationConfig` that a user may
    set; what is left out is chosen."""

    tokenizer: str
    encoding: str
    encoding_errors: str
    min_count: int
    keep_newlines: bool
    val_fraction: float
    lines: bool
    hidden_size: int
    num_layers: int
    embedding_size: int
    cell: str
    dropout: float
    batch_size: int
    seq_len: int
    learning_rate: float
    clip: float
    warmup: float
    final_rate: float
    optimizer: str
    weight_decay: float
    beta2: float
    max_rollbacks: int
    precision: str
    deterministic: bool
    val_every: int
    patience: int
