"""Windows of lanes for truncated BPTT, cut from a stream of indices; position in, position out.

The text is cut into `batch_size` lanes that are read side by side. Each window has the next
`seq_len` characters of every lane:

    text    o|-------- lane 0 --------|-------- lane 1 --------|-------- lane 2 --------|rest
              window 0 window 1 …       window 0 window 1 …      window 0 window 1 …

The first `o` characters are left out. This offset depends on the seed and the epoch, so that the
borders of lanes and windows move from epoch to epoch. No target wraps round to the beginning.
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
from charnn.words import plural

BATCHES_PER_CHUNK = 32  # batches of records that are sorted by length together, to avoid padding
UPLOAD_SYMBOLS = 1 << 22  # symbols copied to a device at once

# Shapes: B lanes, T = seq_len characters of a window.


@dataclass(frozen=True)
class Position:
    """The next window to read: its epoch and its number within the epoch."""

    epoch: int = 0
    window: int = 0


class Batches:
    """Windows of running text by position. Stateless: the same position gives the same window.

    >>> batches = Batches(np.arange(7), batch_size=2, seq_len=3, seed=0)
    >>> inputs, targets, position = batches.window_at(Position())
    >>> inputs.T.tolist(), targets.T.tolist(), position
    ([[0, 1, 2], [3, 4, 5]], [[1, 2, 3], [4, 5, 6]], Position(epoch=1, window=0))
    """

    def __init__(self, indices: Indices, batch_size: int, seq_len: int, seed: int) -> None:
        """Cut `indices` into `batch_size` lanes, or fewer if the text is too short for so many."""
        if len(indices) < seq_len + 1:
            raise TextError(
                f"the training text has {plural(len(indices), 'character')}, but one window of "
                f"{seq_len:,} needs {seq_len + 1:,}; give more text or a smaller `seq_len`"
            )
        self.batch_size = min(batch_size, (len(indices) - 1) // seq_len)
        self.seq_len = seq_len
        self._indices = indices
        self._on_device: Tensor | None = None  # a copy of the text on another device
        self._seed = seed
        unused = len(indices) - 1 - self.batch_size * seq_len
        self._num_offsets = min(seq_len, unused + 1)

    @property
    def symbols_per_window(self) -> float:
        """Number of targets in a window."""
        return self.batch_size * self.seq_len

    def to(self, device: torch.device) -> "Batches":
        """Return batches that cut the same windows from a copy of the text on `device`.

        Return `self` if the copy would take more than an eighth of a CUDA device's free memory.
        """
        # torch has few operations for uint16 and uint32, so that wider indices become int32.
        dtype = torch.uint8 if self._indices.itemsize == 1 else torch.int32
        size = len(self._indices) * dtype.itemsize
        if device.type == "cuda" and size > torch.cuda.mem_get_info(device)[0] // 8:
            return self
        moved = copy.copy(self)
        moved._on_device = torch.empty(len(self._indices), dtype=dtype, device=device)
        for start in range(0, len(self._indices), UPLOAD_SYMBOLS):
            part = self._indices[start : start + UPLOAD_SYMBOLS].astype(np.int64)
            moved._on_device[start : start + UPLOAD_SYMBOLS] = torch.from_numpy(part)
        return moved

    def offset(self, epoch: int) -> int:
        """Return the number of characters that the epoch leaves out at the start of the text."""
        return int(np.random.default_rng([self._seed, epoch]).integers(self._num_offsets))

    def num_windows(self, epoch: int) -> int:
        """Return the number of windows in the epoch."""
        return self._lane_length(self.offset(epoch)) // self.seq_len

    def starts_from_zero(self, position: Position) -> bool:
        """Return True if the lanes start at this window, so that it is read from the zero state."""
        return position.window == 0

    def _lane_length(self, offset: int) -> int:
        return (len(self._indices) - 1 - offset) // self.batch_size

    def window_at(self, position: Position) -> tuple[Tensor, Tensor, Position]:
        """Return inputs and targets [T, B] of the window at `position`, and the next position."""
        offset = self.offset(position.epoch)
        lane_length = self._lane_length(offset)
        start, length = offset + position.window * self.seq_len, self.seq_len + 1
        if self._on_device is not None:
            sizes, strides = (length, self.batch_size), (1, lane_length)
            symbols = self._on_device.as_strided(sizes, strides, start).long()
        else:
            starts = start + lane_length * np.arange(self.batch_size)
            columns = [self._indices[first : first + length] for first in starts]
            symbols = torch.from_numpy(np.stack(columns, axis=1).astype(np.int64))
        return symbols[:-1], symbols[1:], _next(position, lane_length // self.seq_len)


class RecordBatches:
    """Windows of shuffled records by position, with the interface of `Batches`.

    The lanes of a batch hold records of similar length. Records longer than a window continue in
    the next one, with the state carried over. Records left over when no full batch remains are
    skipped in this epoch.
    """

    def __init__(self, records: Records, batch_size: int, seq_len: int, seed: int) -> None:
        if records.count == 0:
            raise TextError(
                "there is no record to train on; give more lines or a smaller `val_fraction`"
            )
        self.batch_size = min(batch_size, records.count)
        self.seq_len = seq_len
        self._records = records
        self._seed = seed
        empty = np.zeros(0, np.int64)
        self._cached_epoch: tuple[int, NDArray[np.int64], NDArray[np.int64]] = (-1, empty, empty)

    @property
    def symbols_per_window(self) -> float:
        """Mean number of targets in a window."""
        batches, ends = self._epoch(0)
        return float(self._records.lengths[batches].sum() / ends[-1])

    def num_windows(self, epoch: int) -> int:
        """Return the number of windows in the epoch."""
        return int(self._epoch(epoch)[1][-1])

    def starts_from_zero(self, position: Position) -> bool:
        """Return True if the records of the batch start at this window."""
        return self._batch_at(position)[1] == 0

    def window_at(self, position: Position) -> tuple[Tensor, Tensor, Position]:
        """Return inputs and targets [T, B] of the window at `position`, and the next position."""
        rows, window = self._batch_at(position)
        inputs, targets = self._records.window(rows, window * self.seq_len, self.seq_len)
        after = _next(position, self.num_windows(position.epoch))
        return torch.from_numpy(inputs), torch.from_numpy(targets), after

    def _batch_at(self, position: Position) -> tuple[NDArray[np.int64], int]:
        """Return the records [B] that this window reads, and its number within their windows."""
        batches, ends = self._epoch(position.epoch)
        number = int(np.searchsorted(ends, position.window, side="right"))
        return batches[number], position.window - (int(ends[number - 1]) if number else 0)

    def _epoch(self, epoch: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the epoch's batches of records [N, B] and the running total of their windows [N].

        The last epoch is cached because shuffling takes a while; it depends on nothing else.
        """
        if self._cached_epoch[0] != epoch:
            random, size = np.random.default_rng([self._seed, epoch]), self.batch_size
            lengths = self._records.lengths
            order = random.permutation(len(lengths))[: len(lengths) // size * size]
            chunks = np.arange(len(order)) // (BATCHES_PER_CHUNK * size)
            batches = order[np.lexsort((lengths[order], chunks))].reshape(-1, size)
            batches = batches[random.permutation(len(batches))]
            windows = -(-lengths[batches].max(1) // self.seq_len)
            self._cached_epoch = (epoch, batches, np.cumsum(windows))
        return self._cached_epoch[1:]


def _next(position: Position, num_windows: int) -> Position:
    if position.window + 1 == num_windows:
        return Position(position.epoch + 1)
    return Position(position.epoch, position.window + 1)


def batches_of(text: Text, batch_size: int, seq_len: int, seed: int) -> Batches | RecordBatches:
    """Return the training windows of running text or of records."""
    if isinstance(text, Records):
        return RecordBatches(text, batch_size, seq_len, seed)
    return Batches(text, batch_size, seq_len, seed)
