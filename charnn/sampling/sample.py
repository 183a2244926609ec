"""A generated text, finished and in the making."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from charnn.sampling.stopping import StopCriteria, StopScanner
from charnn.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class Choice:
    """A generated symbol, its nats, and the likeliest symbols in its place with theirs."""

    symbol: int
    nats: float
    alternatives: Sequence[tuple[int, float]]


@dataclass(frozen=True)
class Sample:
    """A text that was generated after a prime, which is not part of it."""

    index: int
    seed: int | None  # generates this text again, alone; None if nothing was drawn
    text: str
    nats: float  # of its symbols under the model, those of the stop included
    symbols: int
    stop: str  # the reason of its end: "length" or "stop"
    choices: list[Choice] = field(default_factory=list)

    @property
    def nats_per_char(self) -> float:
        """The nats per symbol, by which texts of different lengths compare; inf without symbols."""
        return self.nats / self.symbols if self.symbols else math.inf


class SampleBuilder:
    """Collects the symbols of one text until it ends."""

    def __init__(
        self, index: int, seed: int, tokenizer: Tokenizer, length: int | None, stop: StopCriteria
    ) -> None:
        self.index, self.seed = index, seed
        self._length = length
        self._decode = tokenizer.decoder()
        self._scanner = StopScanner(stop)
        self._pieces: list[str] = []
        self._symbols, self._nats = 0, 0.0
        self._choices: list[Choice] = []

    def append(
        self, symbol: int, nats: float, alternatives: Sequence[tuple[int, float]] | None
    ) -> None:
        """Add the next symbol."""
        self._pieces.append(self._scanner.feed(self._decode(symbol)))
        self._symbols += 1
        self._nats += nats
        if alternatives is not None:
            self._choices.append(Choice(symbol, nats, alternatives))

    @property
    def ended(self) -> bool:
        """True once the text has its full length or met a stop."""
        return self._scanner.met or self._symbols == self._length

    def build(self) -> Sample:
        """Return the finished sample."""
        text = "".join((*self._pieces, self._scanner.rest()))
        reason = "stop" if self._scanner.met else "length"
        return Sample(self.index, self.seed, text, self._nats, self._symbols, reason, self._choices)
