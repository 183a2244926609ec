"""How good is a trained model on a text that no choice has seen?

Settings have been chosen so often by the validation part of tiny shakespeare that they may overfit
it. Its last fifth is therefore held out from every choice, including the choice of the best model
during training. Used by bench_learn.py and sweep.py.
"""

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import charnn
from charnn.config import ModelConfig, TextConfig, TrainConfig
from charnn.model.evaluate import evaluate
from charnn.text.corpus import open_corpus
from charnn.text.records import indices_of

HELD_OUT = 0.2  # of the validation part, at its end


@dataclass(frozen=True)
class Judged:
    """Nats per character of the best model of a run, and the facts about the run."""

    first: float  # `stream` on the first four fifths of the validation part; for choices
    held_out: float  # the last fifth, in the same pass
    stream: float  # the complete validation part
    window: float  # the complete validation part, in windows of 256
    parameters: int
    seconds: float  # of `charnn.train`, with timing, validations and saves
    model: ModelConfig
    train: TrainConfig
    metrics: str  # content of metrics.jsonl


class Text:
    """A corpus in three parts: training, validation for choices, and held out."""

    def __init__(self, path: Path, characters: int | None = None) -> None:
        """Read a file, or only its first `characters`."""
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder, path.name)
            copy.write_text(path.read_text(encoding="utf-8")[:characters], encoding="utf-8")
            corpus = open_corpus([str(copy)], TextConfig())
            decode = corpus.tokenizer.decode
            self.train, self.validation = (
                decode(indices_of(part)) for part in (corpus.train, corpus.validation)
            )
        self.first = self.validation[: len(self.validation) - int(HELD_OUT * len(self.validation))]

    def judge(self, **options: Any) -> Judged:
        """Train with `charnn.train` and these options, and evaluate the best model."""
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            parts = {"train": self.train, "first": self.first, "validation": self.validation}
            for part, text in parts.items():
                (folder / part).write_text(text, encoding="utf-8")
            start = time.monotonic()
            run = folder / "run"
            best = charnn.train(folder / "train", val=folder / "first", out=run, **options)
            seconds = time.monotonic() - start
            model = charnn.load(best)
            first_part, complete = (
                open_corpus(
                    [str(folder / "train")], model.checkpoint.text, val=[str(folder / part)],
                    tokenizer=model.tokenizer, skip_unknown=True,
                ).validation
                for part in ("first", "validation")
            )  # fmt: skip
            metrics = (run / "metrics.jsonl").read_text(encoding="utf-8")
        first, stream = (evaluate(model.network, part, "stream") for part in (first_part, complete))
        rest = (stream.nats - first.nats) / (stream.characters - first.characters)
        window = evaluate(model.network, complete, "window").nats_per_char
        return Judged(
            first.nats_per_char, rest, stream.nats_per_char, window,
            model.network.parameter_count(), seconds,
            model.checkpoint.model, model.checkpoint.train, metrics,
        )  # fmt: skip
