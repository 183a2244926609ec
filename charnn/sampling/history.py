"""The symbols of each row of a batch, for the filters that look back."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from charnn.config import SampleConfig

# Shapes: B batch, V vocabulary.

MAX_SEQUENCES = 1 << 19  # that a text remembers for certain, in about 100 MB
_PRIME, _BASE = (1 << 61) - 1, 0x1F83D9ABFB41BD6B % ((1 << 61) - 1)


class History:
    """The symbols of each row, as far back as the filters of a config look; nothing if none does.

    Rows start with the prime.
    """

    def __init__(self, config: SampleConfig, vocabulary_size: int, prime: Sequence[int]) -> None:
        self._penalty = config.repetition_penalty != 1
        self._window = config.repetition_window
        self._n = config.no_repeat
        self._vocabulary_size = vocabulary_size
        self._prime = list(prime)
        self.used = self._penalty or self._n is not None
        self._texts: list[list[int]] = []
        self._sequences: list[_Sequences] = []

    def restart(self, row: int) -> None:
        """Let a new row, or the next text in the place of a finished one, start with the prime."""
        if not self.used:
            return
        if row == len(self._texts):
            self._texts.append([])
            self._sequences.append(_Sequences(self._n or 1))
        self._texts[row] = []
        self._sequences[row] = _Sequences(self._n or 1)
        for index in self._prime:
            self._append(row, index)

    def select(self, rows: Sequence[int]) -> None:
        """Keep only these rows, in this order."""
        if self.used:
            self._texts = [self._texts[row] for row in rows]
            self._sequences = [self._sequences[row] for row in rows]

    def append(self, indices: Sequence[int]) -> None:
        """Add a symbol to each row."""
        if self.used:
            for row, index in enumerate(indices):
                self._append(row, index)

    def recent(self) -> NDArray[np.bool_]:
        """Mark the symbols [B, V] among the last `repetition_window` of each row."""
        return self._mask([text[-self._window :] for text in self._texts])

    def repeating(self) -> NDArray[np.bool_]:
        """Mark the symbols [B, V] that would repeat the row's sequences of `no_repeat` symbols."""
        return self._mask([sequences.followers() for sequences in self._sequences])

    def _append(self, row: int, index: int) -> None:
        text = self._texts[row]
        text.append(index)
        if self._n is not None and len(text) >= self._n:
            self._sequences[row].add(index, text[-self._n])
        elif self._n is not None:
            self._sequences[row].begin(index)
        longest = max(self._window, self._n or 0)
        if len(text) > 2 * longest:  # an endless text must not take endless memory
            del text[:-longest]

    def _mask(self, marked: list[list[int]]) -> NDArray[np.bool_]:
        mask = np.zeros((len(marked), self._vocabulary_size), np.bool_)
        rows = [row for row, columns in enumerate(marked) for _ in columns]
        mask[rows, [column for columns in marked for column in columns]] = True
        return mask


class _Sequences:
    """The sequences of n symbols in one text, by a hash of their first n - 1 symbols.

    The hash rolls along with the text, so that neither time nor memory grows with n. Two sequences
    have the same one by chance only (1 in 10^18). The newest `MAX_SEQUENCES` are remembered for
    certain, because the memory for an endless text must end.
    """

    def __init__(self, n: int) -> None:
        self._newer: dict[int, tuple[int, ...]] = {}  # hash -> the symbols that followed
        self._older: dict[int, tuple[int, ...]] = {}
        self._hash = 0  # of the last n - 1 symbols, a polynomial in _BASE with them as coefficients
        self._weight_of_first = pow(_BASE, n - 1, _PRIME)  # once the next symbol is there

    def followers(self) -> list[int]:
        """Return the symbols that would complete a sequence once more."""
        return [*self._newer.get(self._hash, ()), *self._older.get(self._hash, ())]

    def begin(self, index: int) -> None:
        """Add a symbol with which the text is still shorter than a sequence."""
        self._hash = (self._hash * _BASE + index + 1) % _PRIME

    def add(self, index: int, first: int) -> None:
        """Add the symbol that completes a sequence; `first` is the one that it begins with."""
        followers = self._newer.get(self._hash, ())
        if index not in followers:
            self._newer[self._hash] = (*followers, index)
        self._hash = self._hash * _BASE + index + 1 - (first + 1) * self._weight_of_first
        self._hash %= _PRIME
        if len(self._newer) >= MAX_SEQUENCES:
            self._older, self._newer = self._newer, {}
