"""Characters or bytes <-> indices, exactly there and back."""

import codecs
import unicodedata
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charnn.errors import CheckpointError, VocabularyError

Indices = NDArray[np.integer[Any]]

CODE_POINTS = 0x110000
REPLACEMENT = "\ufffd"  # shown where the unknown symbol stands


class CharTokenizer:
    """One index per Unicode character, in the order of their code points.

    With `unknown`, one more symbol at the end of the vocabulary stands for every other character.
    """

    kind = "char"

    def __init__(self, characters: str, unknown: bool = False) -> None:
        if list(characters) != sorted(set(characters)):
            raise CheckpointError("the vocabulary is not a list of distinct characters in order")
        if any("\ud800" <= c <= "\udfff" for c in characters):  # no file can hold one as text
            raise CheckpointError("the vocabulary holds surrogates, which are no characters")
        self.characters = characters
        self.unknown_index = len(characters) if unknown else None
        self.vocabulary_size = len(characters) + unknown
        place = characters.find("\n")
        self.newline_index = place if place >= 0 else None
        self._codes = np.array([ord(c) for c in characters], dtype=np.uint32)

    def encode(self, text: str) -> Indices:
        """Indices of `text`; `VocabularyError` names each character that has none."""
        self.check(text)
        return np.searchsorted(self._codes, _code_points(text))

    def fold(self, text: str) -> Indices:
        """As `encode`, but what has no index becomes the unknown symbol where there is one."""
        if self.unknown_index is None:
            return self.encode(text)
        return self.table()[_code_points(text)]

    def check(self, text: str) -> None:
        """Raise `VocabularyError` naming each character of `text` that has no index, and where."""
        places = sorted(map(text.index, set(text) - set(self.characters)))
        if places:
            raise VocabularyError(
                "the model has never seen " + "; ".join(self._describe(text, i) for i in places)
            )

    def table(self) -> NDArray[np.int32]:
        """For every code point its index, or -1: what turns a large text into indices at once."""
        absent = -1 if self.unknown_index is None else self.unknown_index
        table = np.full(CODE_POINTS, absent, dtype=np.int32)  # half of int64: looked up faster
        table[self._codes] = np.arange(len(self._codes))
        return table

    def codes(self) -> NDArray[np.uint32]:
        """For every index its code point."""
        unknown = [] if self.unknown_index is None else [ord(REPLACEMENT)]
        return np.append(self._codes, np.array(unknown, dtype=np.uint32))

    def codes_of(self, text: str) -> NDArray[np.uint32]:
        """The code points of a text."""
        return _code_points(text)

    def decoder(self) -> Callable[[int], str]:
        """A function from one index to the text that can be printed by then."""
        return lambda index: self.characters[index] if index < len(self.characters) else REPLACEMENT

    def decode(self, indices: Iterable[int]) -> str:
        """The text of `indices`."""
        return "".join(map(self.decoder(), indices))

    def to_json(self) -> dict[str, Any]:
        """Plain JSON that `from_json` reads back."""
        return {
            "kind": self.kind,
            "characters": self.characters,
            "unknown": self.unknown_index is not None,
        }

    def _describe(self, text: str, position: int) -> str:
        character = text[position]
        named = f"{character!r} (U+{ord(character):04X}) at position {position}"
        if unicodedata.combining(character):  # an accent belongs to the letter before it
            character = text[max(0, position - 1) : position + 1]
            named += f" in {character!r}"
        near = self.nearest(character)
        return f"{named}, try {near!r}" if near else named

    def nearest(self, text: str) -> str:
        """What of the vocabulary comes closest: another case, a compatible or unaccented form."""
        plain = "".join(
            c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c)
        )
        forms = [unicodedata.normalize(form, text) for form in ("NFC", "NFKC", "NFD")]
        forms += [plain, _ASCII_FORMS.get(text, "")]
        cased = [case(form) for form in [text, *forms] for case in (str.lower, str.upper)]
        for form in [*forms, *cased]:
            if form and all(c in self.characters for c in form):
                return form
        return ""


class ByteTokenizer:
    """One index per byte: any file has one, and nothing is ever unknown."""

    kind = "byte"
    vocabulary_size = 256
    newline_index = 10
    unknown_index = None

    def encode(self, text: str | bytes) -> Indices:
        """The bytes of `text` (UTF-8 where it is a `str`)."""
        data = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text
        return np.frombuffer(data, dtype=np.uint8)

    fold = encode

    def check(self, text: str) -> None:
        """Nothing to refuse: every text has bytes."""

    def table(self) -> NDArray[np.int32]:
        """The identity, in the form of `CharTokenizer.table`."""
        return np.arange(256, dtype=np.int32)

    def codes(self) -> NDArray[np.uint32]:
        """The identity, in the form of `CharTokenizer.codes`."""
        return np.arange(256, dtype=np.uint32)

    def codes_of(self, text: str) -> NDArray[np.uint32]:
        """The bytes of a text, in the form of `CharTokenizer.codes_of`."""
        return self.encode(text).astype(np.uint32)

    def decoder(self) -> Callable[[int], str]:
        """A function from one byte to the text that is whole by then: never half a character."""
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        return lambda index: decoder.decode(bytes([index]))

    def decode(self, indices: Iterable[int]) -> str:
        """The text of `indices`; bytes that are no UTF-8 show as U+FFFD."""
        return bytes(map(int, indices)).decode("utf-8", "replace")  # bytes(array) is its memory

    def to_json(self) -> dict[str, Any]:
        """Plain JSON that `from_json` reads back."""
        return {"kind": self.kind}


Tokenizer = CharTokenizer | ByteTokenizer


def from_json(value: Any) -> Tokenizer:
    """The tokenizer that `to_json` described."""
    match value:
        case {"kind": "byte"}:
            return ByteTokenizer()
        case {"kind": "char", "characters": str(characters), "unknown": bool(unknown)}:
            return CharTokenizer(characters, unknown)
    raise CheckpointError("the vocabulary is neither of characters nor of bytes")


def from_counts(counts: NDArray[np.int64], min_count: int = 1) -> CharTokenizer:
    """The vocabulary of a text, from how often it holds each code point.

    Sorted by code point, so that the same text gives the same vocabulary everywhere.
    """
    present = np.flatnonzero(counts)
    kept = present[counts[present] >= min_count]
    return CharTokenizer("".join(map(chr, kept.tolist())), unknown=len(kept) < len(present))


def _code_points(text: str) -> NDArray[np.uint32]:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")


# Characters that word processors and keyboards make and that have no Unicode decomposition.
_ASCII_FORMS = {
    "\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"', "\u2013": "-", "\u2014": "-",
    "\u00df": "ss", "\u00e6": "ae", "\u00f8": "o", "\u0142": "l", "\t": " ",
}  # fmt: skip
