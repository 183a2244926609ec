"""Measures the models of a run on its validation part."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

from charnn.checkpoint import Checkpoint
from charnn.config import TrainConfig
from charnn.model.evaluate import Score, evaluate
from charnn.model.network import CharNetwork
from charnn.runs.context import RunContext
from charnn.text.records import mean_record_length
from charnn.training.validations import MAX_VALIDATION_SYMBOLS, affords_full, symbols_per_step

log = logging.getLogger(__name__)


class StoppedError(Exception):
    """A validation was abandoned because the run is stopping."""


@dataclass(frozen=True)
class Examiner:
    """Measures models, until `is_stopping` is true."""

    context: RunContext
    is_stopping: Callable[[], bool]

    def score(self, network: CharNetwork, symbols: int) -> Score | None:
        """Return the network's score on so many symbols of the validation part, spread evenly; None
        without a validation part.

        Raises:
            StoppedError: the run is stopping.
        """
        text = self.context.corpus.validation
        if len(text) < 2:
            return None
        return evaluate(network, text, "lanes", between=self._raise_if_stopping, symbols=symbols)

    def on_whole_text(self, best: Checkpoint, train: TrainConfig) -> Checkpoint | None:
        """Return the best model with its loss on the whole validation part; None if that is known,
        or would take too long for a run of these settings.

        Validations read only a part of a long text, and the best of many is the luckiest.

        Raises:
            StoppedError: the run is stopping.
        """
        text, figures = self.context.corpus.validation, best.figures
        if figures.val_nats_per_char is None or figures.full_val_nats_per_char is not None:
            return None
        length = mean_record_length(self.context.corpus.train)
        if not affords_full(train.steps * symbols_per_step(train, length), len(text)):
            return None
        if len(text) > MAX_VALIDATION_SYMBOLS:  # it takes a while
            log.info(f"measuring the best model on all {len(text):,} symbols of its text")
        score = self.score(best.network(self.context.device), len(text))
        nats = None if score is None else score.nats_per_char
        return replace(best, figures=replace(figures, full_val_nats_per_char=nats))

    def _raise_if_stopping(self) -> None:
        if self.is_stopping():
            raise StoppedError
