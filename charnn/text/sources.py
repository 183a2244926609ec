"""Files, folders, globs, standard input and compressed files, read as pieces of clean text.

A piece is `bytes` where it is plain ASCII (or raw bytes were asked for) and `str` elsewhere: ASCII
needs no decoding, which is what makes reading it ten times faster.
"""

import bz2
import codecs
import glob
import gzip
import io
import lzma
import os
import shutil
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from charnn.config import TextConfig
from charnn.errors import TextError
from charnn.files import cache_folder, explained
from charnn.text.demo import demo_text

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


def find_sources(arguments: Sequence[str]) -> list[Source]:
    """The sources that the arguments name, in order; the demo text when there are none."""
    if not arguments:
        return [Source(DEMO_NAME, lambda: io.BytesIO(demo_text().encode()))]
    if list(arguments).count("-") > 1:
        raise TextError("standard input (-) can be read only once; name it once")
    return [source for argument in arguments for source in _find(argument)]


def _find(argument: str) -> Iterator[Source]:
    if argument == "-":
        yield _standard_input()
        return
    path = Path(argument)
    if path.is_dir():
        files = list(_walk(path))
        if not files:
            raise TextError(f"{path}: no file in this folder; name a text file")
    elif path.exists():
        if not path.is_file():
            raise TextError(f"{path}: neither a file nor a folder; to read a pipe, use `-`")
        files = [path]
    else:
        files = [Path(name) for name in sorted(glob.glob(argument, recursive=True))]  # noqa: PTH207
        files = [file for file in files if file.is_file()]
        if not files:
            raise TextError(
                f"{path}: no such file or folder; `ls {path.parent}` shows what is there"
            )
    for file in files:
        yield Source(str(file), _opener(file), file)


def _walk(folder: Path) -> Iterator[Path]:
    """The files below `folder`, sorted; hidden ones and links to folders are left out."""
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(parent, name)
            if not name.startswith(".") and path.is_file():
                yield path


def _opener(path: Path) -> Callable[[], BinaryIO]:
    return lambda: cast(BinaryIO, _OPENERS.get(path.suffix, open)(path, "rb"))


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
        spool.seek(0)
        return io.BufferedReader(_Unclosed(spool))

    return Source(STDIN_NAME, reopen)


class _Unclosed(io.RawIOBase):
    """Reads another file without closing it, so that it can be read again."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        return self._file.readinto(buffer)  # type: ignore[attr-defined]


def pieces(sources: Iterable[Source], config: TextConfig, mended: set[str]) -> Iterator[Piece]:
    """The text of all sources, joined with one newline; `mended` collects what was changed."""
    begun = False  # an empty file adds no newline
    for source in sources:
        for number, piece in enumerate(_clean(source, config, mended)):
            if number == 0 and begun:
                yield b"\n"
            begun = True
            yield piece


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
    except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as error:
        raise TextError(
            f"{source.name}: the compressed file is truncated or damaged ({error}); fetch it again"
        ) from error
    except OSError as error:
        raise TextError(
            f"{source.name}: cannot be read ({error.strerror or error}); check the file"
        ) from error


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
    except UnicodeDecodeError as error:
        raise TextError(
            f"{name}: not {encoding}: byte 0x{error.object[error.start]:02x} at offset "
            f"{offset - held + error.start}; try --encoding NAME (utf-16, cp1252, …) "
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
    except LookupError as error:
        raise TextError(
            f"no text encoding called {encoding!r}; try utf-8, utf-16, cp1252"
        ) from error
