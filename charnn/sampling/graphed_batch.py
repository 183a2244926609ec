"""Several symbols of each text at one launch, on CUDA.

A step is a dozen small kernels, which take longer to launch from Python than to run. So some steps,
with the drawing of the symbols between them, are recorded once and replayed; only the symbols that
were drawn come back. The texts are those of `Batch`.
"""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from charnn.cuda_graph import capture
from charnn.sampling.batch import Batch
from charnn.sampling.stepper import Array

STEPS = 16  # at one launch; a text that ends is read on to the end of it for nothing
WORTH = 200  # symbols of a text, from which on a recording has paid (assumed, not measured)

# Shapes: K = STEPS, B batch, V vocabulary.


class GraphedBatch(Batch):
    """A batch whose turns are of several symbols. `RuntimeError` if it cannot be recorded.

    No filter may look back, and no unit be held. Rows that are done with are carried along until
    they are half of all, because every number of rows is another recording.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        """As `Batch`."""
        super().__init__(*arguments, **named)
        self._rows = list(range(len(self.logits)))
        self._record()

    def symbols(self) -> Iterator[Array]:
        """As `Batch.symbols`."""
        while True:
            yield from self.turn()[0]

    def turn(self) -> tuple[Array, Tensor]:
        """As `Batch.turn`, of K symbols that have been read too."""
        noise = torch.as_tensor(self._noise.several(STEPS))  # [B, K, V]
        self._added.copy_(noise.transpose(0, 1), non_blocking=True)
        self._replay()
        return self._drawn.cpu().numpy()[:, self._rows], self._seen[:, self._rows]

    def advance(self, indices: Array) -> None:
        """A turn has advanced already."""

    def begin(self, row: int, seed: int) -> None:
        """As `Batch.begin`."""
        super().begin(self._rows[row], seed)

    def keep(self, rows: Sequence[int]) -> None:
        """As `Batch.keep`."""
        self._rows = [self._rows[row] for row in rows]
        if 2 * len(self._rows) <= len(self.logits):
            super().keep(self._rows)
            self._rows = list(range(len(self._rows)))
            if self._rows:
                with contextlib.suppress(RuntimeError):  # then the steps are made one by one
                    self._record()

    def _steps(self) -> None:
        """K symbols of each row, from what was added to their logits."""
        for place in range(STEPS):
            self._seen[place].copy_(self.logits)
            chances = self.chain(self.logits, self._history) + self._added[place]
            torch.argmax(chances, -1, out=self._drawn[place])
            self._stepper.step(self._drawn[place], self._memory)

    def _record(self) -> None:
        """Make room, and a recording where there is CUDA to make it."""
        rows, device = len(self.logits), self.logits.device
        self._added = self.logits.new_zeros(STEPS, *self.logits.shape)
        self._seen = torch.empty_like(self._added)
        self._drawn = torch.zeros(STEPS, rows, dtype=torch.int64, device=device)
        self._replay = self._steps
        if self._can_capture:
            self._replay = self._recorded()

    @property
    def _can_capture(self) -> bool:
        return self._memory.is_cuda

    def _recorded(self) -> Any:
        before = self._memory.clone()

        def warm_up() -> Tensor:
            self._steps()
            return self._drawn.clone()

        try:
            graph, expected = capture(before.device, warm_up, self._steps)
            # What the stepper works on: it lets go of it when it is given another batch.
            self._kept = dict(vars(self._stepper))
            self._memory.copy_(before)
            graph.replay()
            if not torch.equal(self._drawn, expected):
                raise RuntimeError("a replay draws other symbols")
        finally:
            self._memory.copy_(before)
        return graph.replay
