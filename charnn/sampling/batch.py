"""Texts that are generated together, one symbol of each at a time."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from charnn.config import SampleConfig
from charnn.sampling.arrays import Array, to_numpy
from charnn.sampling.engine import StepEngine, Workspace, select
from charnn.sampling.engines import Engines
from charnn.sampling.filters import FilterChain
from charnn.sampling.history import History
from charnn.sampling.noise import GumbelNoise

if TYPE_CHECKING:
    from charnn.model.network import CharNetwork

_MAX_TEMPERATURE = 1e30  # above, the noise would be infinite; the draw is uniform long before

# Shapes: B batch, V vocabulary, K steps.


class Batch:
    """Rows that continue the same prime, each with a seed of its own.

    A row's random numbers depend on its seed and on the place in its text, and on nothing else. In
    float32 a row may still differ with the number of rows, where two symbols are nearly equally
    likely: products of different shapes round differently.
    """

    def __init__(
        self,
        engine: StepEngine[Any],
        primed: Workspace,
        chain: FilterChain,
        seeds: Sequence[int],
        prime: Sequence[int] = (),
    ) -> None:
        """`primed` is a workspace of one text (`Engines.read`), which is copied for each seed.

        `prime` are the symbols that filters may look back at.
        """
        self.chain = chain
        self._engine = engine
        self._primed = primed
        self._use(select(engine, primed, [0] * len(seeds)))
        temperature = min(chain.config.temperature, _MAX_TEMPERATURE)
        self._noise = GumbelNoise(seeds, self._readable, temperature)
        self._history = History(chain.config, self.logits.shape[1], prime)
        for row in range(len(seeds)):
            self._history.restart(row)

    @classmethod
    def of_network(
        cls,
        network: "CharNetwork",
        config: SampleConfig,
        prime: Sequence[int],
        seeds: Sequence[int],
        engine: StepEngine[Any] | None = None,
    ) -> "Batch":
        """Return a batch of a network, stepped by the fastest engine unless one is given."""
        engines = Engines(network.weights(), str(network.head.weight.device))
        engine = engine or (engines.one() if len(seeds) == 1 else engines.many())
        return cls(engine, engines.read(engine, prime), FilterChain(config), seeds, prime)

    def _use(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self.logits = workspace.logits  # [B, V], the model's own for the next symbols
        # On a CPU NumPy reads them, because it starts faster than torch.
        self._readable: Array = self.logits
        if isinstance(self.logits, np.ndarray) or self.logits.device.type == "cpu":
            self._readable = to_numpy(self.logits)

    def draw(self) -> Array:
        """Return the next symbol of each row [B], without reading it."""
        logits, noise = self._readable, self._noise.next()
        if not self.chain.is_empty:
            logits = self.chain(logits, self._history)
        return to_numpy((logits + noise).argmax(-1))

    def draw_steps(self) -> tuple[Array, Array]:
        """Return the next symbols of each row [K, B] and the model's logits [K, B, V] for them.

        K is 1 here; a subclass may take several steps at once. Pass the last step to `advance`.
        """
        return self.draw()[None], self._readable[None]

    def advance(self, symbols: Array) -> None:
        """Let each row read the symbol that was drawn for it [B]."""
        if self._history.used:
            self._history.append(symbols.tolist())
        self._engine.step(symbols, self._workspace)

    def symbols(self) -> Iterator[Array]:
        """Yield symbols [B] without end."""
        while True:
            symbols = self.draw()
            yield symbols
            self.advance(symbols)

    def restart(self, row: int, seed: int) -> None:
        """Replace a finished row by a new text with this seed."""
        self._workspace.replace(row, self._primed)
        self._noise.restart(row, seed)
        self._history.restart(row)

    def select(self, rows: Sequence[int]) -> None:
        """Keep only these rows, in this order."""
        self._use(select(self._engine, self._workspace, rows))
        self._noise.select(rows)
        self._history.select(rows)
