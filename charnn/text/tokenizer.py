"""Characters or bytes <-> indices, with an exact round trip."""

import codecs
import unicodedata
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charnn.errors import CheckpointError, VocabularyError
from charnn.words import plural

Indices = NDArray[np.integer[Any]]

CODE_POINTS = 0x110000
NAMED_CHARACTERS = 8  # unknown characters that a message lists
_CHUNK_BYTES = 1 << 20  # that are decoded at once, so that memory stays small
REPLACEMENT = "\ufffd"  # shown in place of the unknown symbol


class CharTokenizer:
    """One index per Unicode character, in order of code points.

    With `unknown`, one more symbol at the end of the vocabulary stands for all other characters.

    >>> tokenizer = CharTokenizer("abc")
    >>> tokenizer.encode("cab").tolist(), tokenizer.decode([2, 0, 1])
    ([2, 0, 1], 'cab')
    """

    kind = "char"
    unit, noun = "char", "character"  # in which its figures are given

    def __init__(self, characters: str, unknown: bool = False) -> None:
        if list(characters) != sorted(set(characters)):
            raise CheckpointError("the vocabulary is not a sorted list of distinct characters")
        if any("\ud800" <= c <= "\udfff" for c in characters):  # no text file can contain one
            raise CheckpointError("the vocabulary contains surrogates, which are not characters")
        self.characters = characters
        self.unknown_index = len(characters) if unknown else None
        self.vocabulary_size = len(characters) + unknown
        place = characters.find("\n")
        self.newline_index = place if place >= 0 else None
        self._codes = np.array([ord(c) for c in characters], dtype=np.uint32)

    def encode(self, text: str) -> Indices:
        """Return the indices of `text`; raise `VocabularyError` if a character has none."""
        self.check(text)
        return np.searchsorted(self._codes, _code_points(text))

    def fold(self, text: str) -> Indices:
        """Return the indices of `text`, with the unknown symbol, if any, for unknown characters."""
        if self.unknown_index is None:
            return self.encode(text)
        return self.table()[_code_points(text)]

    def check(self, text: str) -> None:
        """Raise `VocabularyError` that names the first characters of `text` without an index."""
        if unknown := set(text) - set(self.characters):
            known, places = set(self.characters), []  # first occurrences of the first few
            for place, character in enumerate(text):
                if character not in known:
                    known.add(character)
                    places.append(place)
                    if len(places) == NAMED_CHARACTERS:
                        break
            others = len(unknown) - len(places)
            named = "; ".join(self._describe(text, i) for i in places)
            them = "it" if len(unknown) == 1 else "them"
            advice = "" if ", try " in named else f"; leave {them} out"
            raise VocabularyError(
                f"not in the model's vocabulary: {named}"
                + (f"; and {plural(others, 'other')}" if others else "")
                + advice
            )

    def table(self) -> NDArray[np.int32]:
        """Return the index of every code point, or -1, to encode large texts by one lookup."""
        absent = -1 if self.unknown_index is None else self.unknown_index
        table = np.full(CODE_POINTS, absent, dtype=np.int32)  # faster to look up than int64
        table[self._codes] = np.arange(len(self._codes))
        return table

    def codes(self) -> NDArray[np.uint32]:
        """Return the code point of every index."""
        unknown = [] if self.unknown_index is None else [ord(REPLACEMENT)]
        return np.append(self._codes, np.array(unknown, dtype=np.uint32))

    def codes_of(self, text: str) -> NDArray[np.uint32]:
        """Return the code points of a text."""
        return _code_points(text)

    def decode(self, indices: Iterable[int]) -> str:
        """Return the text of `indices`."""
        characters = self._shown
        return "".join([characters[index] for index in indices])

    def bytes_per_char(self, indices: Indices) -> float | None:
        """Return None: the symbols are characters."""
        return None

    def pieces(self) -> list[bytes]:
        """Return the bytes of every index: its character in UTF-8."""
        return [character.encode() for character in self._shown]

    def bytes_of(self, text: str) -> bytes:
        """Return the bytes of a text as `pieces` has them; what is no character matches none."""
        return text.encode("utf-8", "surrogatepass")

    @property
    def _shown(self) -> str:
        return self.characters if self.unknown_index is None else self.characters + REPLACEMENT

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON that `from_json` reads back."""
        return {
            "kind": self.kind,
            "characters": self.characters,
            "unknown": self.unknown_index is not None,
        }

    def _describe(self, text: str, position: int) -> str:
        character = text[position]
        description = f"{character!r} (U+{ord(character):04X}) at position {position}"
        if unicodedata.combining(character):  # an accent belongs to the letter before it
            character = text[max(0, position - 1) : position + 1]
            description += f" in {character!r}"
        nearest = self.nearest(character)
        return f"{description}, try {nearest!r}" if nearest else description

    def nearest(self, text: str) -> str:
        """Return the closest text in the vocabulary: another case, a compatible or unaccented form.

        Return an empty string if there is none.
        """
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
    """One index per byte, so that any file can be encoded and nothing is unknown."""

    kind = "byte"
    unit, noun = "byte", "byte"
    vocabulary_size = 256
    newline_index = 10
    unknown_index = None

    def encode(self, text: str | bytes) -> Indices:
        """Return the bytes of `text`, in UTF-8 if it is a `str`."""
        data = self.bytes_of(text) if isinstance(text, str) else text
        return np.frombuffer(data, dtype=np.uint8)

    fold = encode

    def check(self, text: str) -> None:
        """Raise `VocabularyError` for half of a surrogate pair, which no bytes stand for."""
        self.bytes_of(text)

    def table(self) -> NDArray[np.int32]:
        """Return the identity, as `CharTokenizer.table` does for characters."""
        return np.arange(256, dtype=np.int32)

    def codes(self) -> NDArray[np.uint32]:
        """Return the identity, as `CharTokenizer.codes` does for characters."""
        return np.arange(256, dtype=np.uint32)

    def codes_of(self, text: str) -> NDArray[np.uint32]:
        """Return the bytes of a text, as `CharTokenizer.codes_of` does for characters."""
        return self.encode(text).astype(np.uint32)

    def decode(self, indices: Iterable[int]) -> str:
        """Return the text of `indices`, with U+FFFD for invalid UTF-8."""
        return bytes(map(int, indices)).decode(
            "utf-8", "replace"
        )  # bytes(array) would be its raw memory

    def bytes_per_char(self, indices: Indices) -> float | None:
        """Return the mean number of bytes of a character; None if the bytes are not UTF-8.

        The first and the last character may be incomplete, where a text was split.
        """
        decoder = codecs.getincrementaldecoder("utf-8")()
        begun = next((n for n, byte in enumerate(indices[:3]) if byte & 0xC0 != 0x80), 3)
        characters = 0
        try:
            for start in range(begun, len(indices), _CHUNK_BYTES):
                chunk = indices[start : start + _CHUNK_BYTES]
                characters += len(decoder.decode(chunk.astype(np.uint8).tobytes()))
        except UnicodeDecodeError:
            return None
        unfinished = len(decoder.getstate()[0])
        return (len(indices) - begun - unfinished) / characters if characters else None

    def pieces(self) -> list[bytes]:
        """Return every byte, as `CharTokenizer.pieces` does for characters."""
        return [bytes([value]) for value in range(256)]

    def bytes_of(self, text: str) -> bytes:
        """Return the bytes of a text; one that Python could not decode, and holds as half of a
        surrogate pair, becomes that byte again."""
        try:
            return text.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError as error:
            raise VocabularyError(
                f"{text[error.start]!r} at position {error.start} is half of a surrogate pair, "
                "which is not text; leave it out"
            ) from error

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON that `from_json` reads back."""
        return {"kind": self.kind}


Tokenizer = CharTokenizer | ByteTokenizer


def utf8_decoder() -> Callable[[bytes], str]:
    """Return a function that decodes a text piece by piece, never half a character.

    Bytes that are not UTF-8 become U+FFFD. The bytes of a last character that is not complete are
    left out.
    """
    return codecs.getincrementaldecoder("utf-8")("replace").decode


def from_json(value: Any) -> Tokenizer:
    """Return the tokenizer that `to_json` described."""
    match value:
        case {"kind": "byte"}:
            return ByteTokenizer()
        case {"kind": "char", "characters": str(characters), "unknown": bool(unknown)}:
            return CharTokenizer(characters, unknown)
    raise CheckpointError("the vocabulary consists of neither characters nor bytes")


def from_counts(counts: NDArray[np.int64], min_count: int = 1) -> CharTokenizer:
    """Return a tokenizer for a text with these counts of each code point.

    Characters that occur fewer than `min_count` times share the unknown symbol. The vocabulary is
    sorted by code point, so that the same text gives the same vocabulary everywhere.
    """
    present = np.flatnonzero(counts)
    kept = present[counts[present] >= min_count]
    return CharTokenizer("".join(map(chr, kept.tolist())), unknown=len(kept) < len(present))


def _code_points(text: str) -> NDArray[np.uint32]:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")


# Common typographic characters that have no Unicode decomposition.
_ASCII_FORMS = {
    "\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"', "\u2013": "-", "\u2014": "-",
    "\u00df": "ss", "\u00e6": "ae", "\u00f8": "o", "\u0142": "l", "\t": " ",
}  # fmt: skip
