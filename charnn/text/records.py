"""Records, one per line: their symbols, their split by hash, and windows of them.

A record is the text of a line together with its line end; empty lines are not records. In training,
evaluation and sampling alike, a record is read from the zero state, after a line end as its first
input.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from charnn.text.tokenizer import Indices

NO_TARGET = -100  # the target that torch's cross-entropy ignores
RECORDS_PER_LOOKUP = 1 << 16  # records whose code points are looked up together

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
        return np.flatnonzero(self.indices == self.newline) + 1

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """Number of symbols in each record [N], including the line end; also its targets."""
        return np.diff(self.ends, prepend=0)

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


def split_records(
    parts: Sequence[Indices], newline: int, codes: NDArray[np.uint32], val_fraction: float
) -> tuple[Indices, int]:
    """Return the records of a text, training records first, and where the validation part starts.

    A single part is split by a hash of each record, so that duplicates are on the same side and a
    record stays on its side when others are added or removed. Validation records are ordered by
    their hash, so that any first part of them is a fair sample. Of two parts, the second is the
    validation part. `codes` are the symbols' code points.
    """
    first, *rest = (_split_part(part, newline, codes, val_fraction) for part in parts)
    if not rest:
        return first
    return np.concatenate((first[0], rest[0][0])), len(first[0])


def _split_part(
    indices: Indices, newline: int, codes: NDArray[np.uint32], val_fraction: float
) -> tuple[Indices, int]:
    is_end = indices == newline
    is_empty = is_end & np.concatenate(([True], is_end[:-1]))
    kept = indices[~is_empty]
    if len(kept) and kept[-1] != newline:
        kept = np.append(kept, np.array([newline], dtype=kept.dtype))
    records = Records(kept, newline)
    hashes = record_hashes(record_texts(records, codes))[:, 0]
    validates = hashes < np.uint64(val_fraction * 2**64)
    train = kept[~np.repeat(validates, records.lengths)]
    rows = np.flatnonzero(validates)
    rows = rows[np.argsort(hashes[rows], kind="stable")]
    lengths = records.lengths[rows]
    # Added to a running count of the validation symbols, these give their places in `kept`.
    shifts = np.repeat(records.ends[rows] - np.cumsum(lengths), lengths)
    validation = kept[shifts + np.arange(lengths.sum())]
    return np.concatenate((train, validation)), len(train)


def record_texts(records: Records, codes: NDArray[np.uint32]) -> Iterator[bytes]:
    """Yield the text of each record, without its line end, in UTF-32."""
    start = 0
    for ends in np.array_split(records.ends, records.count // RECORDS_PER_LOOKUP + 1):
        first = start
        data = codes[records.indices[first : ends[-1] if len(ends) else first]]
        for end in (ends - first).tolist():
            yield data[start - first : end - 1].tobytes()
            start = first + end


def record_hashes(texts: Iterable[bytes]) -> NDArray[np.uint64]:
    """Return two independent 64-bit hashes for each text [N, 2]."""
    hashes = b"".join(hashlib.blake2b(text, digest_size=16).digest() for text in texts)
    return np.frombuffer(hashes, dtype="<u8").reshape(-1, 2)
