"""Compare how far back an RNN, a GRU and an LSTM can learn, before and after training."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from charnn.errors import TextError
from charnn.insight.gradients import Reach, measure_reach, refuse_records
from charnn.model.evaluate import evaluate
from charnn.text.batches import batches_of
from charnn.text.corpus import Corpus
from charnn.text.records import indices_of
from charnn.training.loop import train_steps
from charnn.training.plan import Budget, Plan, PlanRequest, plan_run
from charnn.training.recipe import default_batching
from charnn.training.reports import Rollback, StepReport, TrainingWarning
from charnn.training.state import TrainState
from charnn.training.validations import MAX_VALIDATION_SYMBOLS
from charnn.words import plural

# Everything but the cell is the same, and nothing is set that is known to favour one of them.
SETTINGS = {
    "hidden_size": 128, "num_layers": 1, "embedding_size": 128, "dropout": 0.0,
    "weight_decay": 0.01, "precision": "fp32",
}  # fmt: skip


@dataclass(frozen=True)
class Trial:
    """The gradient norms of a model with one kind of cell, before and after training."""

    cell: str
    untrained: Reach
    trained: Reach
    steps: int
    nats_per_char: float  # on the validation part, by the protocol `lanes`

    def to_json(self) -> dict[str, Any]:
        """Return the trial as plain JSON."""
        return {
            "cell": self.cell,
            "steps": self.steps,
            "val_nats_per_char": self.nats_per_char,
            "untrained": self.untrained.to_json(),
            "trained": self.trained.to_json(),
        }


def plan_trial(cell: str, corpus: Corpus, minutes: float, seed: int, device: torch.device) -> Plan:
    """Plan to train a small model with this cell for so many minutes.

    Raise `TextError` if the corpus has no validation part or consists of records.
    """
    refuse_records(corpus.whole)
    if len(corpus.validation) == 0:
        raise TextError("the text has no validation part to measure on; give another text")
    if len(corpus.train) <= default_batching(len(corpus.train), "fp32").window:
        characters = plural(len(corpus.train), "character")
        raise TextError(f"{characters} are too few to train on; give a longer text")
    request = PlanRequest(Budget(minutes), SETTINGS | {"cell": cell}, seed)
    return plan_run(request, corpus, device)


def run_trial(
    corpus: Corpus, plan: Plan, device: torch.device, distance: int, positions: int
) -> Iterator[StepReport | Rollback | TrainingWarning | Trial]:
    """Measure a new model on the validation part, train it, and measure it again.

    Yield the reports of the training, and the `Trial` at the end. Nothing is written to disk.
    `distance` and `positions` are those of `measure_reach`.
    """
    text, train = indices_of(corpus.validation), plan.train
    batches = batches_of(corpus.train, train.batch_size, train.seq_len, train.seed)
    state = TrainState.start(plan.model, train, batches.batch_size, device)
    untrained = measure_reach(state.network, text, distance, positions)
    yield from train_steps(state, batches, train, train.steps)
    trained = measure_reach(state.network, text, distance, positions)
    score = evaluate(state.network, text, "lanes", symbols=MAX_VALIDATION_SYMBOLS)
    yield Trial(plan.model.cell, untrained, trained, state.step, score.nats_per_char)
