"""Indices of large corpora, memory-mapped from files in the user's cache folder.

An entry is a file of indices, followed by their CRC-32 in four bytes. Its name is a hash of
everything that the indices depend on and never of a path, so that a text that changes gets another
entry. Entries in a folder that other users can write to are never used: they might hold anything.
"""

import hashlib
import json
import logging
import os
import shutil
import stat
import tempfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from charnn.errors import TextError
from charnn.files import cache_folder, explained, remove_leftovers, replacing
from charnn.text.tokenizer import Indices

MIN_CACHED_SYMBOLS = 1 << 25  # encoding a smaller corpus is faster than checking a cached one
_FORMAT = 2
_LEFTOVER_SECONDS = 3600.0  # a younger temporary file may belong to a running process
_READ_BYTES = 1 << 24
_CRC_BYTES = 4

log = logging.getLogger(__name__)


def memory_or_cache(
    key: list[Any], total: int, vocabulary_size: int, encode: Callable[[], Iterator[Indices]]
) -> Indices:
    """Return the `total` indices that `encode` yields, in memory if few, else memory-mapped.

    `key` is a JSON list of everything that the indices depend on; all are below `vocabulary_size`
    and of its `index_type`.
    """
    dtype = np.dtype(index_type(vocabulary_size))
    if total < MIN_CACHED_SYMBOLS:
        return np.concatenate([np.empty(0, dtype), *encode()])
    name = hashlib.sha256(json.dumps([*key, _FORMAT], sort_keys=True).encode()).hexdigest()[:32]
    path = cache_folder() / f"{name}.indices"
    with explained(f"writing {path}", "set CHARNN_CACHE to a folder with free space"):
        if not _is_private(path.parent.stat()):
            return _unnamed(path.parent, total, dtype, encode())
        indices = _read(path, total, dtype, vocabulary_size)
        if indices is None:
            remove_leftovers(path.parent, older_than=_LEFTOVER_SECONDS)
            _check_free_space(path.parent, total * dtype.itemsize)
            with replacing(path) as file:
                _write(file, encode())
            indices = _read(path, total, dtype, vocabulary_size)
        if indices is None:
            raise TextError(
                f"{path}: reading it back gave other bytes than were written; set CHARNN_CACHE to "
                "a folder on another disk"
            )
        return indices


def index_type(vocabulary_size: int) -> type[np.unsignedinteger[Any]]:
    """Return the narrowest integer type that holds every index."""
    if vocabulary_size <= 1 << 8:
        return np.uint8
    return np.uint16 if vocabulary_size <= 1 << 16 else np.uint32


def _is_private(status: os.stat_result) -> bool:
    """Return True if only this user can write to the file or folder."""
    if os.name == "nt":  # has other permissions, and a cache in the user's own folder
        return True
    return status.st_uid == os.geteuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _unnamed(folder: Path, total: int, dtype: np.dtype[Any], parts: Iterator[Indices]) -> Indices:
    """Return indices that are mapped from a file without a name, which ends with the process."""
    log.warning(
        f"{folder}: other users can write to this cache folder, so that the text is encoded anew "
        f"each time; `chmod 700 {folder}`, or set CHARNN_CACHE to another folder"
    )
    _check_free_space(folder, total * dtype.itemsize)
    with tempfile.TemporaryFile(dir=folder) as file:
        _write(file, parts)
        file.flush()
        return np.memmap(file, dtype, "r", shape=total)


def _check_free_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise TextError(
            f"the indices of this corpus take {needed / 1e9:,.1f} GB, but {folder} has only "
            f"{free / 1e9:,.1f} GB free; set CHARNN_CACHE to a folder with free space"
        )


def _write(file: Any, parts: Iterator[Indices]) -> None:
    """Write an entry."""
    if hasattr(os, "fchmod"):  # truncating the file of a running run would kill it
        os.fchmod(file.fileno(), stat.S_IRUSR)
    crc = 0
    for part in parts:
        crc = zlib.crc32(part.data, crc)
        file.write(part.data)
    file.write(crc.to_bytes(_CRC_BYTES, "little"))


def _read(path: Path, total: int, dtype: np.dtype[Any], vocabulary_size: int) -> Indices | None:
    """Return the indices of an entry, mapped; None if it is missing, damaged or not ours."""
    # Neither a link nor a pipe is followed or waited for.
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        handle = os.open(path, flags | getattr(os, "O_BINARY", 0))
        with open(handle, "rb", buffering=0) as file:  # noqa: PTH123 - a descriptor, not a path
            status = os.fstat(handle)
            size = total * dtype.itemsize
            ours = stat.S_ISREG(status.st_mode) and _is_private(status)
            complete = ours and status.st_size == size + _CRC_BYTES
            if not complete or not _is_intact(file, size, dtype, vocabulary_size):
                return None
            return np.memmap(file, dtype, "r", shape=total)  # stays when the path is replaced
    except (OSError, ValueError):  # the latter if it is truncated meanwhile
        return None


def _is_intact(file: Any, size: int, dtype: np.dtype[Any], vocabulary_size: int) -> bool:
    """Return True if an entry's checksum is right and no index is beyond the vocabulary."""
    crc = 0
    while size > 0:
        data = file.read(min(size, _READ_BYTES))
        if not data or np.frombuffer(data, dtype).max() >= vocabulary_size:
            return False
        crc = zlib.crc32(data, crc)
        size -= len(data)
    return bool(file.read(_CRC_BYTES) == crc.to_bytes(_CRC_BYTES, "little"))
