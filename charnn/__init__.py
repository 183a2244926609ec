"""Character-level language models: train an LSTM on any text, sample from it, measure it.

>>> import charnn
>>> path = charnn.train("corpus.txt", minutes=5)  # the best checkpoint of a new run
>>> model = charnn.load(path)
>>> print(model.sample("steep", length=200, seed=1))
>>> print(model.score("steep").nats_per_char)
"""

import importlib
from typing import TYPE_CHECKING, Any

from charnn.errors import CharnnError
from charnn.threads import limit_spinning
from charnn.version import __version__

if TYPE_CHECKING:
    from charnn.api import curves, load, resume, train
    from charnn.insight.properties import PROPERTIES
    from charnn.language_model import LanguageModel, RecordSamples
    from charnn.runs.reports import Replanned, Validation
    from charnn.sampling.clamp import Clamp
    from charnn.sampling.sample import Sample
    from charnn.training.reports import Rollback, StepReport, TrainingWarning

_MODULES = {
    "LanguageModel": "charnn.language_model",
    "RecordSamples": "charnn.language_model",
    "Clamp": "charnn.sampling.clamp",
    "Sample": "charnn.sampling.sample",
    "Replanned": "charnn.runs.reports",
    "Validation": "charnn.runs.reports",
    "StepReport": "charnn.training.reports",
    "Rollback": "charnn.training.reports",
    "TrainingWarning": "charnn.training.reports",
    "PROPERTIES": "charnn.insight.properties",
    "curves": "charnn.api",
    "load": "charnn.api",
    "resume": "charnn.api",
    "train": "charnn.api",
}
__all__ = [
    "PROPERTIES", "CharnnError", "Clamp", "LanguageModel", "RecordSamples", "Replanned", "Rollback",
    "Sample", "StepReport", "TrainingWarning", "Validation", "__version__", "curves", "load",
    "resume", "train",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Import a name that needs torch when it is first used (PEP 562), so that `--help` is fast."""
    if name in _MODULES:
        limit_spinning()
        return getattr(importlib.import_module(_MODULES[name]), name)
    raise AttributeError(f"module 'charnn' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
