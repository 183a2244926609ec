"""Any text, of any size, as one stream of indices: a training part, then a validation part."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from charnn.config import TextConfig
from charnn.errors import TextError, VocabularyError
from charnn.files import explained
from charnn.text.cache import memory_or_cache
from charnn.text.records import Records, Text, split_records
from charnn.text.sources import Piece, Source, check_encoding, find_sources, pieces
from charnn.text.text_warnings import warnings_about
from charnn.text.tokenizer import (
    CODE_POINTS,
    ByteTokenizer,
    Indices,
    Tokenizer,
    from_counts,
)

SAMPLE_CHARACTERS = 1 << 20  # how much of a text the checks for odd looks read


@dataclass(frozen=True)
class Corpus:
    """A text as indices; `indices[:split]` is for training, the rest for validation."""

    indices: Indices
    split: int
    tokenizer: Tokenizer
    sha256: str  # of the text, so that a run can be matched with its corpus wherever that lies
    sources: tuple[str, ...] = ()  # absolute paths, or the names of what is no file
    val_sources: tuple[str, ...] = ()
    unknown: int = 0  # symbols that the vocabulary lacks: folded into one, or skipped
    strangers: str = ""  # which symbols those are, and how often each stands in the text
    notes: tuple[str, ...] = ()  # what was changed in the text, and what looks wrong with it
    is_records: bool = False

    @cached_property
    def train(self) -> Text:
        """The part to learn from."""
        return self._part(self.indices[: self.split])

    @cached_property
    def validation(self) -> Text:
        """The part to be judged on."""
        return self._part(self.indices[self.split :])

    @cached_property
    def whole(self) -> Text:
        """Both parts."""
        return self._part(self.indices)

    def _part(self, indices: Indices) -> Text:
        newline = self.tokenizer.newline_index
        return Records(indices, newline) if self.is_records and newline is not None else indices


@dataclass
class Survey:
    """What one reading of a text finds out."""

    counts: NDArray[np.int64]  # of each code point or byte
    sha256: str
    sample: str  # its beginning
    mended: set[str]
    stamps: list[tuple[int, int] | None] = field(default_factory=list)

    @property
    def symbols(self) -> int:
        return int(self.counts.sum())


def open_corpus(
    arguments: Sequence[str],
    config: TextConfig,
    *,
    val: Sequence[str] = (),
    tokenizer: Tokenizer | None = None,
    skip_unknown: bool = False,
) -> Corpus:
    """Read the texts that the arguments name (files, folders, globs, `-`; none: the demo text).

    Without `tokenizer` the vocabulary is made from the text, validation included. With one, the
    text must fit it: characters without an index are a `VocabularyError` that counts and names
    them, unless `skip_unknown` leaves them out.
    """
    check_encoding(config.encoding)
    if [*arguments, *val].count("-") > 1:
        raise TextError("standard input (-) can be read only once; name it once")
    sources, val_sources = find_sources(arguments), find_sources(val) if val else []
    surveys = [_survey(part, config) for part in (sources, val_sources) if part]
    if tokenizer is None:
        counts = sum(survey.counts for survey in surveys)
        tokenizer = _make_tokenizer(cast(NDArray[np.int64], counts), config)
    strangers = [_strangers(survey, tokenizer) for survey in surveys]
    if any(map(len, strangers)) and tokenizer.unknown_index is None and not skip_unknown:
        count = sum(int(s.counts[codes].sum()) for s, codes in zip(surveys, strangers, strict=True))
        raise VocabularyError(
            f"{_some_names([*sources, *val_sources])}: {count:,} characters are not in the model's "
            f"vocabulary: {_named(surveys, strangers)}; --skip-unknown leaves them out"
        )
    unknown = [int(s.counts[codes].sum()) for s, codes in zip(surveys, strangers, strict=True)]
    skipped = [0 if tokenizer.unknown_index is not None else count for count in unknown]
    indices = _encode(sources, val_sources, surveys, config, tokenizer, sum(skipped))
    if val:
        split = surveys[0].symbols - skipped[0]
    else:  # exactly, because 0.9 * n in floats falls one short for some n
        split = int(len(indices) * (1 - Fraction(str(config.val_fraction))))
    if config.lines:
        share = 0.0 if val else config.val_fraction
        parts = (indices[:split], indices[split:]) if val else (indices,)
        newline = tokenizer.newline_index
        if newline is None:
            raise TextError(
                f"{_some_names(sources)}: no line end, so that it is no list of records; leave "
                "--lines out"
            )
        indices, split = split_records(parts, newline, tokenizer.codes(), share)
        if split == 0:
            raise TextError(
                f"{_some_names(sources)}: no record to train on; give more lines or a smaller "
                "--val-fraction"
            )
    notes = sorted(set().union(*(survey.mended for survey in surveys)))
    if config.tokenizer == "char":
        notes.extend(warnings_about(surveys[0].counts, surveys[0].sample))
    return Corpus(
        indices,
        split,
        tokenizer,
        _fingerprint(surveys),
        _names(sources),
        _names(val_sources),
        sum(unknown),
        _named(surveys, strangers),
        tuple(notes),
        config.lines,
    )


def _names(sources: Sequence[Source]) -> tuple[str, ...]:
    # not `resolve`: the name that a link points to may lack the .gz that tells how to read it
    return tuple(str(s.path.absolute()) if s.path else s.name for s in sources)


def _some_names(sources: Sequence[Source]) -> str:
    """For a message: a folder may hold thousands."""
    others = f" and {len(sources) - 1} others" if len(sources) > 1 else ""
    return sources[0].name + others


def _survey(sources: Sequence[Source], config: TextConfig) -> Survey:
    counts = np.zeros(256 if config.tokenizer == "byte" else CODE_POINTS, dtype=np.int64)
    digest, mended, sample = hashlib.sha256(), set[str](), ""
    stamps = _stamps(sources)
    for piece in pieces(sources, config, mended):
        digest.update(piece if isinstance(piece, bytes) else piece.encode("utf-8", "surrogatepass"))
        found = np.bincount(_codes(piece))
        counts[: len(found)] += found
        if len(sample) < SAMPLE_CHARACTERS and config.tokenizer == "char":
            sample += piece.decode() if isinstance(piece, bytes) else piece
    if not counts.any():
        raise TextError(f"{_some_names(sources)}: empty; name a file with text in it")
    return Survey(counts, digest.hexdigest(), sample[:SAMPLE_CHARACTERS], mended, stamps)


def _codes(piece: Piece) -> NDArray[Any]:
    if isinstance(piece, bytes):
        return np.frombuffer(piece, dtype=np.uint8)
    return np.frombuffer(piece.encode("utf-32-le", "surrogatepass"), dtype="<u4")


def _stamps(sources: Sequence[Source]) -> list[tuple[int, int] | None]:
    with explained("looking at the corpus", "was it moved?"):
        return [source.stamp() for source in sources]


def _fingerprint(surveys: Sequence[Survey]) -> str:
    if len(surveys) == 1:
        return surveys[0].sha256
    return hashlib.sha256(" ".join(survey.sha256 for survey in surveys).encode()).hexdigest()


def _make_tokenizer(counts: NDArray[np.int64], config: TextConfig) -> Tokenizer:
    if config.tokenizer == "byte":
        return ByteTokenizer()
    if counts[0xD800:0xE000].any():  # UTF-7 and a few others let them through
        raise TextError(
            f"the text holds lone surrogates, which are no characters; is it {config.encoding}? "
            "See --encoding"
        )
    tokenizer = from_counts(counts, config.min_count)
    if not tokenizer.characters:
        raise TextError(
            f"no character of the text occurs {config.min_count:,} times; lower --min-count"
        )
    if tokenizer.vocabulary_size < 2:
        raise TextError(
            f"the text is made of one symbol only ({tokenizer.characters!r}), there is nothing to "
            "learn; name another text"
        )
    return tokenizer


def _strangers(survey: Survey, tokenizer: Tokenizer) -> NDArray[np.int64]:
    """The code points of the text that the vocabulary has no symbol of their own for."""
    present = np.flatnonzero(survey.counts)
    absent = -1 if tokenizer.unknown_index is None else tokenizer.unknown_index
    return present[tokenizer.table()[present] == absent]


def _named(surveys: Sequence[Survey], strangers: Sequence[NDArray[np.int64]]) -> str:
    counts: Counter[int] = Counter()
    for survey, codes in zip(surveys, strangers, strict=True):
        counts.update({int(code): int(survey.counts[code]) for code in codes})
    named = [f"{chr(c)!r} (U+{c:04X}) x {count:,}" for c, count in counts.most_common(8)]
    others = f" and {len(counts) - 8} others" if len(counts) > 8 else ""
    return ", ".join(named) + others


def _encode(
    sources: Sequence[Source],
    val_sources: Sequence[Source],
    surveys: Sequence[Survey],
    config: TextConfig,
    tokenizer: Tokenizer,
    skipped: int,
) -> Indices:
    """The indices of both parts: in memory when few, otherwise memory-mapped from the cache."""
    total = sum(survey.symbols for survey in surveys) - skipped
    dtype = index_type(tokenizer.vocabulary_size)

    def write(file: BinaryIO) -> None:
        written = 0
        for part, survey in zip([sources, val_sources], surveys, strict=False):
            written += _write_indices(file, pieces(part, config, set()), tokenizer, dtype)
            if _stamps(part) != survey.stamps:
                raise TextError(_CHANGED)
        if written != total:
            raise TextError(_CHANGED)

    made_of = [_fingerprint(surveys), tokenizer.to_json(), skipped]
    return memory_or_cache(made_of, total, dtype, write)


_CHANGED = "the corpus changed while it was read; run the command again when it is at rest"


def index_type(vocabulary_size: int) -> type[np.unsignedinteger[Any]]:
    """The narrowest integers that hold every index."""
    if vocabulary_size <= 1 << 8:
        return np.uint8
    return np.uint16 if vocabulary_size <= 1 << 16 else np.uint32


def _write_indices(
    file: BinaryIO,
    text: Iterable[Piece],
    tokenizer: Tokenizer,
    dtype: type[np.unsignedinteger[Any]],
) -> int:
    """Write the indices of `text`, without those that have none; return how many were written."""
    table = tokenizer.table()
    narrow = table[:256].astype(np.uint8).tobytes()
    absent = np.flatnonzero(table[:256] < 0).astype(np.uint8).tobytes()
    written = 0
    for piece in text:
        if isinstance(piece, bytes) and dtype is np.uint8:
            # `translate` can delete on its way, which indexing cannot.
            values = np.frombuffer(piece.translate(narrow, absent), dtype=dtype)
        else:
            indices = table.take(_codes(piece))
            values = (indices if indices.min() >= 0 else indices[indices >= 0]).astype(dtype)
        file.write(values.data)
        written += len(values)
    return written
