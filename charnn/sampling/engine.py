"""The step engine: reads one symbol of each text and returns the logits of the next.

An engine holds weights and never changes after its construction, so threads may share it. All that
a step changes lies in a workspace, which belongs to one batch of texts.
"""

from collections.abc import Sequence
from typing import Protocol, TypeVar

from charnn.sampling.arrays import Array
from charnn.sampling.clamp import Clamp

# Shapes: B batch, H hidden, L layers, V vocabulary, S tensors in a cell's state, R rows of a
# workspace.

Symbols = Array  # indices [B]


class Workspace:
    """Recurrent state, scratch buffers and their views for a batch of texts.

    `columns` [R, B] is all that lasts from one step to the next, a column per text. Columns do not
    depend on each other. `logits` [B, V], of each text's next symbol, is a view of it or a copy,
    which the next step overwrites. Both are arrays of NumPy or tensors, by the engine.
    """

    columns: Array
    logits: Array

    def replace(self, row: int, other: "Workspace") -> None:
        """Overwrite a text with the only one of another workspace of the same engine."""
        self.columns[:, row] = other.columns[:, 0]


W = TypeVar("W", bound=Workspace)


class StepEngine(Protocol[W]):
    """Compute the same function as a `CharNetwork`, one symbol per call.

    The weights are copied: later training does not change them.
    """

    clamps: Sequence[Clamp]  # applied in every step; `start` takes a state as it is

    def start(self, state: Array) -> W:
        """Return the workspace of texts that were read up to `state` [S, B, L, H]."""
        ...

    def step(self, symbols: Symbols, workspace: W) -> Array:
        """Read one symbol of each text [B]; return `workspace.logits` [B, V], now of the next."""
        ...

    def state(self, workspace: W) -> Array:
        """Return a copy of the recurrent state [S, B, L, H]."""
        ...

    def workspace(self, columns: Array) -> W:
        """Return the workspace of these columns [R, B], which belong to it from now on."""
        ...


def select(engine: StepEngine[W], workspace: W, rows: Sequence[int]) -> W:
    """Return a new workspace with copies of these texts, in this order; one may be repeated."""
    return engine.workspace(workspace.columns[:, list(rows)])
