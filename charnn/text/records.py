"""Records, one per line: their symbols, their split by hash, and windows of them.

A record is the text of a line together with its line end; empty lines are not records. In training,
evaluation and sampling alike, a record is read from the zero state, after a line end as its first
input.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from charnn.text.tokenizer import Indices
from charnn.words import plural

NO_TARGET = -100  # the target that torch's cross-entropy ignores
CHUNK_SYMBOLS = 1 << 20  # symbols that are looked at together, so that memory stays small
RECORD_RULES = 2  # version of the rules that make records of a text; see docs/formats.md
FREQUENT_COUNT = 10  # a record with so many occurrences is frequent
FREQUENT_SHARE = 20  # in a short list, so is one that is 1 of so many lines
FREQUENT_LEAST = 3  # … and has so many occurrences

# Shapes: B lanes, T characters of a window, N records.


@dataclass(frozen=True)
class Records:
    """Records that stand one after the other in `indices`, each with its line end.

    Symbols after the last line end are ignored.
    """

    indices: Indices
    newline: int  # the symbol that ends a record

    def __len__(self) -> int:
        """Return the number of symbols."""
        return len(self.indices)

    @property
    def count(self) -> int:
        """Number of records."""
        return len(self.ends)

    @cached_property
    def ends(self) -> NDArray[np.int64]:
        """Index after the last symbol of each record [N]."""
        starts = range(0, len(self.indices), CHUNK_SYMBOLS)
        parts = (self.indices[start : start + CHUNK_SYMBOLS] == self.newline for start in starts)
        counts = [int(np.count_nonzero(part)) for part in parts]
        ends, filled = np.empty(sum(counts), np.int64), 0
        for start, count in zip(starts, counts, strict=True):
            part = self.indices[start : start + CHUNK_SYMBOLS] == self.newline
            np.add(np.flatnonzero(part), start + 1, out=ends[filled : filled + count])
            filled += count
        return ends

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """Number of symbols in each record [N], including the line end; also its targets."""
        return np.diff(self.ends, prepend=0)

    def chunks(self) -> Iterator[tuple[slice, slice]]:
        """Yield consecutive records and their symbols, about `CHUNK_SYMBOLS` at a time."""
        row = start = 0
        while row < self.count:
            after = max(row + 1, int(np.searchsorted(self.ends, start + CHUNK_SYMBOLS)))
            stop = int(self.ends[after - 1])
            yield slice(row, after), slice(start, stop)
            row, start = after, stop

    def window(
        self, rows: NDArray[np.int64], start: int, max_length: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return inputs and targets [T, B] of the records `rows` [B], from their symbol `start` on.

        T is at most `max_length`. Targets after a record's end are `NO_TARGET`.
        """
        lengths = self.lengths[rows]
        place = start + np.arange(min(max_length, int(lengths.max()) - start))[:, None]
        inside = place < lengths
        where = np.where(inside, self.ends[rows] - lengths + place, 0)
        targets = np.where(inside, self.indices[where].astype(np.int64), NO_TARGET)
        before = self.indices[np.maximum(where - 1, 0)].astype(np.int64)
        return np.where(inside & (place > 0), before, self.newline), targets


Text = Indices | Records  # running text, or records


def indices_of(text: Text) -> Indices:
    """Return the indices of running text or of records."""
    return text.indices if isinstance(text, Records) else text


def first_part(records: Records, symbols: int) -> Records:
    """Return the records in the first `symbols` of the text, and the record that they end in."""
    if len(records) <= symbols:
        return records
    ends = np.flatnonzero(records.indices[symbols - 1 :] == records.newline)
    stop = symbols + int(ends[0]) if len(ends) else len(records)
    return Records(records.indices[:stop], records.newline)


def mean_record_length(text: Text) -> float | None:
    """Return the mean length of a record in symbols, with its line end; None for running text."""
    return len(text) / max(1, text.count) if isinstance(text, Records) else None


def records_of(indices: Indices, newline: int) -> Records:
    """Return the records of a text: without empty lines, and with a line end after the last one."""
    if len(indices) and indices[-1] != newline:
        indices = np.append(indices, np.array([newline], dtype=indices.dtype))
    records = Records(indices, newline)
    empty = records.ends[records.lengths == 1] - 1
    return Records(np.delete(indices, empty), newline) if len(empty) else records


class Split(NamedTuple):
    """A text in the order of its parts, and how many of its symbols are for training."""

    indices: Indices
    train_symbols: int
    frequent: int = 0  # records that were split by occurrence
    least_frequent: int = 0  # occurrences that make a record frequent

    def notes(self) -> Iterator[str]:
        """Yield a line that says which records are in both parts, if any are."""
        if self.frequent:
            yield (
                f"{plural(self.frequent, 'line')} hold records that occur {self.least_frequent:,} "
                "times or more: of each, a share validates, so these are in both parts; every "
                "other record is in one part only"
            )


def split_records(
    records: Records, codes: NDArray[np.uint32], val_fraction: float, by_occurrence: bool = True
) -> Split:
    """Split records by their hash, training records first.

    Duplicates are on the same side, and a record stays on its side when others are added or
    removed. With `by_occurrence`, the frequent records are on both sides, each with its share of
    occurrences, because either side would lack something that makes up much of the list.

    Validation records are ordered by their hash, so that any first part of them is a fair sample.
    `codes` are the symbols' code points.
    """
    if val_fraction == 0:
        return Split(records.indices, len(records))
    limit = np.uint64(val_fraction * 2**64)
    places = np.empty(records.count, np.uint64)
    for rows, hashes in record_hashes(records, codes):
        places[rows] = hashes[:, 0]
    least = min(FREQUENT_COUNT, max(FREQUENT_LEAST, records.count // FREQUENT_SHARE))
    frequent = _spread_frequent(places, limit, least) if by_occurrence else 0
    return Split(*_ordered(records, places, limit), frequent, least)


def _spread_frequent(places: NDArray[np.uint64], limit: np.uint64, least: int) -> int:
    """Spread the occurrences of records that have `least` or more; return how many these are.

    A record's place is its hash, and it validates if that is below `limit`. Each further
    occurrence is placed `limit` lower, modulo 2**64, so that the right share of them validates.
    """
    ordered = np.sort(places)
    frequent = np.unique(ordered[least - 1 :][ordered[least - 1 :] == ordered[: 1 - least]])
    del ordered
    if not len(frequent):
        return 0
    nearest = frequent[np.minimum(np.searchsorted(frequent, places), len(frequent) - 1)]
    rows = np.flatnonzero(nearest == places)
    rows = rows[np.argsort(places[rows], kind="stable")]
    firsts = np.searchsorted(places[rows], frequent)
    number = np.arange(len(rows)) - np.repeat(firsts, np.diff(firsts, append=len(rows)))
    places[rows] -= number.astype(np.uint64) * limit
    return len(rows)


def _ordered(records: Records, places: NDArray[np.uint64], limit: np.uint64) -> tuple[Indices, int]:
    """Return the training records, then those below `limit` by their places; and their border."""
    indices, filled = np.empty(len(records), records.indices.dtype), 0
    for rows, symbols in records.chunks():
        trains = np.repeat(places[rows] >= limit, records.lengths[rows])
        part = records.indices[symbols][trains]
        indices[filled : filled + len(part)] = part
        filled += len(part)
    border = filled
    validating = np.flatnonzero(places < limit)
    validating = validating[np.argsort(places[validating], kind="stable")]
    for part in np.array_split(validating, (len(records) - border) // CHUNK_SYMBOLS + 1):
        lengths = records.lengths[part]
        # Added to a running count of these symbols, these give their places in `records`.
        shifts = np.repeat(records.ends[part] - np.cumsum(lengths), lengths)
        indices[filled : filled + len(shifts)] = records.indices[shifts + np.arange(len(shifts))]
        filled += len(shifts)
    return indices, border


def record_hashes(
    records: Records, codes: NDArray[np.uint32]
) -> Iterator[tuple[slice, NDArray[np.uint64]]]:
    """Yield two independent 64-bit hashes of each record [N, 2], many records at a time."""
    for rows, symbols in records.chunks():
        text = codes[records.indices[symbols]].astype("<u4", copy=False).tobytes()
        hashes, start = bytearray(), 0
        for end in (4 * (records.ends[rows] - symbols.start)).tolist():
            hashes += _hash(text[start : end - 4])  # without the line end
            start = end
        yield rows, np.frombuffer(hashes, dtype="<u8").reshape(-1, 2)


def text_hashes(text: NDArray[np.uint32]) -> NDArray[np.uint64]:
    """Return the hashes [1, 2] of one record, given by its code points without line end."""
    return np.frombuffer(_hash(text.astype("<u4", copy=False).tobytes()), dtype="<u8")[None]


def _hash(text: bytes) -> bytes:
    """Return 16 bytes that depend on a text in UTF-32."""
    return hashlib.blake2b(text, digest_size=16).digest()
