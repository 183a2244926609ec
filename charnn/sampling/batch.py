"""Texts that are generated together, one symbol of each at a time."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from charnn.config import SampleConfig
from charnn.model.network import CharNetwork
from charnn.sampling.engine import StepEngine, Workspace
from charnn.sampling.filters import FilterChain
from charnn.sampling.history import History
from charnn.sampling.noise import Array, GumbelNoise
from charnn.sampling.pick_engine import pick_engine
from charnn.sampling.prime import read_prime

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
        """`primed` is a workspace of one text (`read_prime`), which is copied for each seed.

        `prime` are the symbols that filters may look back at.
        """
        self.chain = chain
        self._engine = engine
        self._primed = primed
        self._use(engine.select(primed, [0] * len(seeds)))
        V, device = self.logits.shape[1], self.logits.device
        temperature = min(chain.config.temperature, _MAX_TEMPERATURE)
        self._noise = GumbelNoise(seeds, V, device, temperature)
        self._history = History(chain.config, V, prime)
        for row in range(len(seeds)):
            self._history.restart(row)

    @classmethod
    def of_network(
        cls,
        network: CharNetwork,
        config: SampleConfig,
        prime: Sequence[int],
        seeds: Sequence[int],
        engine: StepEngine[Any] | None = None,
    ) -> "Batch":
        """Return a batch of a network, stepped by the fastest engine unless one is given."""
        engine = engine or pick_engine(network, len(seeds))
        return cls(engine, read_prime(network, engine, prime), FilterChain(config), seeds, prime)

    def _use(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self.logits = workspace.logits  # [B, V], the model's own for the next symbols
        on_cpu = self.logits.device.type == "cpu"
        self._logits_array: Array | None = self.logits.numpy() if on_cpu else None

    def draw(self) -> Array:
        """Return the next symbol of each row [B], without reading it."""
        noise = self._noise.next()
        if self._logits_array is not None and self.chain.is_empty:
            return np.add(self._logits_array, noise).argmax(-1)
        logits = self.chain(self.logits, self._history)
        if self._logits_array is not None:  # NumPy starts faster, and its argmax is faster too
            return np.add(logits.numpy(), noise).argmax(-1)
        return torch.add(logits, noise).argmax(-1).cpu().numpy()

    def draw_steps(self) -> tuple[Array, Tensor]:
        """Return the next symbols of each row [K, B] and the model's logits [K, B, V] for them.

        K is 1 here; a subclass may take several steps at once. Pass the last step to `advance`.
        """
        return self.draw()[None], self.logits[None]

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
        self._workspace.columns[:, row] = self._primed.columns[:, 0]
        self._noise.restart(row, seed)
        self._history.restart(row)

    def select(self, rows: Sequence[int]) -> None:
        """Keep only these rows, in this order."""
        self._use(self._engine.select(self._workspace, rows))
        self._noise.select(rows)
        self._history.select(rows)
