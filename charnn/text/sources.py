"""Files, folders, globs, standard input and compressed files, read as pieces of clean text.

A piece is `bytes` where it is plain ASCII (or raw bytes were asked for) and `str` elsewhere: ASCII
needs no decoding, which is what makes reading it faster.
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
from charnn.errors import TextError
from charnn.files import cache_folder, explained

Piece = bytes | str

CHUNK_BYTES = 2 << 20  # a chunk's copies (decoded, code points, indices) stay far below 100 MB
DEMO_NAME = "the built-in demo text"
STDIN_NAME = "standard input"
_OPENERS: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}


@dataclass(frozen=True)
class Source:
    """Something that can be read from its beginning as often as needed."""

    name: str
    open: Callable[[], BinaryIO]
    path: Path | None = None  # None for what is no file that could be found again

    def stamp(self) -> tuple[int, int] | None:
        """What changes when the file does."""
        if self.path is None:
            return None
        status = self.path.stat()
        return status.st_size, status.st_mtime_ns


def built_in_text() -> str:
    """Python's language reference as `help("for")` shows it, about 470,000 characters."""
    topics: dict[str, str] = importlib.import_module("pydoc_data.topics").topics
    return "\n".join(topics[name] for name in sorted(topics))


def find_sources(arguments: Sequence[str]) -> list[Source]:
    """The sources that the arguments name, in order; the demo text when there are none."""
    if not arguments:
        return [Source(DEMO_NAME, lambda: io.BytesIO(built_in_text().encode()))]
    return [source for argument in arguments for source in _find(argument)]


def _find(argument: str) -> list[Source]:
    if argument == "-":
        return [_standard_input()]
    with explained(f"looking for {argument}", "name a file or folder that you may read"):
        return [Source(str(file), _opener(file), file) for file in _files(argument)]


def _files(argument: str) -> list[Path]:
    path = Path(argument)
    if path.is_dir():
        if files := list(_walk(path)):
            return files
        raise TextError(f"{path}: no file in this folder; name a text file")
    if path.is_file():
        return [path]
    if path.exists():
        raise TextError(f"{path}: neither a file nor a folder; to read a pipe, use `-`")
    found = (_walk(match) if match.is_dir() else [match] for match in _matches(path))
    files = [file for some in found for file in some if file.is_file()]
    if not files:
        raise TextError(f"{path}: no such file or folder; `ls {path.parent}` shows what is there")
    return list(dict.fromkeys(files))  # `**` matches a folder and then what is in it


def _matches(pattern: Path) -> list[Path]:
    """What a glob matches, sorted; hidden names only where it names them.

    Not by the glob module, whose `**` follows links, round and round where one leads back.
    """
    parts = pattern.relative_to(pattern.anchor).parts
    literal = list(itertools.takewhile(lambda part: not set(part) & set("*?["), parts))
    if len(literal) == len(parts):
        return []
    hidden = any(part.startswith(".") for part in parts[len(literal) :])
    root = Path(pattern.anchor, *literal)
    try:
        matches = sorted(root.glob(str(Path(*parts[len(literal) :]))))
    except ValueError:  # "**" beside other letters
        return []
    return [
        match
        for match in matches
        if hidden or not any(part.startswith(".") for part in match.relative_to(root).parts)
    ]


def _walk(folder: Path) -> Iterator[Path]:
    """The files below `folder`, sorted; hidden ones and links to folders are left out."""
    for parent, folders, names in os.walk(folder, onerror=_unreadable):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(parent, name)
            if not name.startswith(".") and path.is_file():
                yield path


def _unreadable(error: OSError) -> None:
    """`os.walk` would leave the folder out, and the text would silently be another."""
    raise error


def _opener(path: Path) -> Callable[[], BinaryIO]:
    return lambda: cast(BinaryIO, _OPENERS.get(path.suffix.lower(), open)(path, "rb"))


def _standard_input() -> Source:
    """Standard input, kept in a nameless temporary file because a corpus is read twice."""
    if sys.stdin is None or sys.stdin.isatty():
        raise TextError(
            "standard input is the keyboard; pipe a text into it: `cat TEXT | charnn …`"
        )
    with explained("keeping standard input", "set CHARNN_CACHE to a folder with room"):
        spool = tempfile.TemporaryFile(dir=cache_folder())  # noqa: SIM115 - lives as long as the source
        shutil.copyfileobj(sys.stdin.buffer, spool, CHUNK_BYTES)

    def reopen() -> BinaryIO:
        spool.seek(0)  # of the duplicate too
        return open(os.dup(spool.fileno()), "rb")  # noqa: PTH123 - a descriptor is no path

    weakref.finalize(reopen, spool.close)
    return Source(STDIN_NAME, reopen)


def pieces(sources: Iterable[Source], config: TextConfig, mended: set[str]) -> Iterator[Piece]:
    """The text of all sources, joined with one newline; `mended` collects what was changed."""
    begun = False  # an empty file adds no newline
    for source in sources:
        for number, piece in enumerate(_clean(source, config, mended)):
            if number == 0 and begun:
                yield b"\n"
            begun = True
            yield piece


def read_text(name: str, config: TextConfig) -> str:
    """All of a small text (a prime), cleaned as a corpus is; bytes that are no UTF-8 survive."""
    parts = pieces(find_sources([name]), config, set())
    return "".join(
        p.decode("utf-8", "surrogateescape") if isinstance(p, bytes) else p for p in parts
    )


def _clean(source: Source, config: TextConfig, mended: set[str]) -> Iterator[Piece]:
    chunks = _chunks(source)
    if config.tokenizer == "byte":
        yield from chunks
        return
    text = _decoded(chunks, config.encoding, source.name)
    if not config.keep_newlines:
        text = _unix_newlines(text, mended)
    for piece in text:
        nul = b"\0" in piece if isinstance(piece, bytes) else "\0" in piece
        if nul:
            raise TextError(
                f"{source.name}: holds NUL characters, so it is no plain text; "
                "try --tokenizer byte, or --encoding utf-16 if it is text in that encoding"
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
        else:  # gzip and bz2 use an OSError without a number for bytes that they cannot unpack
            problem = f"the compressed file is truncated or damaged ({error}); fetch it again"
        raise TextError(f"{source.name}: {problem}") from error


def _decoded(chunks: Iterable[bytes], encoding: str, name: str) -> Iterator[Piece]:
    decoder = codecs.getincrementaldecoder(encoding)()
    ascii_is_itself = codecs.lookup(encoding).name == "utf-8"
    offset = held = 0  # bytes given to the decoder so far; those of them it still holds back
    try:
        for chunk in chunks:
            if ascii_is_itself and not held and chunk.isascii():
                yield chunk
            else:
                piece = decoder.decode(chunk)
                held = len(decoder.getstate()[0])
                if piece:
                    yield piece
            offset += len(chunk)
        decoder.decode(b"", final=True)
    except UnicodeError as error:
        what = str(error)  # such as a missing byte-order mark
        if isinstance(error, UnicodeDecodeError):
            at = offset - held + error.start
            what = f"byte 0x{error.object[error.start]:02x} at offset {at}"
        raise TextError(
            f"{name}: not {encoding}: {what}; try --encoding NAME (utf-16, cp1252, …) "
            "or --tokenizer byte"
        ) from error


def _unix_newlines(text: Iterable[Piece], mended: set[str]) -> Iterator[Piece]:
    """Drop a leading byte-order mark; CRLF and CR become LF, also across pieces."""
    held_cr, start = False, True
    for piece in text:
        if start and isinstance(piece, str) and piece.startswith("\ufeff"):
            piece = piece[1:]
            mended.add("a leading byte-order mark was dropped")
        start = False
        if held_cr:
            piece = b"\r" + piece if isinstance(piece, bytes) else "\r" + piece
        held_cr = piece[-1:] in (b"\r", "\r")
        if held_cr:
            piece = piece[:-1]
        if isinstance(piece, bytes) and b"\r" in piece:
            mended.add(_NEWLINES)
            piece = piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        elif isinstance(piece, str) and "\r" in piece:
            mended.add(_NEWLINES)
            piece = piece.replace("\r\n", "\n").replace("\r", "\n")
        if piece:
            yield piece
    if held_cr:
        mended.add(_NEWLINES)
        yield b"\n"


_NEWLINES = "CRLF and CR line ends became LF (--keep-newlines keeps them)"


def check_encoding(encoding: str) -> None:
    """Raise `TextError` unless Python can decode text from `encoding`."""
    try:
        b"text".decode(encoding, "ignore")
        codecs.getincrementaldecoder(encoding)
    except (LookupError, ValueError) as error:
        raise TextError(
            f"no text encoding called {encoding!r}; try utf-8, utf-16, cp1252"
        ) from error
