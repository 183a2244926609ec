"""Reports that training yields, one per event; they need no torch."""

from dataclasses import dataclass


@dataclass(frozen=True)
class StepReport:
    """The numbers of one update."""

    step: int  # updates made, including this one
    loss: float  # nats per character of its window, before the update
    learning_rate: float
    gradient_norm: float  # before clipping


@dataclass(frozen=True)
class Rollback:
    """A step whose result was not finite, and the snapshot to which training returned."""

    step: int
    to: int  # the snapshot's step
    problem: str
    learning_rate: float  # the highest of the schedule from here on

    def __str__(self) -> str:
        return (
            f"step {self.step:,}: {self.problem}; back to step {self.to:,} with the learning "
            f"rate halved to at most {self.learning_rate:.2g}"
        )


@dataclass(frozen=True)
class TrainingWarning:
    """A failure that training survives."""

    problem: str

    def __str__(self) -> str:
        return self.problem
