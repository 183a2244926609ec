"""What does a training run come to, judged so that choices and reports are kept apart?

The validation part of tiny shakespeare has been looked at so often that choices fit it. Here its
last fifth is kept from every choice, the training run's own choice of its best model included.
Used by bench_learn.py and sweep.py.
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
    """Nats per character of the best model of a run, and what the run was."""

    first: float  # `stream` over the first four fifths of the validation part: for choices
    held_out: float  # the rest of the same pass
    stream: float  # all of it
    window: float  # all of it, in cold windows of 256
    parameters: int
    seconds: float  # of the whole of charnn.train, timing, validations and saves included
    model: ModelConfig
    train: TrainConfig
    metrics: str  # metrics.jsonl


class Text:
    """A corpus in three parts: to train on, to choose by, held out."""

    def __init__(self, path: Path, characters: int | None = None) -> None:
        """Take the first `characters` of the file only, if a number is given."""
        with tempfile.TemporaryDirectory() as folder:
            shorter = Path(folder, path.name)
            shorter.write_text(path.read_text(encoding="utf-8")[:characters], encoding="utf-8")
            corpus = open_corpus([str(shorter)], TextConfig())
            decode = corpus.tokenizer.decode
            self.train, self.validation = (
                decode(indices_of(part)) for part in (corpus.train, corpus.validation)
            )
        self.first = self.validation[: len(self.validation) - int(HELD_OUT * len(self.validation))]

    def judge(self, **options: Any) -> Judged:
        """Train as `charnn.train` with these options does, and judge the best model."""
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
            few, whole = (
                open_corpus(
                    [str(folder / "train")], model.checkpoint.text, val=[str(folder / part)],
                    tokenizer=model.tokenizer, skip_unknown=True,
                ).validation
                for part in ("first", "validation")
            )  # fmt: skip
            metrics = (run / "metrics.jsonl").read_text(encoding="utf-8")
        first, stream = (evaluate(model.network, part, "stream") for part in (few, whole))
        rest = (stream.nats - first.nats) / (stream.characters - first.characters)
        window = evaluate(model.network, whole, "window").nats_per_char
        return Judged(
            first.nats_per_char, rest, stream.nats_per_char, window,
            model.network.parameter_count(), seconds,
            model.checkpoint.model, model.checkpoint.train, metrics,
        )  # fmt: skip
