"""Files that are either whole or not there: written beside, synced, renamed; and a lock."""

import contextlib
import errno
import json
import os
import re
import secrets
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, BinaryIO

from charnn.errors import CharnnError

_LEFTOVER = re.compile(r"\..+\.[0-9a-f]{8}\.tmp")


@contextlib.contextmanager
def replacing(path: Path, previous: Path | None = None) -> Iterator[BinaryIO]:
    """Yield a binary file that takes `path`'s place once the block ends without an exception.

    The file is written in the same folder (a rename across file systems is not atomic), synced,
    renamed over `path`, and the folder is synced, so that after a power cut `path` is either the
    old file or the new one. On an exception the temporary file is removed and `path` is untouched.
    With `previous` the old file is kept under that name too, unless one is there already.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if previous:
            _keep(path, previous)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    _sync_folder(path.parent)


def _keep(path: Path, previous: Path) -> None:
    """Give a file a second name. One that bears it already stays: it is there because nobody has
    shown yet that the newer one can be read."""
    if previous.exists() or not path.exists():
        return
    try:
        os.link(path, previous)
    except OSError:  # not every file system has links; then there is an instant without `path`
        os.replace(path, previous)


def replace_proven(path: Path, data: bytes, previous: Path) -> None:
    """Make `data` the content of `path`, and keep the old file as `previous` until the new one has
    been read back from the disk; a new one that reads otherwise is dropped for the old again."""
    with replacing(path, previous) as file:
        file.write(data)
    try:
        proven, problem = _holds(path, data), "other bytes than were written"
    except OSError as error:
        proven, problem = False, error.strerror or "an error"
    if not proven:
        if previous.exists():
            os.replace(previous, path)
        else:
            path.unlink()
        raise OSError(errno.EIO, f"reading it back gave {problem}", str(path))
    previous.unlink(missing_ok=True)


def _holds(path: Path, data: bytes) -> bool:
    """Whether the disk gives these bytes back."""
    size = 1 << 22
    with path.open("rb") as file:
        if hasattr(os, "posix_fadvise"):  # ask the disk, not the memory that was just written
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        same = all(file.read(size) == data[at : at + size] for at in range(0, len(data), size))
        return same and not file.read(1)


def is_leftover(path: Path) -> bool:
    """Whether a process that was killed while in `replacing` left this file."""
    return bool(_LEFTOVER.fullmatch(path.name))


def remove_leftovers(folder: Path, older_than: float = 0.0) -> None:
    """Remove such files in `folder`, unless somebody has written to them in so many seconds."""
    for path in filter(is_leftover, folder.iterdir()):
        with contextlib.suppress(OSError):
            if path.stat().st_mtime <= time.time() - older_than:
                path.unlink()


@contextlib.contextmanager
def locked(path: Path, what: str, then: str) -> Iterator[None]:
    """Hold the lock that `path` stands for; the system takes it back when the process ends.

    `CharnnError` when another process holds it: `what` it is, who has it, what to do `then`. The
    file stays: removing a lock file lets two processes lock two files of one name.
    """
    with explained(f"locking {path}", then):
        file = path.open("a+", encoding="utf-8")
    with file:
        # The inode: one that was removed in this instant is no longer the lock of this name.
        if not _lock(file) or not os.path.samestat(os.fstat(file.fileno()), path.stat()):
            file.seek(0)
            raise CharnnError(f"{what}: in use by {file.read(200).strip() or 'a process'}; {then}")
        with contextlib.suppress(OSError):  # a full disk does not matter here
            file.truncate(0)
            os.write(file.fileno(), f"process {os.getpid()} on {socket.gethostname()}\n".encode())
        yield


def _lock(file: IO[str]) -> bool:
    """Whether the file could be locked; true where the file system knows no locks."""
    try:
        if sys.platform == "win32":
            import msvcrt

            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in (errno.EAGAIN, errno.EACCES, errno.EDEADLK)
    return True


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON with sorted keys, atomically."""
    try:
        data = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False).encode()
    except UnicodeEncodeError:  # a file's name may hold bytes that are no text
        data = json.dumps(value, indent=2, sort_keys=True).encode()
    with replacing(path) as file:
        file.write(data + b"\n")


@contextlib.contextmanager
def explained(doing: str, then: str) -> Iterator[None]:
    """Turn an `OSError` of the block into one line: what was being done, what failed, what next."""
    try:
        yield
    except OSError as error:
        raise CharnnError(f"{doing}: {error.strerror or error}; {then}") from error


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
