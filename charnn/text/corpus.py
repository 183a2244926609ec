"""Texts of any size as one stream of indices: a training part, then a validation part."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charnn.config import TextConfig
from charnn.errors import TextError, VocabularyError
from charnn.text.cache import index_type, memory_or_cache
from charnn.text.decoding import Piece, check_encoding, pieces
from charnn.text.records import (
    RECORD_RULES,
    Records,
    Split,
    Text,
    records_of,
    split_records,
)
from charnn.text.sources import Source, find_sources, is_pipe
from charnn.text.text_warnings import text_warnings
from charnn.text.tokenizer import (
    CODE_POINTS,
    NAMED_CHARACTERS,
    REPLACEMENT,
    ByteTokenizer,
    Indices,
    Tokenizer,
    from_counts,
)
from charnn.words import plural

MARK = "\ufeff"  # the byte-order mark
SAMPLE_CHARACTERS = 1 << 20  # characters at the beginning of a text that are checked for warnings


@dataclass(frozen=True)
class Corpus:
    """A text as indices: `indices[:split]` for training, the rest for validation."""

    indices: Indices
    split: int
    tokenizer: Tokenizer
    sha256: str  # of the text, so that a run can recognize its corpus in another place
    sources: tuple[str, ...] = ()  # absolute paths, or names of sources that are not files
    val_sources: tuple[str, ...] = ()
    unknown: int = 0  # symbols not in the vocabulary, skipped or replaced by the unknown symbol
    unknown_characters: str = ""  # the most frequent of them with their counts, for messages
    notes: tuple[str, ...] = ()  # changes made while reading, and warnings about the text
    is_records: bool = False
    record_rules: int = RECORD_RULES  # see docs/formats.md

    @cached_property
    def train(self) -> Text:
        """Training part."""
        return self._text(self.indices[: self.split])

    @cached_property
    def validation(self) -> Text:
        """Validation part."""
        return self._text(self.indices[self.split :])

    @cached_property
    def bytes_per_char(self) -> float | None:
        """Mean number of bytes of a character of the validation part; None unless the symbols are
        bytes of UTF-8."""
        return self.tokenizer.bytes_per_char(self.indices[self.split :])

    @cached_property
    def whole(self) -> Text:
        """Training and validation part together."""
        return self._text(self.indices)

    def _text(self, indices: Indices) -> Text:
        newline = self.tokenizer.newline_index
        return Records(indices, newline) if self.is_records and newline is not None else indices


@dataclass(frozen=True)
class TextStatistics:
    """Facts about one part of a corpus, from a first pass over its sources."""

    sources: list[Source]
    counts: NDArray[np.int64]  # of each code point or byte
    sha256: str
    sample: str  # the beginning of the text
    changes: set[str]  # made while reading, such as converted line ends

    @property
    def symbols(self) -> int:
        """Number of characters or bytes."""
        return int(self.counts.sum())

    def unknown(self, tokenizer: Tokenizer) -> Counter[int]:
        """Return the code points that are not in the vocabulary, with their counts."""
        present = np.flatnonzero(self.counts)
        absent = -1 if tokenizer.unknown_index is None else tokenizer.unknown_index
        codes = present[tokenizer.table()[present] == absent].tolist()
        return Counter({code: int(self.counts[code]) for code in codes})


def open_corpus(
    arguments: Sequence[str],
    config: TextConfig,
    *,
    val: Sequence[str] = (),
    tokenizer: Tokenizer | None = None,
    skip_unknown: bool = False,
    record_rules: int = RECORD_RULES,
) -> Corpus:
    """Read files, folders, globs or standard input (`-`), or the demo text without arguments.

    The validation part is the end of the text, or the texts that `val` names. Without `tokenizer`,
    the vocabulary is made from both parts. With one, characters that are not in its vocabulary
    become its unknown symbol. If it has none, they are left out with `skip_unknown`, and are a
    `VocabularyError` that counts and names them otherwise. With older `record_rules`, a list
    becomes the records that it was for the run that was started with them.

    >>> corpus = open_corpus(["tiny_shakespeare.txt"], TextConfig(val_fraction=0.1))
    >>> len(corpus.train), len(corpus.validation)
    (1003854, 111540)
    """
    check_encoding(config.encoding)
    if record_rules == 1 and config.tokenizer == "byte":
        config = replace(config, keep_newlines=True)
    pipes = list(filter(is_pipe, [*arguments, *val]))
    if len(pipes) > len(set(pipes)):
        raise TextError("standard input (-) or a pipe can be read only once; name it once")
    changes: set[str] = set()
    groups = [arguments, val] if val else [arguments]
    named = [find_sources(names, config, changes) for names in groups]
    parts = [_collect(sources, config) for sources in named]
    parts[0].changes.update(changes)
    if tokenizer is None:
        tokenizer = _make_tokenizer(parts, config)
    unknown = [part.unknown(tokenizer) for part in parts]
    has_symbol = tokenizer.unknown_index is not None
    if any(unknown) and not has_symbol and not skip_unknown:
        raise _unknown_error(parts, unknown)
    skipped = [0 if has_symbol else counts.total() for counts in unknown]
    indices = _encode(parts, config, tokenizer, sum(skipped))
    train_symbols = parts[0].symbols - skipped[0] if val else None
    name = _short_name(named[0])
    split = _split(indices, train_symbols, tokenizer, config, name, record_rules)
    return Corpus(
        split.indices,
        split.train_symbols,
        tokenizer,
        sha256=_joint_hash(parts),
        sources=_absolute_names(named[0]),
        val_sources=_absolute_names(named[1]) if val else (),
        unknown=sum(counts.total() for counts in unknown),
        unknown_characters=_list_characters(unknown),
        notes=(*_notes(parts, config), *split.notes()),
        is_records=config.lines,
        record_rules=record_rules,
    )


def _collect(sources: list[Source], config: TextConfig) -> TextStatistics:
    counts = np.zeros(256 if config.tokenizer == "byte" else CODE_POINTS, dtype=np.int64)
    digest, changes, sample = hashlib.sha256(), set[str](), ""
    for piece in _hashed(pieces(sources, config, changes), digest):
        found = np.bincount(_codes(piece))
        counts[: len(found)] += found
        if len(sample) < SAMPLE_CHARACTERS and config.tokenizer == "char":
            sample += piece.decode() if isinstance(piece, bytes) else piece
    if not counts.any():
        raise TextError(f"{_short_name(sources)}: empty; name a file that contains text")
    sample = sample[:SAMPLE_CHARACTERS]
    return TextStatistics(sources, counts, digest.hexdigest(), sample, changes)


def _codes(piece: Piece) -> NDArray[Any]:
    if isinstance(piece, bytes):
        return np.frombuffer(piece, dtype=np.uint8)
    return np.frombuffer(piece.encode("utf-32-le", "surrogatepass"), dtype="<u4")


def _hashed(text: Iterable[Piece], digest: "hashlib._Hash") -> Iterator[Piece]:
    """Yield the pieces of a text, and add them to a hash."""
    for piece in text:
        digest.update(piece if isinstance(piece, bytes) else piece.encode("utf-8", "surrogatepass"))
        yield piece


def _joint_hash(parts: Sequence[TextStatistics]) -> str:
    if len(parts) == 1:
        return parts[0].sha256
    return hashlib.sha256(" ".join(part.sha256 for part in parts).encode()).hexdigest()


def _absolute_names(sources: Sequence[Source]) -> tuple[str, ...]:
    # Not `resolve`: a link may have the suffix .gz while the file that it points to has none.
    return tuple(str(s.path.absolute()) if s.path else s.name for s in sources)


def _short_name(sources: Sequence[Source]) -> str:
    """Return the first source's name and the number of the others, as a folder may have many."""
    others = len(sources) - 1
    return sources[0].name + (f" and {plural(others, 'other')}" if others else "")


def _notes(parts: Sequence[TextStatistics], config: TextConfig) -> tuple[str, ...]:
    notes = sorted(set().union(*(part.changes for part in parts)))
    if config.tokenizer == "char":
        counts = parts[0].counts.copy()
        if config.encoding_errors == "replace":  # then U+FFFD says nothing about the text
            counts[ord(REPLACEMENT)] = 0
        counts[counts < config.min_count] = 0  # which are not in the vocabulary
        if config.keep_newlines:  # byte-order marks are kept on purpose
            counts[ord(MARK)] = 0
        notes.extend(text_warnings(counts, parts[0].sample))
    return tuple(notes)


def _make_tokenizer(parts: Sequence[TextStatistics], config: TextConfig) -> Tokenizer:
    if config.tokenizer == "byte":
        return ByteTokenizer()
    counts = np.sum([part.counts for part in parts], axis=0)
    if counts[0xD800:0xE000].any():  # a few decoders such as UTF-7 let them through
        raise TextError(
            "the text contains lone surrogates, which are not characters; is it really "
            f"{config.encoding}? Try another `encoding`"
        )
    tokenizer = from_counts(counts, config.min_count)
    if not tokenizer.characters:
        most = int(counts.max())
        advice = "leave out `min_count`" if most == 1 else f"use `min_count={most}` or less"
        raise TextError(f"no character of the text occurs {config.min_count:,} times; {advice}")
    if tokenizer.vocabulary_size < 2:
        raise TextError(
            f"the text consists of one symbol only ({tokenizer.characters!r}), so there is nothing "
            "to learn; name another text"
        )
    return tokenizer


def _unknown_error(
    parts: Sequence[TextStatistics], unknown: Sequence[Counter[int]]
) -> VocabularyError:
    name = _short_name([source for part in parts for source in part.sources])
    count = sum(counts.total() for counts in unknown)
    return VocabularyError(
        f"{name}: {plural(count, 'character is', 'characters are')} not in the model's vocabulary: "
        f"{_list_characters(unknown)}; `skip_unknown=True` leaves them out"
    )


def _list_characters(unknown: Sequence[Counter[int]]) -> str:
    counts = sum(unknown, Counter[int]())
    most = counts.most_common(NAMED_CHARACTERS)
    named = ", ".join(f"{chr(code)!r} (U+{code:04X}) x {count:,}" for code, count in most)
    others = len(counts) - len(most)
    return named + (f" and {plural(others, 'other')}" if others else "")


def _split(
    indices: Indices,
    train_symbols: int | None,
    tokenizer: Tokenizer,
    config: TextConfig,
    name: str,
    record_rules: int,
) -> Split:
    """Return the indices in the order of their parts, and where the validation part starts.

    It starts after `train_symbols` if given, else where `config.val_fraction` says.
    """
    if not config.lines:
        if train_symbols is not None:
            return Split(indices, train_symbols)
        # A fraction, because 0.9 * n in floating point is one too small for some n.
        return Split(indices, int(len(indices) * (1 - Fraction(str(config.val_fraction)))))
    if (newline := tokenizer.newline_index) is None:
        raise TextError(f"{name}: no line end, so there are no records; leave out `lines`")
    if not records_of(indices, newline).count:
        raise TextError(f"{name}: all lines are empty, so there are no records; name another text")
    if train_symbols is not None:
        train = records_of(indices[:train_symbols], newline)
        validation = records_of(indices[train_symbols:], newline)
        split = Split(np.concatenate((train.indices, validation.indices)), len(train))
    else:
        records = records_of(indices, newline)
        by_occurrence = record_rules > 1
        split = split_records(records, tokenizer.codes(), config.val_fraction, by_occurrence)
    if split.train_symbols == 0:
        raise TextError(
            f"{name}: there is no record to train on; give more lines or a smaller `val_fraction`"
        )
    return split


def _encode(
    parts: Sequence[TextStatistics], config: TextConfig, tokenizer: Tokenizer, skipped: int
) -> Indices:
    """Return the indices of all parts, in memory if few, else memory-mapped from the cache."""
    total = sum(part.symbols for part in parts) - skipped

    def encode() -> Iterator[Indices]:
        for part in parts:
            digest = hashlib.sha256()
            yield from _indices(_hashed(pieces(part.sources, config, set()), digest), tokenizer)
            if digest.hexdigest() != part.sha256:
                raise TextError(
                    "the corpus changed while it was read; try again when nothing writes to it"
                )

    key = [_joint_hash(parts), tokenizer.to_json(), skipped]
    return memory_or_cache(key, total, tokenizer.vocabulary_size, encode)


def _indices(text: Iterable[Piece], tokenizer: Tokenizer) -> Iterator[Indices]:
    """Yield the indices of the known characters of `text`."""
    dtype, table = index_type(tokenizer.vocabulary_size), tokenizer.table()
    ascii_table = table[:256].astype(np.uint8).tobytes()
    absent = np.flatnonzero(table[:256] < 0).astype(np.uint8).tobytes()
    for piece in text:
        if isinstance(piece, bytes) and dtype is np.uint8:
            # `translate` maps and deletes in one pass, which indexing cannot do.
            yield np.frombuffer(piece.translate(ascii_table, absent), dtype=dtype)
        else:
            indices = table.take(_codes(piece))
            yield (indices if indices.min() >= 0 else indices[indices >= 0]).astype(dtype)
