"""The records that a checkpoint remembers, as a Bloom filter."""

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from charnn.text.records import Records, record_hashes, text_hashes

BITS_PER_RECORD = 16  # 1 of 2,000 other records is then taken for a known one
MAX_BITS = 1 << 26  # 8 MB
MAX_HASHES = 16


class BloomFilter:
    """Approximate set of records (Bloom 1970): no false negatives, and few false positives.

    The number of hash functions follows from the size and the count, so that these two and the
    bits are all that a checkpoint must store.
    """

    def __init__(self, bits: NDArray[np.uint8], count: int) -> None:
        """Wrap the bytes of a filter that holds `count` records."""
        self.bits, self.count = bits, count
        optimum = round(8 * len(bits) / max(1, count) * math.log(2))
        self._num_hashes = max(1, min(MAX_HASHES, optimum))

    @classmethod
    def from_records(cls, records: Records, codes: NDArray[np.uint32]) -> "BloomFilter":
        """Return a filter that holds these records; `codes` are the symbols' code points."""
        known = cls(np.zeros(cls.num_bytes(records.count), np.uint8), records.count)
        filled = np.zeros(8 * len(known.bits), bool)
        for _, hashes in record_hashes(records, codes):
            for places in known._places(hashes):
                filled[places] = True
        known.bits[:] = np.packbits(filled, bitorder="little")
        return known

    @staticmethod
    def num_bytes(count: int) -> int:
        """Return the size of a filter for `count` records."""
        return min(MAX_BITS, BITS_PER_RECORD * max(count, 64)) // 8

    def has(self, record: NDArray[np.uint32]) -> bool:
        """Return True if the record, given by its code points without line end, is in the set."""
        places = np.concatenate(list(self._places(text_hashes(record))))
        return bool((self.bits[places // 8] >> (places % 8) & 1).all())

    @property
    def false_positive_rate(self) -> float:
        """Expected share of unknown records that are taken for known ones."""
        filled = 1 - math.exp(-self._num_hashes * self.count / (8 * len(self.bits)))
        return filled**self._num_hashes

    def _places(self, hashes: NDArray[np.uint64]) -> Iterator[NDArray[np.int64]]:
        """Yield the bits [N] of N records by each hash function.

        All functions are combinations of two hashes (Kirsch and Mitzenmacher 2006).
        """
        first, second = hashes.T
        size = np.uint64(8 * len(self.bits))
        for number in range(self._num_hashes):
            yield ((first + np.uint64(number) * second) % size).astype(np.int64)
