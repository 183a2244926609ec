"""Checked by mypy, never run: the public functions accept and refuse what they should.

A misuse that mypy no longer refuses makes its `type: ignore` unused, which is an error too.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import assert_type

import charnn
from charnn.model.evaluate import Score
from charnn.runs.reports import Report


def train() -> None:
    assert_type(charnn.train("corpus.txt", hidden_size=3, cell="gru", lines=True), Path)
    assert_type(charnn.resume("checkpoints/corpus", steps=9), Path)
    charnn.train("corpus.txt", hiden_size=3)  # type: ignore[call-arg]
    charnn.train("corpus.txt", hidden_size="3")  # type: ignore[arg-type]
    charnn.train("corpus.txt", vocabulary_size=3)  # type: ignore[call-arg]
    charnn.train("corpus.txt", minuts=3)  # type: ignore[call-arg]
    charnn.resume("checkpoints/corpus", hidden_size=3)  # type: ignore[call-arg]


def reports(report: Report) -> None:
    if isinstance(report, charnn.Validation) and report.score is not None:
        assert_type(report.score.nats_per_char, float)
    charnn.train("corpus.txt", on_report=reports, progress=True)
    charnn.train("corpus.txt", on_report=lambda step: step.step + 1)  # type: ignore[union-attr]


def sample(model: charnn.LanguageModel) -> None:
    assert_type(charnn.load("checkpoints/corpus"), charnn.LanguageModel)
    assert_type(model.sample("steep", length=3, temperature=0.7, stop="."), str)
    assert_type(next(model.stream("steep", length=None)), str)
    samples: Iterator[charnn.Sample] = model.samples(3, "steep", top_p=0.9, seed=1)
    assert_type(next(samples).nats_per_char, float)
    model.sample(lenght=3)  # type: ignore[call-arg]
    model.sample("steep", length="3")  # type: ignore[arg-type]
    model.samples(3, temprature=1.0)  # type: ignore[call-arg]
    model.sample(b"steep")  # type: ignore[arg-type]


def measure(model: charnn.LanguageModel) -> None:
    assert_type(model.score("steep"), Score)
    assert_type(model.records(3, keep="^s", length=9).counts.kept, int)
    model.records(3, uniqe=True)  # type: ignore[call-arg]
    model.with_clamps(charnn.Clamp(0, 3, 1.0)).sample("steep")
    model.with_clamps((0, 3, 1.0))  # type: ignore[arg-type]
