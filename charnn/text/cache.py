"""Indices of large corpora, memory-mapped from files in the user's cache folder."""

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

MIN_CACHED_SYMBOLS = 1 << 25  # encoding a smaller corpus is faster than checking a cached one
_FORMAT = 1
_LEFTOVER_SECONDS = 3600.0  # a younger temporary file may belong to a running process
_CRC_BYTES = 1 << 24


def memory_or_cache(
    key: list[Any],
    total: int,
    dtype: type[np.unsignedinteger[Any]],
    write: Callable[[BinaryIO], None],
) -> Indices:
    """Return the `total` indices that `write` produces, in memory if few, else memory-mapped.

    `key` is a JSON list of everything the indices depend on. The file's name is a hash of it and
    never of a path, so that a text that changes gets another file.
    """
    if total < MIN_CACHED_SYMBOLS:
        buffer = io.BytesIO()
        write(buffer)
        return np.frombuffer(buffer.getbuffer(), dtype=dtype)
    name = hashlib.sha256(json.dumps([*key, _FORMAT], sort_keys=True).encode()).hexdigest()[:32]
    path = cache_folder() / f"{name}.indices"
    with explained(f"writing {path}", "set CHARNN_CACHE to a folder with free space"):
        if not _is_intact(path, total, dtype):
            remove_leftovers(path.parent, older_than=_LEFTOVER_SECONDS)
            _check_free_space(path.parent, total * np.dtype(dtype).itemsize)
            with replacing(path) as file:
                write(file)
            write_json(path.with_suffix(".json"), {"symbols": total, "crc32": _crc32(path)})
        return np.memmap(path, dtype=dtype, mode="r")


def _check_free_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise TextError(
            f"the indices of this corpus take {needed / 1e9:,.1f} GB, but {folder} has only "
            f"{free / 1e9:,.1f} GB free; set CHARNN_CACHE to a folder with free space"
        )


def _is_intact(path: Path, total: int, dtype: type[np.unsignedinteger[Any]]) -> bool:
    """Return True if the cached file has the right size and checksum."""
    try:
        description = json.loads(path.with_suffix(".json").read_text())
        complete = path.stat().st_size == total * np.dtype(dtype).itemsize
        return complete and description == {"symbols": total, "crc32": _crc32(path)}
    except (OSError, ValueError):
        return False


def _crc32(path: Path) -> int:
    crc = 0
    with path.open("rb") as file:
        while chunk := file.read(_CRC_BYTES):
            crc = zlib.crc32(chunk, crc)
    return crc
