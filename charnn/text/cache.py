"""The indices of large corpora, memory-mapped from files in the user's cache folder."""

import hashlib
import io
import json
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from charnn.errors import TextError
from charnn.files import cache_folder, explained, remove_leftovers, replacing, write_json
from charnn.text.tokenizer import Indices

CACHE_FROM = 1 << 25  # symbols; a smaller corpus is encoded faster than a cache is checked
_FORMAT = 1
_UNUSED_SECONDS = 3600.0  # a younger temporary file may be another process's
_CRC_BYTES = 1 << 24


def memory_or_cache(
    made_of: list[Any],
    total: int,
    dtype: type[np.unsignedinteger[Any]],
    write: Callable[[BinaryIO], None],
) -> Indices:
    """Return the `total` indices that `write` produces: in memory if few, else memory-mapped.

    The file's name is a hash of `made_of`, what the indices are made of, and never of a path, so
    that a text that changes gets another file.
    """
    if total < CACHE_FROM:
        buffer = io.BytesIO()
        write(buffer)
        return np.frombuffer(buffer.getbuffer(), dtype=dtype)
    key = hashlib.sha256(json.dumps([*made_of, _FORMAT], sort_keys=True).encode()).hexdigest()[:32]
    path = cache_folder() / f"{key}.indices"
    with explained(f"writing {path}", "set CHARNN_CACHE to a folder with room"):
        if not _is_whole(path, total, dtype):
            remove_leftovers(path.parent, older_than=_UNUSED_SECONDS)
            _refuse_full_disk(path.parent, total * np.dtype(dtype).itemsize)
            with replacing(path) as file:
                write(file)
            write_json(path.with_suffix(".json"), {"symbols": total, "crc32": _crc32(path)})
        return np.memmap(path, dtype=dtype, mode="r")


def _refuse_full_disk(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise TextError(
            f"the indices of this corpus take {needed / 1e9:,.1f} GB, and {folder} has "
            f"{free / 1e9:,.1f} GB free; set CHARNN_CACHE to a folder with room"
        )


def _is_whole(path: Path, total: int, dtype: type[np.unsignedinteger[Any]]) -> bool:
    """Whether the cached indices are all there and unharmed."""
    try:
        about = json.loads(path.with_suffix(".json").read_text())
        whole = path.stat().st_size == total * np.dtype(dtype).itemsize
        return whole and about == {"symbols": total, "crc32": _crc32(path)}
    except (OSError, ValueError):
        return False


def _crc32(path: Path) -> int:
    crc = 0
    with path.open("rb") as file:
        while chunk := file.read(_CRC_BYTES):
            crc = zlib.crc32(chunk, crc)
    return crc
