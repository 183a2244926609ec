"""Texts that are written at once, a symbol each at a time."""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from charnn.config import SampleConfig
from charnn.model.network import CharNetwork, predicting
from charnn.sampling.filters import Chain
from charnn.sampling.history import History
from charnn.sampling.many import ManyLSTM
from charnn.sampling.products import FullProduct, Product
from charnn.sampling.stepper import Array, Stepper

_PIECE = 1024  # symbols of a prime that are read at once
_PLACES, _NUMBERS = 256, 1 << 20  # random numbers drawn at once: a row's places, in all about
_HOTTEST = 1e30  # a higher temperature would make infinities of the noise, and is the same

# Shapes: B batch, L layers, H hidden, V vocabulary, S tensors in a cell's state,
# R rows of a memory.


AnyStepper = Stepper | ManyLSTM


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
        stepper: AnyStepper | None = None,
        start: Sequence[int] = (),
    ) -> None:
        """`start` is read before the prime, and no filter looks back at it."""
        self.chain = Chain(config, unknown)
        self._temperature = min(config.temperature, _HOTTEST)
        self._history = History(config, network.config.vocabulary_size, prime)
        self._stepper = stepper or stepper_of(network, len(seeds))
        self._prime = _begun(network, self._stepper, [*start, *prime])
        self._hold(self._prime.repeat(1, len(seeds)))
        self._noise = _Noise(seeds, self.logits, self._temperature)
        for row in range(len(seeds)):
            self._history.begin(row)

    def _hold(self, memory: Tensor) -> None:
        self._memory = memory
        self.logits = self._stepper.logits(memory)  # [B, V], the model's own for the next symbols
        on_cpu = memory.device.type == "cpu"
        self._same: Array | None = self.logits.numpy() if on_cpu else None

    def draw(self) -> Array:
        """The next symbol of each row [B]."""
        # The largest of logits / T + noise is that of logits + T noise; at T = 0 the likeliest.
        noise = self._noise.next()
        if self._same is not None and self.chain.idle:
            return np.add(self._same, noise).argmax(-1)
        logits = self.chain(self.logits, self._history)
        if self._same is not None:  # numpy starts faster, and its argmax is faster too
            return np.add(logits.numpy(), noise).argmax(-1)
        return torch.add(logits, noise).argmax(-1).cpu().numpy()

    def turn(self) -> tuple[Array, Tensor]:
        """The next symbols [K, B] of the rows and the logits [K, B, V] they were drawn by; K is 1
        here."""
        return self.draw()[None], self.logits[None]

    def symbols(self) -> Iterator[Array]:
        """Symbols [B] without end."""
        while True:
            indices = self.draw()
            yield indices
            self.advance(indices)

    def advance(self, indices: Array) -> None:
        """Each row goes on after the symbol [B] that was drawn for it."""
        if self._history.used:
            self._history.append(indices.tolist())
        self._stepper.step(indices, self._memory)

    def begin(self, row: int, seed: int) -> None:
        """A row that is done with becomes a new one."""
        self._memory[:, row] = self._prime[:, 0]
        self._noise.begin(row, seed)
        self._history.begin(row)

    def keep(self, rows: Sequence[int]) -> None:
        """Only these rows go on, in this order."""
        left = torch.tensor(rows, dtype=torch.int64, device=self._memory.device)
        self._hold(self._memory.index_select(1, left))
        self._noise.keep(rows)
        self._history.keep(rows)


def stepper_of(network: CharNetwork, rows: int, product: type[Product] = FullProduct) -> AnyStepper:
    """What steps so many texts fastest."""
    if rows > 1 and network.config.cell == "lstm" and product is FullProduct:
        return ManyLSTM(network)
    return Stepper(network, product)


def row_seed(seed: int, index: int) -> int:
    """The seed of a sample: alone, with this seed, it is written again."""
    if index == 0:
        return seed
    digest = hashlib.blake2b(f"{seed}/{index}".encode(), digest_size=6).digest()
    return int.from_bytes(digest, "big")  # exact in any reader of JSON


def _begun(network: CharNetwork, stepper: AnyStepper, prime: Sequence[int]) -> Tensor:
    """The memory [R, 1] after the prime."""
    if not stepper.clamps:
        return stepper.begin(_read(network, prime))
    memory = stepper.begin(network.zero_state(1))  # what is held is held from the first symbol on
    for symbol in prime:
        stepper.step(np.array([symbol]), memory)
    return memory


def _read(network: CharNetwork, prime: Sequence[int]) -> Tensor:
    """The state [S, 1, L, H] after the prime."""
    indices = torch.tensor(prime, dtype=torch.int64, device=network.head.weight.device)
    state = network.zero_state(1)
    with predicting(network):
        for piece in indices[:, None].split(_PIECE):
            _, state = network(piece, state)
    return state.clone()


_CAT: dict[type, Any] = {np.ndarray: np.concatenate, Tensor: torch.cat}


class _Noise:
    """What to add to the rows' logits [B, V] so that their largest is a fair draw at a temperature.

    Gumbel noise (Maddison et al. 2014): the argmax of logits + noise is distributed as the softmax
    of the logits, which takes two operations a character. Each row has a counter-based generator,
    keyed by its seed.
    """

    def __init__(self, seeds: Sequence[int], logits: Tensor, temperature: float) -> None:
        self._vocabulary_size, self._device = logits.shape[1], logits.device
        self._temperature = np.float32(temperature)
        self._generators = [_generator(seed) for seed in seeds]
        self._block: Any = np.empty((len(seeds), 0, logits.shape[1]))  # [B, places, V]
        self._place = 0

    def next(self) -> Any:
        """The next place's noise [B, V]: numpy's on a CPU."""
        if self._place == self._block.shape[1]:
            self._block = self._drawn(self._generators, self._places())
            self._place = 0
        self._place += 1
        return self._block[:, self._place - 1]

    def several(self, count: int) -> Any:
        """The noise of so many places [B, count, V]."""
        left = self._block.shape[1] - self._place
        if left < count:
            more = self._drawn(self._generators, max(count, self._places()))
            both = (self._block[:, self._place :], more)
            self._block = more if left == 0 else _CAT[type(more)](both, 1)
            self._place = 0
        self._place += count
        return self._block[:, self._place - count : self._place]

    def begin(self, row: int, seed: int) -> None:
        """A row goes on with another seed, from its first place."""
        self._generators[row] = _generator(seed)
        left = self._block.shape[1] - self._place
        if left:
            self._block[row, self._place :] = self._drawn(self._generators[row : row + 1], left)[0]

    def keep(self, rows: Sequence[int]) -> None:
        """Only these rows are left."""
        self._generators = [self._generators[row] for row in rows]
        self._block, self._place = self._block[rows, self._place :], 0

    def _places(self) -> int:
        places = _NUMBERS // (len(self._generators) * self._vocabulary_size)
        return max(8, min(_PLACES, places))

    def _drawn(self, generators: Sequence[np.random.Generator], places: int) -> Any:
        noise = np.empty((len(generators), places, self._vocabulary_size), np.float32)
        for generator, row in zip(generators, noise, strict=True):
            generator.standard_exponential(dtype=np.float32, out=row)
        # an exponential number can be 0; its noise would be infinite
        np.log(np.maximum(noise, np.finfo(np.float32).tiny, out=noise), out=noise)
        noise *= -self._temperature
        return noise if self._device.type == "cpu" else torch.from_numpy(noise).to(self._device)


def _generator(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=[seed, 0]))
