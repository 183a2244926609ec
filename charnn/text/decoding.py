"""Sources as pieces of text: decoded, with converted line ends, joined with newlines.

A piece is `bytes` if it is plain ASCII or if the tokenizer reads bytes, and `str` otherwise. ASCII
needs no decoding, which makes reading it faster.
"""

import codecs
import contextlib
import itertools
import lzma
import threading
import unicodedata
import zlib
from collections.abc import Iterable, Iterator

from charnn.config import TextConfig
from charnn.errors import TextError, UnreadableTextError
from charnn.text.sources import CHUNK_BYTES, Source, find_sources
from charnn.words import plural

Piece = bytes | str

MAX_SMALL = 1 << 24  # characters of a prime, which is read into memory
LARGE = 100_000_000  # bytes of an unpacked file whose size is noted
_NO_TEXT = {"Cn", "Co", "Cs"}  # categories of characters that no text has many of
_SINGLE_BYTE = ("cp1252", "latin-1")
_CANDIDATES = ("utf-8", "utf-16", *_SINGLE_BYTE)
_SEPARATORS = frozenset(" \n\u3000\u3002")
_bad = threading.local()  # counts the bytes that the error handlers have met


def pieces(sources: Iterable[Source], config: TextConfig, changes: set[str]) -> Iterator[Piece]:
    """Yield the text of all sources, joined with one newline.

    Changes made to the text, such as converted line ends, are added to `changes`.
    """
    has_text = False  # empty files add no newline
    for source in sources:
        for number, piece in enumerate(_clean(source, config, changes)):
            if number == 0 and has_text:
                yield b"\n"
            has_text = True
            yield piece


def read_text(name: str, config: TextConfig, characters: int | None = None) -> str:
    """Return a small text, such as a prime, read in the same way as a corpus; of a larger one about
    the first `characters`.

    Bytes that are not UTF-8 become surrogates, which `ByteTokenizer.encode` turns back into bytes.

    Raises:
        TextError: the text cannot be read, or is too large without `characters`.
    """
    most, text = MAX_SMALL if characters is None else characters, ""
    try:
        for piece in pieces(find_sources([name], config, set(), 8 * most + 8), config, set()):
            if isinstance(piece, bytes):
                piece = piece.decode("utf-8", "surrogateescape")
            text += piece
            if len(text) > most:
                break
    except UnreadableTextError as error:  # the settings are those of the model
        raise TextError(f"{error.problem}; convert it to {config.encoding}") from error
    if characters is None and len(text) > most:
        raise TextError(f"{name}: longer than {most:,} characters; name a shorter text")
    return text


def _clean(source: Source, config: TextConfig, changes: set[str]) -> Iterator[Piece]:
    chunks = _chunks(source, changes)
    if config.tokenizer == "byte":
        as_is = config.keep_newlines or not config.lines  # a list has line ends, a file need not
        yield from chunks if as_is else _unix_newlines(chunks, changes)
        return
    text = _decoded(chunks, config, source, changes)
    if not config.keep_newlines:
        text = _unix_newlines(text, changes)
    for piece in text:
        has_nul = b"\0" in piece if isinstance(piece, bytes) else "\0" in piece
        if has_nul:
            raise UnreadableTextError(
                f"{source.name}: contains NUL characters, so it is not plain text in "
                f"{config.encoding}",
                _remedies(source, config.encoding),
            )
        yield piece


def _chunks(source: Source, changes: set[str]) -> Iterator[bytes]:
    size = 0
    try:
        with source.open() as file:
            while chunk := file.read(CHUNK_BYTES):
                size += len(chunk)
                yield chunk
    except (EOFError, zlib.error, lzma.LZMAError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            problem = f"cannot be read ({error.strerror}); check the file"
        elif source.misnamed:
            problem = "not packed in the way that its name says; rename it"
        else:  # gzip and bz2 raise an OSError without errno for data that they cannot unpack
            problem = f"the compressed file is truncated or damaged ({error}); download it again"
        raise TextError(f"{source.name}: {problem}") from error
    if source.compressed and size > LARGE:
        changes.add(f"unpacked {source.name}: {size / 1e6:,.0f} MB")


def _decoded(
    chunks: Iterable[bytes], config: TextConfig, source: Source, changes: set[str]
) -> Iterator[Piece]:
    errors = config.encoding_errors
    handler = errors if errors == "strict" else f"charnn.{errors}"
    decoder = codecs.getincrementaldecoder(config.encoding)(handler)
    is_utf8 = codecs.lookup(config.encoding).name == "utf-8"
    offset = held = bad = 0  # bytes that the decoder has got, holds back, and does not know
    try:
        for chunk in itertools.chain(chunks, [b""]):
            if is_utf8 and not held and chunk and chunk.isascii():
                yield chunk
            else:
                _bad.count = 0
                piece = decoder.decode(chunk, final=not chunk)
                bad += _bad.count
                held = len(decoder.getstate()[0])
                if piece:
                    yield piece
            offset += len(chunk)
    except UnicodeError as error:
        problem = str(error)  # such as a missing byte-order mark
        if isinstance(error, UnicodeDecodeError):
            place = offset - held + error.start
            problem = f"byte 0x{error.object[error.start]:02x} at offset {place}"
        raise UnreadableTextError(
            f"{source.name}: not {config.encoding}: {problem}",
            _remedies(source, config.encoding),
        ) from error
    if bad:
        done = "replaced by U+FFFD" if errors == "replace" else "left out"
        changes.add(f"{source.name}: {plural(bad, 'byte')} not in {config.encoding}, {done}")


def _replace(error: UnicodeError) -> tuple[str, int]:
    return "\ufffd", _counted(error)


def _skip(error: UnicodeError) -> tuple[str, int]:
    return "", _counted(error)


def _counted(error: UnicodeError) -> int:
    """Count the bytes that could not be decoded; return where to go on."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    _bad.count += error.end - error.start
    return error.end


codecs.register_error("charnn.replace", _replace)
codecs.register_error("charnn.skip", _skip)


def _remedies(source: Source, tried: str) -> dict[str, str]:
    """Return the settings to try where an encoding has failed: only those that give plain text."""
    known = codecs.lookup(tried).name
    untried = (name for name in _candidates(source) if codecs.lookup(name).name != known)
    readable = next((name for name in untried if _reads(source, name)), "")
    encoding = {"encoding": f'`encoding="{readable}"`'} if readable else {}
    replaced = _reads(source, tried, "replace")
    errors = {"encoding_errors": '`encoding_errors="replace"`'} if replaced else {}
    return encoding | errors | {"tokenizer": '`tokenizer="byte"`'}


def _candidates(source: Source) -> Iterator[str]:
    """Yield the encodings that a text may have: in UTF-16 and UTF-32 it has NUL bytes, mostly in
    the places of the high bytes, and without them nearly any text would pass as Chinese.

    Any text can be read as one byte per character; one that is UTF-8 for the most part is not.
    """
    candidates: Iterable[str] = _CANDIDATES
    with contextlib.suppress(OSError, EOFError, zlib.error, lzma.LZMAError), source.open() as file:
        start = file.read(CHUNK_BYTES)
        if _is_utf8_mostly(start):
            candidates = [name for name in candidates if name not in _SINGLE_BYTE]
        if b"\0" in start:
            ends = ("le", "be") if start[1::2].count(0) > start[::2].count(0) else ("be", "le")
            yield from (f"utf-{bits}-{end}" for bits in (32, 16) for end in ends)
    yield from candidates


def _is_utf8_mostly(start: bytes) -> bool:
    text = start.decode("utf-8", "replace")
    wrong = text.count("\ufffd")
    return sum(character > "\x7f" for character in text) > 2 * wrong


def _reads(source: Source, encoding: str, errors: str = "strict") -> bool:
    """Return whether an encoding gives plain text: no errors, NUL or unassigned characters.

    Chance gives characters of UTF-16 and UTF-32 too, but no text, which has spaces or line ends.
    """
    decoder, seen = codecs.getincrementaldecoder(encoding)(errors), 0
    is_wide = encoding.startswith(("utf-16", "utf-32"))
    try:
        with source.open() as file:
            while chunk := file.read(CHUNK_BYTES):
                text = decoder.decode(chunk)
                if "\0" in text:
                    return False
                if seen == 0 and errors == "strict":
                    if any(unicodedata.category(c) in _NO_TEXT for c in text[:10_000]):
                        return False
                    if is_wide and _SEPARATORS.isdisjoint(text):
                        return False
                seen += len(chunk)
            decoder.decode(b"", final=True)
    except (UnicodeError, OSError, EOFError, zlib.error, lzma.LZMAError):
        return False
    return True


def _unix_newlines(text: Iterable[Piece], changes: set[str]) -> Iterator[Piece]:
    """Drop a leading byte-order mark and convert CRLF and CR to LF, also across pieces."""
    held_cr, start = False, True
    for piece in text:
        if start:
            start, whole = False, len(piece)
            if isinstance(piece, bytes):
                piece = piece.removeprefix(codecs.BOM_UTF8)
            else:
                piece = piece.removeprefix("\ufeff")
            if len(piece) < whole:
                changes.add("removed a byte-order mark")
        if held_cr:
            piece = b"\r" + piece if isinstance(piece, bytes) else "\r" + piece
        held_cr = piece[-1:] in (b"\r", "\r")
        if held_cr:
            piece = piece[:-1]
        if isinstance(piece, bytes) and b"\r" in piece:
            changes.add(_NEWLINES)
            piece = piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        elif isinstance(piece, str) and "\r" in piece:
            changes.add(_NEWLINES)
            piece = piece.replace("\r\n", "\n").replace("\r", "\n")
        if piece:
            yield piece
    if held_cr:
        changes.add(_NEWLINES)
        yield b"\n"


_NEWLINES = "converted CRLF and CR line ends to LF; `keep_newlines=True` keeps them"


def check_encoding(encoding: str) -> None:
    """Raise `TextError` unless Python can decode text from `encoding`."""
    try:
        b"text".decode(encoding, "charnn.replace")
        codecs.getincrementaldecoder(encoding)
    except (LookupError, ValueError) as error:
        raise TextError(
            f"no text encoding is called {encoding!r}; try utf-8, utf-16 or cp1252"
        ) from error
