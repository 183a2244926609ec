"""The training records that a checkpoint remembers, as a Bloom filter."""

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from charnn.text.records import Records, digests_of, record_texts

FILTER_BITS = 16  # for each record: one other in 2,000 is taken for known
FILTER_AT_MOST = 1 << 26  # bits, 8 MB
MOST_HASHES = 16


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
        for places in known._places(digests_of(record_texts(records, codes))):
            filled[places] = True
        known.bits[:] = np.packbits(filled, bitorder="little")
        return known

    @staticmethod
    def size(count: int) -> int:
        """The bytes of a filter of so many records."""
        return min(FILTER_AT_MOST, FILTER_BITS * max(count, 64)) // 8

    def has(self, record: NDArray[np.uint32]) -> bool:
        """Whether a record, without its line end, is one of them, by its code points."""
        places = np.concatenate(list(self._places(digests_of([record.tobytes()]))))
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
