"""charnn from Python: load a model, sample, score; train one."""

import contextlib
import secrets
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from charnn import checkpoint
from charnn.checkpoint import Checkpoint
from charnn.config import ModelConfig, SampleConfig, TextConfig, TrainConfig
from charnn.device import pick_device
from charnn.errors import SettingError
from charnn.files import explained
from charnn.folder import BEST
from charnn.model.evaluate import Score, evaluate
from charnn.sampling.generate import stream
from charnn.text.corpus import Corpus, open_corpus
from charnn.training.measure import Stopwatch
from charnn.training.origin import write_about
from charnn.training.plan import Budget, Facts, make_plan
from charnn.training.run import Run


class LanguageModel:
    """A trained model, ready to write and to judge."""

    def __init__(self, loaded: Checkpoint, device: str = "auto") -> None:
        self.checkpoint = loaded
        self.tokenizer = loaded.tokenizer
        self.network = loaded.network(pick_device(device))

    def stream(self, prime: str = "", **settings: Any) -> Iterator[str]:
        """Yield the text after `prime` as it is written; `settings` are `SampleConfig`'s."""
        config = SampleConfig(**({"seed": secrets.randbits(32)} | settings))
        return stream(self.network, self.tokenizer, config, prime)

    def sample(self, prime: str = "", **settings: Any) -> str:
        """The text after `prime`, such as `sample("steep", length=200, seed=1)`."""
        return "".join(self.stream(prime, **settings))

    def score(self, text: str, protocol: str = "stream", window: int = 256) -> Score:
        """How well the model predicts `text`, which needs two characters or more."""
        return evaluate(self.network, self.tokenizer.fold(text), protocol, window)


def load(path: str | Path, device: str = "auto") -> LanguageModel:
    """The model in a run folder (its best checkpoint) or in a .safetensors file."""
    path = Path(path)
    return LanguageModel(checkpoint.load(path / BEST if path.is_dir() else path), device)


def train(
    *corpus: str | Path,
    out: str | Path,
    minutes: float | None = None,
    epochs: float | None = None,
    steps: int | None = None,
    val: Sequence[str | Path] = (),
    device: str = "auto",
    seed: int | None = None,
    **settings: Any,
) -> Path:
    """Train on texts as `charnn train` does, into the new folder `out`; the best checkpoint's path.

    `settings` are fields of `TextConfig`, `ModelConfig` and `TrainConfig`, such as
    `hidden_size=256`. For a report after each step, see `begin`.
    """
    text_settings = {k: settings.pop(k) for k in list(settings) if k in TextConfig.names()}
    text = TextConfig(**text_settings)
    unknown = set(settings) - set(ModelConfig.names()) - set(TrainConfig.names())
    if unknown:
        raise SettingError(f"no setting called {', '.join(sorted(unknown))}")
    if minutes is None and epochs is None and steps is None:
        minutes = 5.0
    parts = [[str(path) for path in paths] for paths in (corpus, val)]
    opened = open_corpus(parts[0], text, val=parts[1])
    budget = {"minutes": minutes, "epochs": epochs, "steps": steps}
    where = pick_device(device)
    run, _ = begin(opened, text, Path(out), budget, settings, seed, where)
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
) -> tuple[Run, str]:
    """Plan a run and make its folder: the run, to be iterated over, and why it is as it is."""
    seed = secrets.randbits(32) if seed is None else seed
    facts = Facts(len(corpus.train), len(corpus.validation), corpus.tokenizer.vocabulary_size, seed)
    with _new_folder(folder):
        plan = make_plan(facts, Budget(**budget), given, Stopwatch(corpus.train, device))
        run = Run.start(folder, corpus, text, plan.model, plan.train, device)
        write_about(folder, corpus, [Path(sys.argv[0]).name, *sys.argv[1:]], device)
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
