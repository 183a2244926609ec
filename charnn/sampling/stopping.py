"""The criteria that end a text, and the scanner that finds them while it is generated."""

from collections.abc import Callable
from dataclasses import dataclass

from charnn.errors import SettingError


@dataclass(frozen=True)
class StopCriteria:
    """The criteria that end a text besides its length: the first of several texts, or a newline.

    A text ends before the stop, or with `keep_stop` after it. The newline of `at_line_end` never
    belongs to the text. A stop of a byte model may be bytes.
    """

    stops: tuple[str | bytes, ...] = ()
    keep_stop: bool = False
    at_line_end: bool = False

    def __post_init__(self) -> None:
        for stop in self.stops:
            if not isinstance(stop, str | bytes):
                raise SettingError(f"`stop` must be a text or several, not {stop!r:.80}")
            if not stop:
                raise SettingError("an empty `stop` would end every text before it starts")


NO_STOP = StopCriteria()


class StopScanner:
    """Scans the bytes of a text for a stop, and holds back what may be the start of one.

    Bytes, not characters, because a byte model may write what is not UTF-8. In UTF-8 a character
    is found at no other place than its own.
    """

    def __init__(self, criteria: StopCriteria, bytes_of: Callable[[str], bytes]) -> None:
        """`bytes_of` is the tokenizer's, which turns a stop into the bytes to scan for."""
        self._stops = [s if isinstance(s, bytes) else bytes_of(s) for s in criteria.stops]
        self._at_line_end = criteria.at_line_end
        if self._at_line_end:
            self._stops.append(b"\n")
        self._keep_stop = criteria.keep_stop
        self._held_back = b""
        self.met = False

    @property
    def longest(self) -> int:
        """The number of bytes of the longest stop."""
        return max(map(len, self._stops), default=0)

    def finds(self, data: bytes) -> bool:
        """Return True if a stop is among these bytes."""
        return any(stop in data for stop in self._stops)

    def feed(self, piece: bytes) -> bytes:
        """Return the bytes that are final now; once a stop is `met`, they are the last."""
        if not self._stops:
            return piece
        data = self._held_back + piece
        found = [(data.index(stop) + len(stop), -len(stop)) for stop in self._stops if stop in data]
        if found:  # the stop that is complete first; of several that end there, the longest
            end, minus_length = min(found)
            self.met, self._held_back = True, b""
            data = data[: end if self._keep_stop else end + minus_length]
            return data.removesuffix(b"\n") if self._at_line_end else data
        starts = (n for stop in self._stops for n in range(len(stop)) if data.endswith(stop[:n]))
        cut = len(data) - max(starts, default=0)
        self._held_back = data[cut:]
        return data[:cut]

    def rest(self) -> bytes:
        """Return what was held back, once the text has ended for another reason."""
        rest, self._held_back = self._held_back, b""
        return rest
