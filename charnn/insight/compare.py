"""RNN, GRU and LSTM side by side: how far back each can learn, before training and after it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from charnn.errors import TextError
from charnn.insight.gradients import FADED, LABELS, Reach, drawn_range, measure_reach
from charnn.insight.plot import figure
from charnn.model.evaluate import evaluate
from charnn.runs.start import plan_run
from charnn.text.batches import batches_of
from charnn.text.corpus import Corpus
from charnn.text.records import indices_of
from charnn.training.loop import Rollback, StepReport, TrainingWarning, train_steps
from charnn.training.plan import Budget, Plan
from charnn.training.state import TrainState

# All the same but the cell, and nothing that is known to help one of them more.
SETTINGS = {
    "hidden_size": 128, "num_layers": 1, "embedding_size": 128, "dropout": 0.0,
    "weight_decay": 0.01, "precision": "fp32",
}  # fmt: skip
LOOKS = {"rnn": ("#808080", "o"), "gru": ("#4d4d4d", "s"), "lstm": ("#000000", "^")}
CELLS = tuple(LOOKS)


@dataclass(frozen=True)
class Trial:
    """What was found out about a cell."""

    cell: str
    untrained: Reach
    trained: Reach
    steps: int
    nats_per_char: float  # of the validation part, by `lanes`


def plan_trial(cell: str, corpus: Corpus, minutes: float, seed: int, device: torch.device) -> Plan:
    """How a small model with this cell is trained in so many minutes of this machine."""
    if len(corpus.validation) == 0:
        raise TextError("the text has no validation part to measure on; give another text")
    return plan_run(corpus, Budget(minutes), SETTINGS | {"cell": cell}, seed, device)


def trial(
    corpus: Corpus, plan: Plan, device: torch.device, distance: int, positions: int
) -> Iterator[StepReport | Rollback | TrainingWarning | Trial]:
    """Measure, train, measure again, with nothing on the disk: the training's reports, and at the
    end what was found out, on the validation part."""
    text, train = indices_of(corpus.validation), plan.train
    batches = batches_of(corpus.train, train.batch_size, train.seq_len, train.seed)
    state = TrainState.start(plan.model, train, batches.batch_size, device)
    untrained = measure_reach(state.network, text, distance, positions)
    yield from train_steps(state, batches, train, train.steps)
    trained = measure_reach(state.network, text, distance, positions)
    score = evaluate(state.network, text, "lanes")
    yield Trial(plan.model.cell, untrained, trained, state.step, score.nats_per_char)


def draw_trials(path: Path, trials: Sequence[Trial]) -> None:
    """A picture of all medians: trained solid, untrained dashed; a shade and a marker per cell."""
    with figure(path, 6.5, 4.2) as drawn:
        axes = drawn.subplots()
        curves = []
        for number, found in enumerate(trials):
            color, marker = LOOKS[found.cell]
            for name, reach, line in (
                ("trained", found.trained, "-"), ("untrained", found.untrained, "--")
            ):  # fmt: skip
                median = reach.relative[1]
                curves.append(median)
                every = max(1, len(median) // 20)
                axes.plot(
                    np.arange(len(median)), median, line, color=color, linewidth=1.3,
                    marker=marker, markersize=5, markerfacecolor="white" if line == "--" else color,
                    markevery=(number * every // len(trials), every),
                    label=f"{found.cell.upper()}, {name}",
                )  # fmt: skip
        axes.axhline(FADED, color="black", linewidth=0.8, linestyle=":", label="1 %")
        axes.set(xlabel=LABELS[0], ylabel=LABELS[1], yscale="log")
        axes.set_xlim(0, max(1, len(curves[0]) - 1))
        axes.set_ylim(*drawn_range(*curves))
        axes.legend(edgecolor="none", framealpha=1)  # white, or the rule strikes a name out
