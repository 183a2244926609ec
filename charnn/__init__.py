"""Character-level language models: train an LSTM on any text, sample from it, measure it.

import charnn

path = charnn.train("corpus.txt", minutes=5)   # the best checkpoint of a new run
model = charnn.load(path)
print(model.sample("steep", length=200, seed=1))
print(model.score("steep").nats_per_char)
"""

import importlib
from typing import TYPE_CHECKING, Any

from charnn.errors import CharnnError
from charnn.threads import limit_spinning
from charnn.version import __version__

if TYPE_CHECKING:
    from charnn.api import load, resume, train
    from charnn.language_model import LanguageModel

__all__ = ["CharnnError", "LanguageModel", "__version__", "load", "resume", "train"]


def __getattr__(name: str) -> Any:
    """Import what needs torch only when it is asked for (PEP 562), so that `--help` stays quick."""
    if name in ("LanguageModel", "load", "resume", "train"):
        limit_spinning()
        return getattr(importlib.import_module("charnn.api"), name)
    raise AttributeError(f"module 'charnn' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
