"""charnn from Python: load a model, sample, score; train one."""

import contextlib
import secrets
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from charnn import checkpoint
from charnn.checkpoint import Checkpoint
from charnn.config import DEFAULT_MINUTES, ModelConfig, SampleConfig, TextConfig, TrainConfig
from charnn.device import pick_device
from charnn.errors import SettingError
from charnn.files import explained
from charnn.folder import BEST, best_of, free_folder, is_run, run_name
from charnn.model.evaluate import Score, evaluate
from charnn.sampling.generate import stream
from charnn.text.corpus import Corpus, open_corpus
from charnn.training.measure import Stopwatch
from charnn.training.origin import write_about
from charnn.training.plan import Budget, Facts, make_plan
from charnn.training.run import Run

# What may be given instead of chosen; the rest follows from corpus and budget.
PLANNED = {*ModelConfig.names(), *TrainConfig.names()} - {
    "vocabulary_size", "steps", "seed", "val_every", "val_characters",
}  # fmt: skip


class LanguageModel:
    """A trained model, ready to write and to judge."""

    def __init__(self, loaded: Checkpoint, device: str = "auto") -> None:
        self.checkpoint = loaded
        self.tokenizer = loaded.tokenizer
        self.network = loaded.network(pick_device(device))

    def stream(self, prime: str = "", **settings: Any) -> Iterator[str]:
        """Yield the text after `prime` as it is written.

        `settings` are those of `SampleConfig`: `length`, `temperature`, `top_k` and `seed`.
        """
        return stream(self.network, self.tokenizer, SampleConfig.from_json(settings), prime)

    def sample(self, prime: str = "", **settings: Any) -> str:
        """The text after `prime`, such as `sample("steep", length=200, seed=1)`."""
        return "".join(self.stream(prime, **settings))

    def score(self, text: str, protocol: str = "stream", window: int = 256) -> Score:
        """How well the model predicts `text`, which needs two characters or more."""
        return evaluate(self.network, self.tokenizer.fold(text), protocol, window)


def load(path: str | Path, device: str = "auto") -> LanguageModel:
    """The model in a run folder (its best checkpoint) or in a .safetensors file."""
    path = Path(path)
    return LanguageModel(checkpoint.load(best_of(path) if is_run(path) else path), device)


def train(
    *corpus: str | Path,
    out: str | Path | None = None,
    minutes: float | None = None,
    epochs: float | None = None,
    steps: int | None = None,
    val: str | Path | Sequence[str | Path] = (),
    device: str = "auto",
    seed: int | None = None,
    **settings: Any,
) -> Path:
    """Train on texts as `charnn train` does, into a new folder; the best checkpoint's path.

    `settings` are fields of `TextConfig`, `ModelConfig` and `TrainConfig`, such as
    `hidden_size=256`; what is not given is chosen.
    """
    text_settings = {k: settings.pop(k) for k in list(settings) if k in TextConfig.names()}
    text = TextConfig(**text_settings)
    unknown = set(settings) - PLANNED
    if unknown:
        raise SettingError(f"no setting called {', '.join(sorted(unknown))}")
    if minutes is None and epochs is None and steps is None:
        minutes = DEFAULT_MINUTES
    vals = [val] if isinstance(val, str | Path) else val
    parts = [[str(path) for path in paths] for paths in (corpus, vals)]
    opened = open_corpus(parts[0], text, val=parts[1])
    budget = {"minutes": minutes, "epochs": epochs, "steps": steps}
    where = pick_device(device)
    folder = free_folder(run_name(parts[0])) if out is None else Path(out)
    run, _ = begin(opened, text, folder, budget, settings, seed, where, "charnn.train in Python")
    for _ in run.reports():
        pass
    return run.folder / BEST


def begin(
    corpus: Corpus,
    text: TextConfig,
    folder: Path,
    budget: Mapping[str, Any],
    given: Mapping[str, Any],
    seed: int | None,
    device: torch.device,
    command: str,
) -> tuple[Run, str]:
    """Plan a run and make its folder: the run, to be iterated over, and why it is as it is."""
    seed = secrets.randbits(32) if seed is None else seed
    facts = Facts(len(corpus.train), len(corpus.validation), corpus.tokenizer.vocabulary_size, seed)
    with _new_folder(folder):
        plan = make_plan(facts, Budget(**budget), given, Stopwatch(corpus.train, device))
        run = Run.start(folder, corpus, text, plan.model, plan.train, device)
        write_about(folder, corpus, command, device)
    return run, plan.why


@contextlib.contextmanager
def _new_folder(folder: Path) -> Iterator[None]:
    """Make the folder first, so that a wrong --out is told at once; undo it if the block fails."""
    with explained(f"making the run folder {folder}", "name another --out"):
        folder.mkdir(parents=True)
    try:
        with explained(f"writing to the run folder {folder}", "name another --out"):
            yield
    except BaseException:
        with contextlib.suppress(OSError):  # a folder that holds something stays
            folder.rmdir()
        raise
