"""Line records: split by what they say, shuffled, read from the same state each; and a filter that
knows them.

A record is what stands in a line, with the line's end. It is read from the zero state, after a line
end that comes before it, in training, evaluation and sampling alike. Empty lines are none.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from charnn.text.tokenizer import Indices

NO_TARGET = -100  # what torch's cross-entropy leaves out
AT_ONCE = 1 << 16  # records whose code points are looked up together

# Shapes: B lanes, T characters of a window, N records.


@dataclass(frozen=True)
class Records:
    """Records that stand one after the other in `indices`, each with its line end; what follows
    the last line end is left out."""

    indices: Indices
    newline: int  # the symbol that ends a record

    def __len__(self) -> int:
        """Return the number of symbols."""
        return len(self.indices)

    @property
    def count(self) -> int:
        """Return the number of records."""
        return len(self.ends)

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


Text = Indices | Records  # running text, or records


def indices_of(text: Text) -> Indices:
    """Return the indices of a text of either kind."""
    return text.indices if isinstance(text, Records) else text


def first_part(text: Text, symbols: int) -> Text:
    """Return the first `symbols` of a text; of records as many more as complete the last one."""
    if not isinstance(text, Records):
        return text[:symbols]
    if len(text) <= symbols:
        return text
    ends = np.flatnonzero(text.indices[symbols - 1 :] == text.newline)
    stop = symbols + int(ends[0]) if len(ends) else len(text)
    return Records(text.indices[:stop], text.newline)


def mean_record_length(text: Text) -> float | None:
    """Return the mean symbols of a record, its line end included; None for running text."""
    return len(text) / max(1, text.count) if isinstance(text, Records) else None


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
    digests = digests_of(record_texts(records, codes))[:, 0]
    judging = digests < np.uint64(val_fraction * 2**64)
    mask = np.repeat(judging, records.lengths)
    others = np.flatnonzero(judging)
    others = others[np.argsort(digests[others], kind="stable")]
    lengths = records.lengths[others]
    begins = np.repeat(records.ends[others] - np.cumsum(lengths), lengths)
    return np.concatenate((kept[~mask], kept[begins + np.arange(lengths.sum())])), int(
        (~mask).sum()
    )


def record_texts(records: Records, codes: NDArray[np.uint32]) -> Iterator[bytes]:
    """What each record says, without its line end, in UTF-32."""
    start = 0
    for some in np.array_split(records.ends, len(records.ends) // AT_ONCE + 1):
        first = start
        data = codes[records.indices[first : some[-1] if len(some) else first]]
        for end in (some - first).tolist():
            yield data[start - first : end - 1].tobytes()
            start = first + end


def digests_of(texts: Iterable[bytes]) -> NDArray[np.uint64]:
    """Two numbers for each text [N, 2] that are as good as drawn."""
    digests = b"".join(hashlib.blake2b(text, digest_size=16).digest() for text in texts)
    return np.frombuffer(digests, dtype="<u8").reshape(-1, 2)
