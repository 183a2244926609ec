"""A text while it is written, and when it has ended."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from charnn.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class StopCriteria:
    """What ends a text besides its length: the first of these texts, which belongs to it or not;
    or a line end, which never does."""

    stops: tuple[str, ...] = ()
    keep: bool = False
    line: bool = False


class StopScanner:
    """Lets pieces of a text pass until a stop is in it. What may be the beginning of one is held
    back."""

    def __init__(self, ending: StopCriteria) -> None:
        self._texts = (*ending.stops, "\n") if ending.line else ending.stops
        self._ending = ending
        self._held = ""
        self.met = False

    def feed(self, piece: str) -> str:
        """What of the text may be shown by now; the last of it if a stop is `met`."""
        held = self._held + piece
        found = [(held.index(text) + len(text), -len(text)) for text in self._texts if text in held]
        if found:  # of the one that is complete first; of those the longest
            end, minus = min(found)
            self.met, self._held = True, ""
            text = held[: end if self._ending.keep else end + minus]
            return text.removesuffix("\n") if self._ending.line else text
        begun = (n for text in self._texts for n in range(len(text)) if held.endswith(text[:n]))
        cut = len(held) - max(begun, default=0)
        self._held = held[cut:]
        return held[:cut]

    def rest(self) -> str:
        """What was held back from a text that ends for another reason."""
        rest, self._held = self._held, ""
        return rest


@dataclass(frozen=True)
class Choice:
    """A symbol that was drawn, its nats, and the likeliest symbols there with theirs."""

    symbol: int
    nats: float
    best: Sequence[tuple[int, float]]


@dataclass(frozen=True)
class Sample:
    """A text that was written after the prime."""

    index: int
    seed: int | None  # with it, and alone, the text is written again; None where none was drawn
    text: str
    nats: float  # of its symbols, by the model's own probabilities; of the stop's too
    symbols: int
    stop: str  # what ended it: "length" or "stop"
    choices: list[Choice] = field(default_factory=list)

    @property
    def nats_per_char(self) -> float:
        """By which texts of different lengths are compared; infinite for one of nothing."""
        return self.nats / self.symbols if self.symbols else math.inf


class OpenSample:
    """A text that is being written."""

    def __init__(
        self, index: int, seed: int, tokenizer: Tokenizer, length: int | None, ending: StopCriteria
    ) -> None:
        self.index, self.seed = index, seed
        self._length = length
        self._decode = tokenizer.decoder()
        self._stops = StopScanner(ending)
        self._pieces: list[str] = []
        self._symbols, self._nats = 0, 0.0
        self._choices: list[Choice] = []

    def append(self, symbol: int, nats: float, best: Sequence[tuple[int, float]] | None) -> None:
        """Take the next symbol."""
        self._pieces.append(self._stops.feed(self._decode(symbol)))
        self._symbols += 1
        self._nats += nats
        if best is not None:
            self._choices.append(Choice(symbol, nats, best))

    @property
    def ended(self) -> bool:
        """Whether it is as long as it may be, or met a stop."""
        return self._stops.met or self._symbols == self._length

    def sample(self) -> Sample:
        """What was written."""
        text = "".join((*self._pieces, self._stops.rest()))
        reason = "stop" if self._stops.met else "length"
        return Sample(self.index, self.seed, text, self._nats, self._symbols, reason, self._choices)
