"""The symbols of each row of a batch, for the filters that look back."""

from collections.abc import Sequence

import torch
from torch import Tensor

from charnn.config import SampleConfig

# Shapes: B batch, V vocabulary.


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
        self._followers: list[dict[tuple[int, ...], set[int]]] = []

    def restart(self, row: int) -> None:
        """Let a new row, or the next text in the place of a finished one, start with the prime."""
        if not self.used:
            return
        if row == len(self._texts):
            self._texts.append([])
            self._followers.append({})
        self._texts[row] = []
        self._followers[row] = {}
        for index in self._prime:
            self._append(row, index)

    def select(self, rows: Sequence[int]) -> None:
        """Keep only these rows, in this order."""
        if self.used:
            self._texts = [self._texts[row] for row in rows]
            self._followers = [self._followers[row] for row in rows]

    def append(self, indices: Sequence[int]) -> None:
        """Add a symbol to each row."""
        if self.used:
            for row, index in enumerate(indices):
                self._append(row, index)

    def recent(self) -> Tensor:
        """Mark the symbols [B, V] among the last `repetition_window` of each row."""
        return self._mask([text[-self._window :] for text in self._texts])

    def repeating(self) -> Tensor:
        """Mark the symbols [B, V] that would repeat the row's sequences of `no_repeat` symbols."""
        assert self._n is not None
        n = self._n - 1
        keys = (tuple(text[len(text) - n :]) for text in self._texts)
        return self._mask([list(f.get(k, ())) for f, k in zip(self._followers, keys, strict=True)])

    def _append(self, row: int, index: int) -> None:
        text = self._texts[row]
        text.append(index)
        if self._n is not None and len(text) >= self._n:
            key = tuple(text[len(text) - self._n : -1])
            self._followers[row].setdefault(key, set()).add(index)
        longest = max(self._window, self._n or 0)
        if len(text) > 2 * longest:  # an endless text must not take endless memory
            del text[:-longest]

    def _mask(self, marked: list[list[int]]) -> Tensor:
        mask = torch.zeros(len(marked), self._vocabulary_size, dtype=torch.bool)
        rows = [row for row, columns in enumerate(marked) for _ in columns]
        mask[rows, [column for columns in marked for column in columns]] = True
        return mask
