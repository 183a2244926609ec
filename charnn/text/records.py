"""Line records: split by what they say, shuffled, read from the same state each; and a filter that
knows them.

A record is what stands in a line, with the line's end. It is read from the zero state, after a line
end that comes before it, in training, evaluation and sampling alike. Empty lines are none.
"""

import hashlib
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from charnn.errors import TextError
from charnn.text.batches import Batches, Position
from charnn.text.tokenizer import Indices

NO_TARGET = -100  # what torch's cross-entropy leaves out
CHUNK = 32  # batches of records that are sorted by length together, so that little is padded
FILTER_BITS = 16  # for each record: one other in 2,000 is taken for known
FILTER_AT_MOST = 1 << 26  # bits, 8 MB
MOST_HASHES = 16
AT_ONCE = 1 << 16  # records whose code points are looked up together

# Shapes: B lanes, T characters of a window, N records.


@dataclass(frozen=True)
class Records:
    """Records that stand one after the other in `indices`, each with its line end; what follows
    the last line end is left out."""

    indices: Indices
    newline: int

    @cached_property
    def ends(self) -> NDArray[np.int64]:
        """Where the record after this one begins [N]."""
        return np.flatnonzero(self.indices == self.newline) + 1

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """Symbols of each [N], its line end included: as many targets."""
        return np.diff(self.ends, prepend=0)

    def window(
        self, some: NDArray[np.int64], first: int, most: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Inputs and targets [T, B] of some records from their symbol `first` on, `most` at most;
        beyond a record's end there is no target."""
        lengths = self.lengths[some]
        place = first + np.arange(min(most, int(lengths.max()) - first))[:, None]
        inside = place < lengths
        where = np.where(inside, self.ends[some] - lengths + place, 0)
        targets = np.where(inside, self.indices[where].astype(np.int64), NO_TARGET)
        before = self.indices[np.maximum(where - 1, 0)].astype(np.int64)
        return np.where(inside & (place > 0), before, self.newline), targets


def split_records(
    parts: Sequence[Indices], newline: int, codes: NDArray[np.uint32], val_fraction: float
) -> tuple[Indices, int]:
    """The records of a text, those for training first, and where the others begin; of two parts,
    the second is the others.

    A hash of what a record says decides, so that duplicates fall on one side, and a record stays
    on its side when others come or go. The others are ordered by it, so that a part of them stands
    for all. `codes` are the symbols' code points.
    """
    first, *others = (_arranged(part, newline, codes, val_fraction) for part in parts)
    if not others:
        return first
    return np.concatenate((first[0], others[0][0])), len(first[0])


def _arranged(
    indices: Indices, newline: int, codes: NDArray[np.uint32], val_fraction: float
) -> tuple[Indices, int]:
    is_end = indices == newline
    empty = is_end & np.concatenate(([True], is_end[:-1]))
    kept = indices[~empty]
    if len(kept) and kept[-1] != newline:
        kept = np.append(kept, np.array([newline], dtype=kept.dtype))
    records = Records(kept, newline)
    digests = _digests(_texts(records, codes))[:, 0]
    judging = digests < np.uint64(val_fraction * 2**64)
    mask = np.repeat(judging, records.lengths)
    others = np.flatnonzero(judging)
    others = others[np.argsort(digests[others], kind="stable")]
    lengths = records.lengths[others]
    begins = np.repeat(records.ends[others] - np.cumsum(lengths), lengths)
    return np.concatenate((kept[~mask], kept[begins + np.arange(lengths.sum())])), int(
        (~mask).sum()
    )


def beginning(indices: Indices, newline: int | None, symbols: int) -> Indices:
    """The first symbols of a text, so many or, of records, as many more as end one."""
    if newline is None or len(indices) <= symbols:
        return indices[:symbols]
    ends = np.flatnonzero(indices[symbols - 1 :] == newline)
    return indices[: symbols + int(ends[0])] if len(ends) else indices


class RecordBatches:
    """Windows of shuffled records by position, as `charnn.text.batches.Batches` has them of a text.

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


def mean_length(indices: Indices, newline: int | None) -> float | None:
    """Symbols of a record on average, its line end included; None of a text that is not of
    records."""
    return None if newline is None else len(indices) / max(1, int((indices == newline).sum()))


def windows_of(
    indices: Indices, newline: int | None, batch_size: int, seq_len: int, seed: int
) -> Batches | RecordBatches:
    """Windows of a text, or of records that `newline` ends."""
    if newline is None:
        return Batches(indices, batch_size, seq_len, seed)
    return RecordBatches(Records(indices, newline), batch_size, seq_len, seed)


class BloomFilter:
    """A Bloom filter (Bloom 1970): knows every record that was put into it, and takes a few others
    for known too."""

    def __init__(self, bits: NDArray[np.uint8], count: int) -> None:
        """From the filter's bytes, and how many records are in it."""
        self.bits, self.count = bits, count
        best = round(8 * len(bits) / max(1, count) * math.log(2))
        self._hashes = max(1, min(MOST_HASHES, best))

    @classmethod
    def of(cls, records: Records, codes: NDArray[np.uint32]) -> "BloomFilter":
        """The filter of these records."""
        count = len(records.ends)
        known = cls(np.zeros(cls.size(count), np.uint8), count)
        filled = np.zeros(8 * len(known.bits), bool)
        for places in known._places(_digests(_texts(records, codes))):
            filled[places] = True
        known.bits[:] = np.packbits(filled, bitorder="little")
        return known

    @staticmethod
    def size(count: int) -> int:
        """The bytes of a filter of so many records."""
        return min(FILTER_AT_MOST, FILTER_BITS * max(count, 64)) // 8

    def has(self, record: NDArray[np.uint32]) -> bool:
        """Whether a record, without its line end, is one of them, by its code points."""
        places = np.concatenate(list(self._places(_digests([record.tobytes()]))))
        return bool((self.bits[places // 8] >> (places % 8) & 1).all())

    @property
    def false_positives(self) -> float:
        """Share of the records that are not in it, but taken for known."""
        filled = 1 - math.exp(-self._hashes * self.count / (8 * len(self.bits)))
        return filled**self._hashes

    def _places(self, digests: NDArray[np.uint64]) -> Iterator[NDArray[np.int64]]:
        """The texts' bits [N] by one hash after the other; two make all of them (Kirsch and
        Mitzenmacher 2006)."""
        first, second = digests.T
        size = np.uint64(8 * len(self.bits))
        for number in range(self._hashes):
            yield ((first + np.uint64(number) * second) % size).astype(np.int64)


def _texts(records: Records, codes: NDArray[np.uint32]) -> Iterator[bytes]:
    """What each record says, without its line end, in UTF-32."""
    start = 0
    for some in np.array_split(records.ends, len(records.ends) // AT_ONCE + 1):
        first = start
        data = codes[records.indices[first : some[-1] if len(some) else first]]
        for end in (some - first).tolist():
            yield data[start - first : end - 1].tobytes()
            start = first + end


def _digests(texts: Iterable[bytes]) -> NDArray[np.uint64]:
    """Two numbers for each text [N, 2] that are as good as drawn."""
    digests = b"".join(hashlib.blake2b(text, digest_size=16).digest() for text in texts)
    return np.frombuffer(digests, dtype="<u8").reshape(-1, 2)
