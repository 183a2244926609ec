"""Safetensors files, read without trusting them: the header first, then one tensor at a time.

The safetensors library maps the whole file into memory, whatever its header says, needs a path in
UTF-8, and ends the process if the file is cut off meanwhile. This reader takes an open file, whose
kind was checked, and allocates nothing before the header fits the file's size.
"""

import json
import math
import os
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from charnn.errors import DamagedError

MAX_HEADER = 1 << 24  # bytes; a vocabulary of all of Unicode just fits
# All that a checkpoint contains.
DTYPES: dict[str, np.dtype[Any]] = {"F32": np.dtype("<f4"), "U8": np.dtype("u1")}


@dataclass(frozen=True)
class Entry:
    """The type and shape of a tensor, and its place in bytes after the header."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int

    @classmethod
    def from_json(cls, value: Any) -> "Entry":
        """Check the types of an entry of the header; raise `TypeError`, `KeyError` or
        `ValueError`."""
        start, end = value["data_offsets"]
        shape = value["shape"]
        if not isinstance(value["dtype"], str) or not isinstance(shape, list):
            raise TypeError
        if any(type(number) is not int or number < 0 for number in (start, end, *shape)):
            raise ValueError
        return cls(value["dtype"], tuple(shape), start, end)

    @property
    def fits(self) -> bool:
        """True if the shape fills the place, as far as the type is known."""
        known = self.dtype in DTYPES
        return not known or math.prod(self.shape) * DTYPES[self.dtype].itemsize == self.size

    @property
    def size(self) -> int:
        """The size in bytes."""
        return self.end - self.start


class TensorFile:
    """The header of an open safetensors file, and its tensors on demand.

    Raises:
        DamagedError: the file is not a safetensors file, or not complete.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        first = file.read(8)
        header_size = int.from_bytes(first, "little")
        if header_size > MAX_HEADER:
            raise _damaged(f"a header of {header_size:,} bytes")
        data = file.read(header_size)
        self._begin = 8 + header_size
        try:
            if len(first) + len(data) < self._begin or data[:1] != b"{":
                raise ValueError
            header = json.loads(data.decode())
            metadata = header.pop("__metadata__", None) or {}
            self.metadata = {name: text for name, text in metadata.items() if type(text) is str}
            self.entries = {name: Entry.from_json(entry) for name, entry in header.items()}
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise _damaged("the header is damaged") from error
        self._check_places()

    def _check_places(self) -> None:
        """Check that the tensors fill the file exactly, without gaps and overlaps."""
        at = 0
        for entry in sorted(self.entries.values(), key=lambda entry: (entry.start, entry.end)):
            if entry.start != at or entry.end < at or not entry.fits:
                raise _damaged("the header is damaged")
            at = entry.end
        size = os.fstat(self._file.fileno()).st_size
        if size != self._begin + at:
            raise _damaged(f"{size:,} bytes, but its header describes {self._begin + at:,}")

    def read(self, name: str) -> NDArray[Any]:
        """Read a tensor of one of the known types."""
        entry = self.entries[name]
        array = np.empty(entry.shape, DTYPES[entry.dtype])
        if entry.size:
            self._file.seek(self._begin + entry.start)
            rest = array.reshape(-1).view(np.uint8).data
            while rest:
                if not (count := self._file.readinto(rest)):  # type: ignore[attr-defined]
                    raise _damaged("the file ends too early")
                rest = rest[count:]
        return array.astype(array.dtype.newbyteorder("="), copy=False)


def _damaged(problem: str) -> DamagedError:
    return DamagedError(f"not a checkpoint ({problem}); name a run folder")
