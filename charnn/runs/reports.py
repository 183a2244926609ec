"""Reports that a run yields while it trains, one per event."""

from dataclasses import dataclass

from charnn.model.evaluate import Score
from charnn.model.network import CharNetwork
from charnn.training.reports import Rollback, StepReport, TrainingWarning


@dataclass(frozen=True)
class Validation:
    """The result of a validation. `network` is the live one: read it, do not change it."""

    step: int
    score: Score | None  # None without a validation part
    best: bool
    network: CharNetwork


@dataclass(frozen=True)
class Replanned:
    """A run of minutes has got more or fewer steps, so that it ends in time."""

    step: int
    before: int  # steps
    steps: int

    def __str__(self) -> str:
        return (
            f"{self.before:,} steps become {self.steps:,}, so that the run ends in time with its "
            "schedule complete"
        )


Report = StepReport | Validation | Rollback | Replanned | TrainingWarning
