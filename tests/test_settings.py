"""The typed settings of Python functions are the fields of the config classes."""

from typing import get_type_hints

from charnn.config import ModelConfig, SampleConfig, TextConfig, TrainConfig, ValidationConfig
from charnn.settings import SampleSettings, TrainSettings
from charnn.training.plan import PLANNED


def test_sample_settings_are_the_fields_of_the_sample_config() -> None:
    assert get_type_hints(SampleSettings) == get_type_hints(SampleConfig)


def test_train_settings_are_the_fields_that_a_user_may_set() -> None:
    fields: dict[str, type] = {}
    for config in (TextConfig, ModelConfig, TrainConfig, ValidationConfig):
        hints = get_type_hints(config)
        fields |= {n: h for n, h in hints.items() if config is TextConfig or n in PLANNED}
    assert get_type_hints(TrainSettings) == fields
