"""charnn from Python: load a model, sample, score; train one."""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from charnn.checkpoint import Checkpoint
from charnn.config import DEFAULT_MINUTES, SampleConfig, TextConfig
from charnn.device import pick_device
from charnn.errors import SettingError
from charnn.model.evaluate import Score, evaluate
from charnn.runs.folder import BEST, run_name, unused_folder
from charnn.runs.opening import open_model
from charnn.runs.run import Run
from charnn.runs.start import PLANNED, begin, create_run_folder, plan_run, resumed
from charnn.sampling.sampler import Sampler
from charnn.sampling.stopping import Sample, StopCriteria
from charnn.text.corpus import open_corpus
from charnn.text.records import Records, Text, indices_of, split_records
from charnn.training.loop import Rollback, TrainingWarning
from charnn.training.plan import Budget


class LanguageModel:
    """A trained model, ready to write and to judge."""

    def __init__(self, loaded: Checkpoint, device: str = "auto") -> None:
        self.checkpoint = loaded
        self.tokenizer = loaded.tokenizer
        self.network = loaded.network(pick_device(device))
        self._writer = Sampler(self.network, self.tokenizer, records=loaded.text.lines)

    def stream(
        self, prime: str = "", *, stop: str | Sequence[str] = (), **settings: Any
    ) -> Iterator[str]:
        """Yield the text after `prime` as it is written, up to one of the texts of `stop`.

        `settings` are those of `SampleConfig`, such as `length`, `temperature`, `top_p`, `seed`.
        """
        return self._writer.stream(SampleConfig.from_json(settings), prime, _ending(stop))

    def sample(self, prime: str = "", **settings: Any) -> str:
        """The text after `prime`, such as `sample("steep", length=200, seed=1)`."""
        return "".join(self.stream(prime, **settings))

    def samples(
        self,
        count: int,
        prime: str = "",
        *,
        stop: str | Sequence[str] = (),
        best: int | None = None,
        **settings: Any,
    ) -> Iterator[Sample]:
        """Yield `count` texts after `prime`, many written at once, in their order.

        A sample's `seed`, given to `sample`, writes its text again. With `best` each has `choices`:
        for every symbol its nats and so many alternatives.
        """
        config, ending = SampleConfig.from_json(settings), _ending(stop)
        return self._writer.samples(config, count, prime, ending, best)

    def beam(
        self, width: int, prime: str = "", *, length: int, stop: str | Sequence[str] = ()
    ) -> list[Sample]:
        """The likeliest texts after `prime` that a beam search of that width finds, best first."""
        config = SampleConfig(length=length)
        return self._writer.beam(config, width, prime, _ending(stop))

    def score(self, text: str, protocol: str = "stream", window: int = 256) -> Score:
        """How well the model predicts `text`, which needs two characters or more; a model of
        records predicts whole lines."""
        lines = self.checkpoint.text.lines
        read: Text = self.tokenizer.fold(text)
        newline = self.tokenizer.newline_index
        if lines and newline is not None:
            indices, _ = split_records([indices_of(read)], newline, self.tokenizer.codes(), 0)
            read = Records(indices, newline)
        return evaluate(self.network, read, protocol, window)


def load(path: str | Path, device: str = "auto") -> LanguageModel:
    """The model in a run folder (its best checkpoint) or in a .safetensors file."""
    return LanguageModel(_open(path), device)


def train(
    *corpus: str | Path,
    out: str | Path | None = None,
    minutes: float | None = None,
    epochs: float | None = None,
    steps: int | None = None,
    val: str | Path | Sequence[str | Path] = (),
    device: str = "auto",
    seed: int | None = None,
    init_from: str | Path | None = None,
    save_every: float | None = None,
    force: bool = False,
    threads: int = 0,
    **settings: Any,
) -> Path:
    """Train on texts as `charnn train` does, into a new folder; the best checkpoint's path.

    `settings` are fields of the config classes, such as `hidden_size=256`; what is not given is
    chosen. `save_every` is in minutes.
    """
    text_settings = {k: settings.pop(k) for k in list(settings) if k in TextConfig.names()}
    text = TextConfig(**text_settings)
    unknown = set(settings) - PLANNED
    if unknown:
        raise SettingError(f"no setting called {', '.join(sorted(unknown))}")
    if minutes is None and epochs is None and steps is None:
        minutes = DEFAULT_MINUTES
    budget, where = Budget(minutes, epochs, steps), pick_device(device)
    weights = None if init_from is None else _open(init_from)
    text = text if weights is None else replace(text, tokenizer=weights.text.tokenizer)
    parts = [_names(corpus), _names(val)]
    opened = open_corpus(parts[0], text, val=parts[1])
    folder = unused_folder(run_name(parts[0])) if out is None else Path(out)
    with create_run_folder(folder):
        plan = plan_run(opened, budget, settings, seed, where, weights, force, threads=threads)
        command, every = "charnn.train in Python", save_every and 60 * save_every
        run = begin(folder, opened, text, plan, budget, where, command, every, weights)
        return _finish(run)


def resume(
    folder: str | Path,
    *corpus: str | Path,
    minutes: float | None = None,
    epochs: float | None = None,
    steps: int | None = None,
    val: str | Path | Sequence[str | Path] = (),
    device: str = "auto",
    save_every: float | None = None,
    patience: int | None = None,
    force: bool = False,
    threads: int = 0,
) -> Path:
    """Go on with the run in a folder as `charnn train --resume` does; the best checkpoint's path.

    `corpus` is needed only where the text has moved; a larger budget makes the run longer.
    """
    longer = any(value is not None for value in (minutes, epochs, steps))
    budget = Budget(minutes, epochs, steps) if longer else None
    with resumed(
        Path(folder), pick_device(device), texts=_names(corpus), val=_names(val), budget=budget,
        save_every=save_every and 60 * save_every, patience=patience, force=force,
        threads=threads,
    ) as (run, notes):  # fmt: skip
        for note in notes:
            warnings.warn(note, stacklevel=2)
        return _finish(run)


def _finish(run: Run) -> Path:
    """Train to the end; what the commands tell on stderr becomes a warning."""
    for report in run.reports():
        if isinstance(report, Rollback | TrainingWarning):
            warnings.warn(str(report), stacklevel=3)
    return run.folder / BEST


def _ending(stop: str | Sequence[str]) -> StopCriteria:
    """What ends a text: one text or several."""
    stops = (stop,) if isinstance(stop, str) else tuple(stop)
    if "" in stops:
        raise SettingError("an empty stop would end every text before it begins")
    return StopCriteria(stops)


def _names(paths: str | Path | Sequence[str | Path]) -> list[str]:
    return [str(path) for path in ([paths] if isinstance(paths, str | Path) else paths)]


def _open(path: str | Path) -> Checkpoint:
    loaded, note = open_model(Path(path))
    if note:
        warnings.warn(note, stacklevel=3)
    return loaded
