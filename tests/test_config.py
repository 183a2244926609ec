"""A setting outside its limits is rejected with its name and the limit, wherever it comes from."""

import json
from dataclasses import FrozenInstanceError, fields, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from charnn.config import ModelConfig, SampleConfig, Settings, TextConfig, TrainConfig
from charnn.errors import SettingError

MODEL = ModelConfig(vocabulary_size=5, hidden_size=6, num_layers=3, embedding_size=4)
TRAIN = TrainConfig(steps=100, batch_size=3, seq_len=4, learning_rate=0.01, seed=1, clip=1.0)
ALL = [TextConfig(), MODEL, TRAIN, SampleConfig()]
BAD = [
    (MODEL, "vocabulary_size", 1),
    (MODEL, "hidden_size", 0),
    (MODEL, "hidden_size", -3),
    (MODEL, "hidden_size", 6.0),
    (MODEL, "hidden_size", "6"),
    (MODEL, "hidden_size", True),
    (MODEL, "hidden_size", None),
    (MODEL, "hidden_size", 10**400),
    (MODEL, "num_layers", 0),
    (MODEL, "cell", "transformer"),
    (MODEL, "dropout", 1.0),
    (MODEL, "dropout", -0.1),
    (MODEL, "dropout", float("nan")),
    (TRAIN, "steps", 0),
    (TRAIN, "steps", 10**400),
    (TRAIN, "batch_size", 0),
    (TRAIN, "seq_len", -1),
    (TRAIN, "learning_rate", 0.0),
    (TRAIN, "learning_rate", float("inf")),
    (TRAIN, "clip", 0),
    (TRAIN, "seed", -1),
    (TRAIN, "seed", 2**63),
    (TRAIN, "warmup", 1.5),
    (SampleConfig(), "temperature", -0.5),
    (SampleConfig(), "top_k", 0),
    (SampleConfig(), "length", -1),
    (TextConfig(), "min_count", 0),
    (TextConfig(), "tokenizer", "word"),
    (TextConfig(), "keep_newlines", 1),
    (TextConfig(), "val_fraction", 1.0),
]


@pytest.mark.parametrize(("config", "name", "value"), BAD)
def test_a_value_outside_its_limits_is_rejected_with_its_name(
    config: Any, name: str, value: object
) -> None:
    with pytest.raises(SettingError, match=name):
        replace(config, **{name: value})
    with pytest.raises(SettingError, match=name):
        type(config).from_json(config.to_json() | {name: value})


@pytest.mark.parametrize("config", ALL)
def test_settings_survive_a_round_trip_through_json(config: Settings) -> None:
    assert type(config).from_json(json.loads(json.dumps(config.to_json()))) == config


@pytest.mark.parametrize("config", ALL)
def test_settings_are_frozen(config: Any) -> None:
    with pytest.raises(FrozenInstanceError):
        setattr(config, config.names()[0], "other")


@pytest.mark.parametrize("config", ALL)
def test_every_setting_has_help_that_is_a_sentence(config: Any) -> None:
    for field in fields(config):
        assert field.metadata["help"].endswith(".")
    assert config.names() == [field.name for field in fields(config)]


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 65_536), st.integers(1, 64), st.floats(0, 0.95))
def test_a_value_within_its_limits_is_accepted(hidden: int, layers: int, dropout: float) -> None:
    config = replace(MODEL, hidden_size=hidden, num_layers=layers, dropout=dropout)
    assert ModelConfig.from_json(config.to_json()) == config


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (None, "not a JSON object"),
        ([1, 2], "not a JSON object"),
        (MODEL.to_json() | {"depth": 3}, "no setting called 'depth'"),
        ({k: v for k, v in MODEL.to_json().items() if k != "num_layers"}, "no value.*'num_layers'"),
    ],
)
def test_json_of_other_settings_is_rejected(values: object, words: str) -> None:
    with pytest.raises(SettingError, match=words):
        ModelConfig.from_json(values)


def test_a_setting_with_a_default_may_be_missing_from_json() -> None:
    values = {k: v for k, v in MODEL.to_json().items() if k != "cell"}
    assert ModelConfig.from_json(values) == MODEL


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("hidden_size", 0, "`hidden_size` must be at least 1, not 0"),
        ("hidden_size", "6", "`hidden_size` must be of type int, not '6'"),
        ("num_layers", 65, "`num_layers` must be at most 64, not 65"),
        ("dropout", float("nan"), "`dropout` must be a finite number, not nan"),
        ("cell", "mlp", "`cell` must be one of lstm, gru, rnn, not 'mlp'"),
        ("cell", "x" * 999, "`cell` must have at most 200 characters, not 999"),
    ],
)
def test_a_message_names_the_setting_the_limit_and_the_value(
    name: str, value: Any, message: str
) -> None:
    with pytest.raises(SettingError) as caught:
        replace(MODEL, **{name: value})
    assert str(caught.value) == message


def test_a_layer_and_a_unit_are_checked_against_the_model() -> None:
    MODEL.check_layer(2)
    MODEL.check_unit(2, 5)
    with pytest.raises(SettingError, match=r"^no layer 3: the model has layers 0 to 2$"):
        MODEL.check_layer(3)
    with pytest.raises(SettingError, match=r"only layer 0, each with units 0 to 5$"):
        replace(MODEL, num_layers=1).check_unit(0, 6)
