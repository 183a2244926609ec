"""The random numbers of each row: drawn from its own seed, whatever the other rows do."""

import hashlib
from collections.abc import Sequence

import numpy as np

from charnn.sampling.arrays import Array, like, module_of

# Shapes: B batch, V vocabulary, K places.

_MAX_PLACES, _NUMBERS = 256, 1 << 20  # drawn at once: places of a row, numbers in all about
_MIN_PLACES = 8


class GumbelNoise:
    """Noise for the logits [B, V] of rows, such that the argmax of the sum is a draw at a
    temperature.

    The argmax of logits + Gumbel noise is distributed as the softmax of the logits (Maddison et al.
    2014), which takes two operations a character; here logits + temperature x noise, so that
    temperature 0 takes the likeliest. Each row has a counter-based generator, keyed by its seed: a
    row's noise depends on its seed and on the place in its text only.
    """

    def __init__(self, seeds: Sequence[int], logits: Array, temperature: float) -> None:
        """Draw noise for logits like these [B, V]: NumPy's arrays or tensors of a device."""
        self._vocabulary_size, self._logits = logits.shape[-1], logits[:0] + 0
        self._temperature = np.float32(temperature)
        self._generators = [_generator(seed) for seed in seeds]
        self._block: Array = np.empty((len(seeds), 0, self._vocabulary_size))  # [B, K, V]
        self._place = 0  # of the block, the next to be used

    def next(self) -> Array:
        """Return the noise of the next place [B, V]."""
        if self._place == self._block.shape[1]:
            self._block = self._draw(self._generators, self._places())
            self._place = 0
        self._place += 1
        return self._block[:, self._place - 1]

    def next_places(self, count: int) -> Array:
        """Return the noise of the next `count` places [B, K, V]."""
        unused = self._block.shape[1] - self._place
        if unused < count:
            more = self._draw(self._generators, max(count, self._places()))
            both = (self._block[:, self._place :], more)
            self._block = more if unused == 0 else module_of(more).concatenate(both, 1)
            self._place = 0
        self._place += count
        return self._block[:, self._place - count : self._place]

    def restart(self, row: int, seed: int) -> None:
        """Give a row another seed, and start with its first place."""
        self._generators[row] = _generator(seed)
        unused = self._block.shape[1] - self._place
        if unused:
            self._block[row, self._place :] = self._draw(self._generators[row : row + 1], unused)[0]

    def select(self, rows: Sequence[int]) -> None:
        """Keep only these rows, in this order."""
        self._generators = [self._generators[row] for row in rows]
        self._block, self._place = self._block[rows, self._place :], 0

    def _places(self) -> int:
        places = _NUMBERS // (len(self._generators) * self._vocabulary_size)
        return max(_MIN_PLACES, min(_MAX_PLACES, places))

    def _draw(self, generators: Sequence[np.random.Generator], places: int) -> Array:
        noise = np.empty((len(generators), places, self._vocabulary_size), np.float32)
        for generator, row in zip(generators, noise, strict=True):
            generator.standard_exponential(dtype=np.float32, out=row)
        # An exponential number can be 0, and its noise would be infinite.
        np.log(np.maximum(noise, np.finfo(np.float32).tiny, out=noise), out=noise)
        noise *= -self._temperature
        return like(noise, self._logits)


def row_seed(seed: int, index: int) -> int:
    """Return the seed of the sample with this index among those of `seed`.

    A single text generated with the row's seed is that sample again. The first has `seed` itself.
    """
    if index == 0:
        return seed
    digest = hashlib.blake2b(f"{seed}/{index}".encode(), digest_size=6).digest()
    return int.from_bytes(digest, "big")  # 48 bits are exact in every reader of JSON


def _generator(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=[seed, 0]))
