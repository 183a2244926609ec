"""Files that are either whole or not there: written beside, synced, renamed."""

import contextlib
import errno
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from charnn.errors import CharnnError


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Yield a binary file that takes `path`'s place once the block ends without an exception.

    The file is written in the same folder (a rename across file systems is not atomic), synced,
    renamed over `path`, and the folder is synced, so that after a power cut `path` is either the
    old file or the new one. On an exception the temporary file is removed and `path` is untouched.
    """
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())  # mkstemp makes files that only their owner reads
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    _sync_folder(path.parent)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON with sorted keys, atomically."""
    with replacing(path) as file:
        file.write(json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False).encode() + b"\n")


@contextlib.contextmanager
def explained(doing: str, then: str) -> Iterator[None]:
    """Turn an `OSError` of the block into one line: what was being done, what failed, what next."""
    try:
        yield
    except OSError as error:
        what = errno.errorcode.get(error.errno or 0, "") and os.strerror(error.errno or 0)
        raise CharnnError(f"{doing}: {what or error}; {then}") from error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":  # Windows cannot open a folder
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def cache_folder() -> Path:
    """The folder for what can be made again, made if needed: CHARNN_CACHE, or the user's own."""
    folder = Path(os.environ.get("CHARNN_CACHE") or _user_cache() / "charnn")
    with explained(f"making the cache folder {folder}", "set CHARNN_CACHE to another"):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def _user_cache() -> Path:
    try:
        home = Path.home()
    except RuntimeError as error:  # a container's user may have none
        raise CharnnError("no home folder to keep a cache in; set CHARNN_CACHE") from error
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or home / "AppData/Local")
    if sys.platform == "darwin":
        return home / "Library/Caches"
    return Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache")
