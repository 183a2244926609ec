"""Lanes and truncated-BPTT windows over a stream of indices; position in, position out.

The text is cut into `batch_size` lanes that are read side by side, each window of `seq_len`
characters going on where the last one ended:

    text    o|-------- lane 0 --------|-------- lane 1 --------|-------- lane 2 --------|rest
              window 0 window 1 …       window 0 window 1 …      window 0 window 1 …

The first `o` characters are left out, a different seeded number each epoch, so that the borders
of lanes and windows move. No target wraps round.
"""

import copy
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from charnn.errors import TextError
from charnn.text.tokenizer import Indices

PIECE = 1 << 22  # symbols that are sent to a device at once

# Shapes: B lanes, T = seq_len characters of a window.


@dataclass(frozen=True)
class Position:
    """Where reading goes on: a window of an epoch."""

    epoch: int = 0
    window: int = 0


class Batches:
    """Windows of a text by position. Nothing is kept between calls: equal in, equal out."""

    def __init__(self, indices: Indices, batch_size: int, seq_len: int, seed: int) -> None:
        """Use fewer lanes (see `batch_size`) than asked for when the text is too short for them."""
        if len(indices) < seq_len + 1:
            raise TextError(
                f"the training text has {len(indices):,} characters, one window of {seq_len:,} "
                f"needs {seq_len + 1:,}; give more text or a smaller --seq-len"
            )
        self.batch_size = min(batch_size, (len(indices) - 1) // seq_len)
        self.seq_len = seq_len
        self._indices = indices
        self._there: Tensor | None = None  # the text on another device
        self._seed = seed
        spare = len(indices) - 1 - self.batch_size * seq_len
        self._offsets = min(seq_len, spare + 1)  # an epoch skips 0 to this many less one

    @property
    def symbols(self) -> float:
        """Symbols that a window has."""
        return self.batch_size * self.seq_len

    def on(self, device: torch.device) -> "Batches":
        """The same windows, cut on a CUDA device that holds the text, if it has room for it."""
        # of the wider types every operation knows only this one
        kind = torch.uint8 if self._indices.itemsize == 1 else torch.int32
        size = len(self._indices) * kind.itemsize
        if device.type == "cuda" and size > torch.cuda.mem_get_info(device)[0] // 8:
            return self
        there = copy.copy(self)
        there._there = torch.empty(len(self._indices), dtype=kind, device=device)
        for start in range(0, len(self._indices), PIECE):
            piece = torch.from_numpy(self._indices[start : start + PIECE].astype(np.int64))
            there._there[start : start + PIECE] = piece
        return there

    def offset(self, epoch: int) -> int:
        """How many characters at the beginning of the text the epoch leaves out."""
        return int(np.random.default_rng([self._seed, epoch]).integers(self._offsets))

    def windows(self, epoch: int) -> int:
        """How many windows the epoch has."""
        return self._lane(self.offset(epoch)) // self.seq_len

    def begins(self, position: Position) -> bool:
        """Whether the lanes' text begins at this window."""
        return position.window == 0

    def _lane(self, offset: int) -> int:
        return (len(self._indices) - 1 - offset) // self.batch_size

    def at(self, position: Position) -> tuple[Tensor, Tensor, Position]:
        """Inputs and targets [T, B] of the window at `position`, and the position after it."""
        offset = self.offset(position.epoch)
        lane = self._lane(offset)
        start, length = offset + position.window * self.seq_len, self.seq_len + 1
        if self._there is not None:
            sizes, steps = (length, self.batch_size), (1, lane)
            both = self._there.as_strided(sizes, steps, start).long()
        else:
            starts = start + lane * np.arange(self.batch_size)
            columns = [self._indices[begin : begin + length] for begin in starts]
            both = torch.from_numpy(np.stack(columns, axis=1).astype(np.int64))
        last = position.window + 1 == lane // self.seq_len
        after = (
            Position(position.epoch + 1) if last else Position(position.epoch, position.window + 1)
        )
        return both[:-1], both[1:], after
