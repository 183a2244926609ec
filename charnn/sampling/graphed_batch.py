"""Several symbols of each text per launch, on CUDA.

A step is a dozen small kernels, which take longer to launch from Python than to run. So several
steps, with the draws between them, are captured once as a CUDA graph and replayed; only the symbols
come back. The texts are the same as those of `Batch`.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from charnn.cuda_graph import capture
from charnn.sampling.arrays import Array
from charnn.sampling.batch import Batch
from charnn.sampling.engine import StepEngine, Workspace
from charnn.sampling.filters import FilterChain

STEPS = 16  # per launch; a text that ends within them is computed to the end of them in vain

# Shapes: K = STEPS, B batch, V vocabulary.


class GraphedBatch(Batch):
    """A batch that takes several steps at once.

    No filter may look back, and no unit may be clamped. Finished rows are carried along until they
    are half of all, because each number of rows needs its own graph. Raises `RuntimeError` if the
    steps cannot be captured.
    """

    def __init__(
        self,
        engine: StepEngine[Any],
        primed: Workspace,
        chain: FilterChain,
        seeds: Sequence[int],
        prime: Sequence[int] = (),
    ) -> None:
        """See `Batch`."""
        super().__init__(engine, primed, chain, seeds, prime)
        self._rows = list(range(len(seeds)))  # the columns of the rows that are not finished
        self._prepare()

    def symbols(self) -> Iterator[Array]:
        """See `Batch.symbols`."""
        while True:
            yield from self.draw_steps()[0]

    def draw_steps(self) -> tuple[Array, Tensor]:
        """See `Batch.draw_steps`; K symbols, which have been read already."""
        noise = torch.as_tensor(self._noise.next_places(STEPS))  # [B, K, V]
        self._added.copy_(noise.transpose(0, 1), non_blocking=True)
        self._run_steps()
        return self._drawn.cpu().numpy()[:, self._rows], self._seen[:, self._rows]

    def advance(self, symbols: Array) -> None:
        """Do nothing: `draw_steps` has read the symbols."""

    def restart(self, row: int, seed: int) -> None:
        """See `Batch.restart`."""
        super().restart(self._rows[row], seed)

    def select(self, rows: Sequence[int]) -> None:
        """See `Batch.select`."""
        self._rows = [self._rows[row] for row in rows]
        if 2 * len(self._rows) <= len(self.logits):
            super().select(self._rows)
            self._rows = list(range(len(self._rows)))
            if self._rows:
                with contextlib.suppress(RuntimeError):  # the steps then run one by one
                    self._prepare()

    def _steps(self) -> None:
        """Draw and read K symbols of each row, from their logits and the noise `_added`."""
        for place in range(STEPS):
            self._seen[place].copy_(self.logits)
            scores = self.chain(self.logits, self._history) + self._added[place]
            torch.argmax(scores, -1, out=self._drawn[place])
            self._engine.step(self._drawn[place], self._workspace)

    def _prepare(self) -> None:
        """Allocate the buffers, and capture the steps where there is CUDA to do it."""
        rows, device = len(self.logits), self.logits.device
        self._added = self.logits.new_zeros(STEPS, *self.logits.shape)
        self._seen = torch.empty_like(self._added)
        self._drawn = torch.zeros(STEPS, rows, dtype=torch.int64, device=device)
        self._run_steps: Callable[[], object] = self._steps
        if self._can_capture:
            self._run_steps = self._captured_steps()

    @property
    def _can_capture(self) -> bool:
        return self._workspace.columns.is_cuda

    def _captured_steps(self) -> Callable[[], object]:
        """Return the replay of the captured steps, checked against the eager ones."""
        columns = self._workspace.columns
        before = columns.clone()

        def warm_up() -> Tensor:
            self._steps()
            return self._drawn.clone()

        try:
            graph, expected = capture(before.device, warm_up, self._steps)
            columns.copy_(before)
            graph.replay()
            if not torch.equal(self._drawn, expected):
                raise RuntimeError("a replay draws other symbols")
        finally:
            columns.copy_(before)
        return graph.replay
