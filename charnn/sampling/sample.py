"""A generated text, finished and in the making."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from charnn.sampling.stopping import StopScanner
from charnn.text.tokenizer import utf8_decoder


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
    text: str  # of a byte model with U+FFFD for what is not UTF-8; see `utf8_decoder`
    nats: float  # of its symbols under the model, those of the stop included
    symbols: int
    stop: str  # the reason of its end: "length" or "stop"
    choices: list[Choice] = field(default_factory=list)
    data: bytes = field(default=b"", repr=False)  # exactly as generated; of characters in UTF-8

    @property
    def nats_per_char(self) -> float:
        """The nats per symbol (of a byte model per byte), by which texts of different lengths
        compare; inf without symbols."""
        return self.nats / self.symbols if self.symbols else math.inf


def sample_of(data: bytes, nats: float, symbols: int, stop: str, **others: Any) -> Sample:
    """Return the sample of a text that was generated as these bytes."""
    text = utf8_decoder()(data)
    return Sample(text=text, data=data, nats=nats, symbols=symbols, stop=stop, **others)


class SampleBuilder:
    """Collects the symbols of one text until it ends."""

    def __init__(
        self, index: int, seed: int, pieces: list[bytes], length: int | None, scanner: StopScanner
    ) -> None:
        """`pieces` are the tokenizer's; `scanner` is a new one."""
        self.index, self.seed = index, seed
        self._length = length
        self._bytes_of_symbols = pieces
        self._scanner = scanner
        self._pieces: list[bytes] = []
        self._symbols, self._nats = 0, 0.0
        self._choices: list[Choice] = []

    def append(
        self, symbol: int, nats: float, alternatives: Sequence[tuple[int, float]] | None
    ) -> None:
        """Add the next symbol."""
        self._pieces.append(self._scanner.feed(self._bytes_of_symbols[symbol]))
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
        data = b"".join((*self._pieces, self._scanner.rest()))
        reason = "stop" if self._scanner.met else "length"
        return sample_of(
            data, self._nats, self._symbols, reason,
            index=self.index, seed=self.seed, choices=self._choices,
        )  # fmt: skip
