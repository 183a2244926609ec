"""Files, folders, globs, standard input and compressed files, read as pieces of text.

A piece is `bytes` if it is plain ASCII or if the tokenizer reads bytes, and `str` otherwise. ASCII
needs no decoding, which makes reading it faster.
"""

import bz2
import codecs
import gzip
import importlib
import io
import itertools
import lzma
import os
import shutil
import sys
import tempfile
import weakref
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from charnn.config import TextConfig
from charnn.errors import MissingTextError, TextError
from charnn.files import cache_folder, explained, named_path

Piece = bytes | str

CHUNK_BYTES = 2 << 20  # so that all copies of a chunk take well below 100 MB
DEMO_NAME = "the built-in demo text"
STDIN_NAME = "standard input"
_OPENERS: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}


@dataclass(frozen=True)
class Source:
    """A text that can be opened, and read from its beginning, any number of times."""

    name: str
    open: Callable[[], BinaryIO]
    path: Path | None = None  # None if it is not a file that can be found again


def built_in_text() -> str:
    """Return Python's language reference as `help("for")` shows it, about 470,000 characters."""
    topics: dict[str, str] = importlib.import_module("pydoc_data.topics").topics
    return "\n".join(topics[name] for name in sorted(topics))


def find_sources(arguments: Sequence[str]) -> list[Source]:
    """Return the sources that the arguments name, in order, or the demo text without arguments."""
    if not arguments:
        return [Source(DEMO_NAME, lambda: io.BytesIO(built_in_text().encode()))]
    return [source for argument in arguments for source in _find(argument)]


def _find(argument: str) -> list[Source]:
    if argument == "-":
        return [_standard_input()]
    named_path(argument)
    with explained(f"looking for {argument}", "name a readable file or folder"):
        return [Source(str(file), _opener(file), file) for file in _files(argument)]


def _files(argument: str) -> list[Path]:
    path = Path(argument)
    if path.is_dir():
        if files := list(_walk(path)):
            return files
        raise TextError(f"{path}: the folder contains no files; name a text file")
    if path.is_file():
        return [path]
    if path.exists():
        raise TextError(
            f"{path}: neither a file nor a folder; use - to read a pipe from standard input"
        )
    matches = (_walk(match) if match.is_dir() else [match] for match in _matches(path))
    files = [file for found in matches for file in found if file.is_file()]
    if not files:
        raise MissingTextError(f"{path}: no such file or folder; check the name")
    return list(dict.fromkeys(files))  # `**` matches both a folder and the files in it


def _matches(pattern: Path) -> list[Path]:
    """Return the paths that a glob matches, sorted, hidden ones only if the glob names them.

    The glob module is not used because its `**` follows links, without end if they form a circle.
    """
    parts = pattern.relative_to(pattern.anchor).parts
    literal = list(itertools.takewhile(lambda part: not set(part) & set("*?["), parts))
    if len(literal) == len(parts):
        return []
    hidden = any(part.startswith(".") for part in parts[len(literal) :])
    root = Path(pattern.anchor, *literal)
    try:
        matches = sorted(root.glob(str(Path(*parts[len(literal) :]))))
    except ValueError:  # "**" next to other characters
        return []
    return [
        match
        for match in matches
        if hidden or not any(part.startswith(".") for part in match.relative_to(root).parts)
    ]


def _walk(folder: Path) -> Iterator[Path]:
    """Yield the files below `folder`, sorted, without hidden files and links to folders."""
    for parent, folders, names in os.walk(folder, onerror=_reraise):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(parent, name)
            if not name.startswith(".") and path.is_file():
                yield path


def _reraise(error: OSError) -> None:
    """Raise an error that `os.walk` would ignore, silently leaving out a folder."""
    raise error


def _opener(path: Path) -> Callable[[], BinaryIO]:
    return lambda: cast(BinaryIO, _OPENERS.get(path.suffix.lower(), open)(path, "rb"))


def _standard_input() -> Source:
    """Copy standard input to an unnamed temporary file, because a corpus is read twice."""
    if sys.stdin is None or sys.stdin.isatty():
        raise TextError("standard input is a terminal; pipe a text into it or name a file")
    with explained("copying standard input", "set CHARNN_CACHE to a folder with free space"):
        spool = tempfile.TemporaryFile(dir=cache_folder())  # noqa: SIM115 - lives as long as the source
        shutil.copyfileobj(sys.stdin.buffer, spool, CHUNK_BYTES)

    def reopen() -> BinaryIO:
        spool.seek(0)  # the duplicate shares this position
        return open(os.dup(spool.fileno()), "rb")  # noqa: PTH123 - a descriptor is not a path

    weakref.finalize(reopen, spool.close)
    return Source(STDIN_NAME, reopen)


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


def read_text(name: str, config: TextConfig) -> str:
    """Return all of a small text, such as a prime, read in the same way as a corpus.

    Bytes that are not UTF-8 become surrogates, which `ByteTokenizer.encode` turns back into bytes.
    """
    parts = pieces(find_sources([name]), config, set())
    return "".join(
        p.decode("utf-8", "surrogateescape") if isinstance(p, bytes) else p for p in parts
    )


def _clean(source: Source, config: TextConfig, changes: set[str]) -> Iterator[Piece]:
    chunks = _chunks(source)
    if config.tokenizer == "byte":
        as_is = config.keep_newlines or not config.lines  # a list has line ends, a file need not
        yield from chunks if as_is else _unix_newlines(chunks, changes)
        return
    text = _decoded(chunks, config.encoding, source.name)
    if not config.keep_newlines:
        text = _unix_newlines(text, changes)
    for piece in text:
        has_nul = b"\0" in piece if isinstance(piece, bytes) else "\0" in piece
        if has_nul:
            raise TextError(
                f"{source.name}: contains NUL characters, so it is not plain text; "
                'try `tokenizer="byte"`, or `encoding="utf-16"` if it is UTF-16'
            )
        yield piece


def _chunks(source: Source) -> Iterator[bytes]:
    try:
        with source.open() as file:
            while chunk := file.read(CHUNK_BYTES):
                yield chunk
    except (EOFError, zlib.error, lzma.LZMAError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            problem = f"cannot be read ({error.strerror}); check the file"
        else:  # gzip and bz2 raise an OSError without errno for data that they cannot unpack
            problem = f"the compressed file is truncated or damaged ({error}); download it again"
        raise TextError(f"{source.name}: {problem}") from error


def _decoded(chunks: Iterable[bytes], encoding: str, name: str) -> Iterator[Piece]:
    decoder = codecs.getincrementaldecoder(encoding)()
    is_utf8 = codecs.lookup(encoding).name == "utf-8"
    offset = held = 0  # bytes that the decoder has got; how many of them it holds back
    try:
        for chunk in chunks:
            if is_utf8 and not held and chunk.isascii():
                yield chunk
            else:
                piece = decoder.decode(chunk)
                held = len(decoder.getstate()[0])
                if piece:
                    yield piece
            offset += len(chunk)
        decoder.decode(b"", final=True)
    except UnicodeError as error:
        problem = str(error)  # such as a missing byte-order mark
        if isinstance(error, UnicodeDecodeError):
            place = offset - held + error.start
            problem = f"byte 0x{error.object[error.start]:02x} at offset {place}"
        raise TextError(
            f"{name}: not {encoding}: {problem}; try another `encoding` (utf-16, cp1252, …) "
            'or `tokenizer="byte"`'
        ) from error


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
        b"text".decode(encoding, "ignore")
        codecs.getincrementaldecoder(encoding)
    except (LookupError, ValueError) as error:
        raise TextError(
            f"no text encoding is called {encoding!r}; try utf-8, utf-16 or cp1252"
        ) from error
