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
from numpy.typing import NDArray
from torch import Tensor

from charnn.errors import TextError
from charnn.text.records import Records, Text
from charnn.text.tokenizer import Indices

CHUNK = 32  # batches of records that are sorted by length together, so that little is padded
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


class RecordBatches:
    """Windows of shuffled records by position, as `Batches` has them of a text.

    Lanes hold records of about one length; those longer than a window go on in the next one, the
    state carried. What is left when the lanes have been filled as often as possible waits for the
    next epoch.
    """

    def __init__(self, records: Records, batch_size: int, seq_len: int, seed: int) -> None:
        if len(records.ends) == 0:
            raise TextError("no record to train on; give more lines or a smaller --val-fraction")
        self.batch_size = min(batch_size, len(records.ends))
        self.seq_len = seq_len
        self._records = records
        self._seed = seed
        nothing = np.zeros(0, np.int64)
        self._layout: tuple[int, NDArray[np.int64], NDArray[np.int64]] = (-1, nothing, nothing)

    @property
    def symbols(self) -> float:
        """Symbols that a window has, on average."""
        batches, ends = self._order(0)
        return float(self._records.lengths[batches].sum() / ends[-1])

    def windows(self, epoch: int) -> int:
        """How many windows the epoch has."""
        return int(self._order(epoch)[1][-1])

    def begins(self, position: Position) -> bool:
        """Whether records begin at this window, all of them."""
        return self._place(position)[1] == 0

    def at(self, position: Position) -> tuple[Tensor, Tensor, Position]:
        """Inputs and targets [T, B] of the window at `position`, and the position after it."""
        lanes, window = self._place(position)
        parts = self._records.window(lanes, window * self.seq_len, self.seq_len)
        last = position.window + 1 == self.windows(position.epoch)
        after = (
            Position(position.epoch + 1) if last else Position(position.epoch, position.window + 1)
        )
        inputs, targets = (torch.from_numpy(part) for part in parts)
        return inputs, targets, after

    def _place(self, position: Position) -> tuple[NDArray[np.int64], int]:
        """The records that are read at this window, and which of their windows it is."""
        batches, ends = self._order(position.epoch)
        number = int(np.searchsorted(ends, position.window, side="right"))
        return batches[number], position.window - (int(ends[number - 1]) if number else 0)

    def _order(self, epoch: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The epoch's batches of records [., B], and how many windows are over after each."""
        if self._layout[0] != epoch:  # a function of the epoch, kept because it takes a while
            random, size = np.random.default_rng([self._seed, epoch]), self.batch_size
            lengths = self._records.lengths
            order = random.permutation(len(lengths))[: len(lengths) // size * size]
            chunks = np.arange(len(order)) // (CHUNK * size)
            batches = order[np.lexsort((lengths[order], chunks))].reshape(-1, size)
            batches = batches[random.permutation(len(batches))]
            windows = -(-lengths[batches].max(1) // self.seq_len)
            self._layout = (epoch, batches, np.cumsum(windows))
        return self._layout[1:]


def batches_of(text: Text, batch_size: int, seq_len: int, seed: int) -> Batches | RecordBatches:
    """Return the windows of running text, or of records."""
    if isinstance(text, Records):
        return RecordBatches(text, batch_size, seq_len, seed)
    return Batches(text, batch_size, seq_len, seed)
