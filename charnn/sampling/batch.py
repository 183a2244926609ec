"""Texts that are written at once, a symbol each at a time."""

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from charnn.config import SampleConfig
from charnn.model.network import CharNetwork, predicting
from charnn.sampling.filters import Chain
from charnn.sampling.history import History
from charnn.sampling.stepper import Stepper

_PIECE = 1024  # symbols of a prime that are read at once
_BLOCK = 64  # places that random numbers are drawn for at once
_HOTTEST = 1e30  # a higher temperature would make infinities of the noise, and is the same

# Shapes: B batch, L layers, H hidden, V vocabulary, S tensors in a cell's state.


class Batch:
    """Rows that begin with one prime, which is read once; each draws from a seed of its own.

    A row's random numbers depend on its seed and on the place in its text, and on nothing else. In
    float32 a row may still differ with the number of rows, where two symbols are nearly level: the
    products of different shapes round differently.
    """

    def __init__(
        self,
        network: CharNetwork,
        config: SampleConfig,
        prime: Sequence[int],
        seeds: Sequence[int],
        unknown: int | None = None,
        stepper: Stepper | None = None,
        start: Sequence[int] = (),
    ) -> None:
        """`start` is read before the prime, and no filter looks back at it."""
        self.chain = Chain(config, unknown)
        self._temperature = min(config.temperature, _HOTTEST)
        self._history = History(config, network.config.vocabulary_size, prime)
        self._stepper = stepper or Stepper(network)
        self._prime = _read(network, [*start, *prime])
        logits, state = self._prime
        self.logits = logits.repeat(len(seeds), 1)  # [B, V], the model's own
        self._state = state.repeat(1, len(seeds), 1, 1)
        self._noise = _Noise(seeds, self.logits, self._temperature)
        for row in range(len(seeds)):
            self._history.begin(row)

    def draw(self) -> Tensor:
        """The next symbol of each row [B]."""
        # The largest of logits / T + noise is that of logits + T noise; at T = 0 the likeliest.
        return torch.add(self.chain(self.logits, self._history), self._noise.next()).argmax(-1)

    def advance(self, indices: Tensor) -> None:
        """Each row goes on after the symbol [B] that was drawn for it."""
        if self._history.used:
            self._history.append(indices.tolist())
        self.logits = self._stepper.step(indices, self._state)

    def begin(self, row: int, seed: int) -> None:
        """A row that is done with becomes a new one."""
        logits, state = self._prime
        self.logits[row], self._state[:, row] = logits[0], state[:, 0]
        self._noise.begin(row, seed)
        self._history.begin(row)

    def keep(self, rows: Sequence[int]) -> None:
        """Only these rows go on, in this order."""
        self.logits, self._state = self.logits[rows], self._state[:, rows]
        self._noise.keep(rows)
        self._history.keep(rows)


def row_seed(seed: int, index: int) -> int:
    """The seed of a sample: alone, with this seed, it is written again."""
    if index == 0:
        return seed
    digest = hashlib.blake2b(f"{seed}/{index}".encode(), digest_size=6).digest()
    return int.from_bytes(digest, "big")  # exact in any reader of JSON


def _read(network: CharNetwork, prime: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Logits [1, V] and state [S, 1, L, H] after the prime."""
    indices = torch.tensor(prime, dtype=torch.int64, device=network.head.weight.device)
    state = network.zero_state(1)
    with predicting(network):
        for piece in indices[:, None].split(_PIECE):
            logits, state = network(piece, state)
    return logits[-1].clone(), state.clone()


class _Noise:
    """What to add to the rows' logits [B, V] so that their largest is a fair draw at a temperature.

    Gumbel noise (Maddison et al. 2014): the argmax of logits + noise is distributed as the softmax
    of the logits, which takes two operations a character. Each row has a counter-based generator,
    keyed by its seed.
    """

    def __init__(self, seeds: Sequence[int], logits: Tensor, temperature: float) -> None:
        self._like = logits[:1]
        self._temperature = temperature
        self._generators = [_generator(seed) for seed in seeds]
        self._place = _BLOCK

    def next(self) -> Tensor:
        """The next place's noise [B, V]."""
        if self._place == _BLOCK:
            self._place = 0
            self._block = torch.stack([self._drawn(g, _BLOCK) for g in self._generators], 1)
            self._places = self._block.unbind()
        self._place += 1
        return self._places[self._place - 1]

    def begin(self, row: int, seed: int) -> None:
        """A row goes on with another seed, from its first place."""
        self._generators[row] = _generator(seed)
        if self._place < _BLOCK:
            left = self._drawn(self._generators[row], _BLOCK - self._place)
            self._block[self._place :, row] = left

    def keep(self, rows: Sequence[int]) -> None:
        """Only these rows are left."""
        self._generators = [self._generators[row] for row in rows]
        if self._place < _BLOCK:
            self._block = self._block[:, rows]
            self._places = self._block.unbind()

    def _drawn(self, generator: np.random.Generator, places: int) -> Tensor:
        wait = generator.standard_exponential((places, self._like.shape[1]), np.float32)
        # an exponential number can be 0; its noise would be infinite
        noise = -np.log(np.maximum(wait, np.finfo(np.float32).tiny)) * np.float32(self._temperature)
        return torch.from_numpy(noise).to(self._like)


def _generator(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=[seed, 0]))
