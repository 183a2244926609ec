"""The criteria that end a text, and the scanner that finds them while it is generated."""

from dataclasses import dataclass

from charnn.errors import SettingError


@dataclass(frozen=True)
class StopCriteria:
    """The criteria that end a text besides its length: the first of several texts, or a newline.

    A text ends before the stop, or with `keep_stop` after it. The newline of `at_line_end` never
    belongs to the text.
    """

    stops: tuple[str, ...] = ()
    keep_stop: bool = False
    at_line_end: bool = False

    def __post_init__(self) -> None:
        if "" in self.stops:
            raise SettingError("an empty `stop` would end every text before it starts")

    @property
    def texts(self) -> tuple[str, ...]:
        """The texts to scan for."""
        return (*self.stops, "\n") if self.at_line_end else self.stops


NO_STOP = StopCriteria()


class StopScanner:
    """Scans the pieces of a text for a stop, and holds back what may be the start of one."""

    def __init__(self, criteria: StopCriteria) -> None:
        self._criteria = criteria
        self._held_back = ""
        self.met = False

    def feed(self, piece: str) -> str:
        """Return the text that is final now; once a stop is `met`, that is the last of it."""
        c, text = self._criteria, self._held_back + piece
        found = [(text.index(stop) + len(stop), -len(stop)) for stop in c.texts if stop in text]
        if found:  # the stop that is complete first; of several that end there, the longest
            end, minus_length = min(found)
            self.met, self._held_back = True, ""
            text = text[: end if c.keep_stop else end + minus_length]
            return text.removesuffix("\n") if c.at_line_end else text
        starts = (n for stop in c.texts for n in range(len(stop)) if text.endswith(stop[:n]))
        cut = len(text) - max(starts, default=0)
        self._held_back = text[cut:]
        return text[:cut]

    def rest(self) -> str:
        """Return what was held back, once the text has ended for another reason."""
        rest, self._held_back = self._held_back, ""
        return rest
