"""A step engine for tiles of a fixed number of texts: each is the same bits alone and among others.

The sums of a matrix product are rounded in an order that depends on its shape, and element-wise
functions on the place in memory. With the shape fixed, neither depends on the number of texts.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from charnn.sampling.engine import StepEngine, Symbols, Workspace

# Shapes: B batch, H hidden, L layers, V vocabulary, S tensors in a cell's state, T texts of a tile.

TILE = 64  # texts; fewer make many texts slower, more make a few slower


class TiledWorkspace(Workspace):
    """The workspaces of the tiles; the last one is filled up with texts that nobody reads.

    `columns` is a copy.
    """

    def __init__(self, tiles: list[Workspace], texts: int) -> None:
        self.tiles, self.texts = tiles, texts
        self.logits = tiles[0].logits.new_empty(texts, tiles[0].logits.shape[1])
        self.collect()

    def collect(self) -> None:
        """Copy the tiles' logits to `logits`."""
        for tile, part in zip(self.tiles, self.logits.split(TILE), strict=True):
            part.copy_(tile.logits[: len(part)])

    @property
    def columns(self) -> Tensor:
        """The columns of all texts."""
        return torch.cat([tile.columns for tile in self.tiles], 1)[:, : self.texts]

    def replace(self, row: int, other: Workspace) -> None:
        """See `Workspace.replace`."""
        tile, place = divmod(row, TILE)
        self.tiles[tile].replace(place, other)
        self.logits[row] = self.tiles[tile].logits[place]


class TiledEngine:
    """A `StepEngine` that lets another engine step `TILE` texts at a time."""

    def __init__(self, engine: StepEngine[Any]) -> None:
        self.clamps = engine.clamps
        self._engine = engine

    def start(self, state: Tensor) -> TiledWorkspace:
        """See `StepEngine.start`."""
        tiles = [self._engine.start(some.contiguous()) for some in _tiles(state)]
        return TiledWorkspace(tiles, state.shape[1])

    def step(self, symbols: Symbols, workspace: TiledWorkspace) -> Tensor:
        """See `StepEngine.step`."""
        indices = torch.as_tensor(symbols)
        for tile, some in zip(workspace.tiles, _tiles(indices[None]), strict=True):
            self._engine.step(some[0], tile)
        workspace.collect()
        logits: Tensor = workspace.logits
        return logits

    def state(self, workspace: TiledWorkspace) -> Tensor:
        """See `StepEngine.state`."""
        states = [self._engine.state(tile) for tile in workspace.tiles]
        return torch.cat(states, 1)[:, : workspace.texts]

    def workspace(self, columns: Tensor) -> TiledWorkspace:
        """See `StepEngine.workspace`."""
        tiles = [self._engine.workspace(some.contiguous()) for some in _tiles(columns)]
        return TiledWorkspace(tiles, columns.shape[1])


def _tiles(values: Tensor) -> Sequence[Tensor]:
    """Return values [A, B, …] in tiles [A, T, …]; the last text is repeated to fill its tile."""
    texts = values.shape[1]
    places = torch.arange(-(-texts // TILE) * TILE).clamp_max(texts - 1)
    return values[:, places].split(TILE, 1)
