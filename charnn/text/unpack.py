"""Compressed files that are read to their true end."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

_READ_BYTES = 1 << 18


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


class Unpacker(io.RawIOBase):
    """A file of one or several compressed streams.

    Python's own `bz2.open` and `lzma.open` take a damaged second stream, or anything else that
    follows the first one, for the end of the file. Here it is the error that the decompressor
    raises: an `OSError` without errno, or an `lzma.LZMAError`.
    """

    def __init__(self, path: Path, new: Callable[[], _Decompressor], padding: bytes = b"") -> None:
        """Unpack the file at `path`; `padding` may stand after a stream."""
        self._file, self._new, self._padding = path.open("rb"), new, padding
        self._stream: _Decompressor | None = None

    def readable(self) -> bool:
        """Return True."""
        return True

    def read(self, size: int = -1) -> bytes:
        """Return up to `size` bytes, all of them if it is -1, and none at the end of the file."""
        if size < 0:
            return b"".join(iter(lambda: self.read(_READ_BYTES), b""))
        while True:
            stream = self._stream
            if stream is None or stream.eof:
                data = self._next_stream(stream.unused_data if stream else b"")
                if not data:
                    return b""
                stream = self._stream = self._new()
            elif stream.needs_input:
                data = self._file.read(_READ_BYTES)
                if not data:
                    raise EOFError("it ends within a stream")
            else:
                data = b""
            if unpacked := stream.decompress(data, size):
                return unpacked

    def _next_stream(self, data: bytes) -> bytes:
        """Return the first bytes of the next stream, none at the end of the file."""
        while True:
            data = data.lstrip(self._padding) if self._padding and self._stream else data
            if data:
                return data
            data = self._file.read(_READ_BYTES)
            if not data:
                return b""

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()
