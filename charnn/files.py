"""Atomic file writes (write beside, fsync, rename), careful reading, and the user's folders."""

import contextlib
import errno
import json
import os
import re
import secrets
import stat
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from charnn.errors import CharnnError, SettingError
from charnn.words import shown

MAX_PATH = 4096  # bytes, the limit of Linux, which no other system exceeds in practice
AnyPath = str | os.PathLike[str]
SHOWN_PATH = 60  # characters of a longer one in a message
MAX_SMALL = 1 << 24  # bytes of a side file such as run.json, which may name many texts
_LEFTOVER = re.compile(r"\..+\.[0-9a-f]{8}\.tmp", re.DOTALL)
_MAX_NAME = 200  # bytes of a name that its temporary file's name begins with


def open_regular(path: Path, flags: int = os.O_RDONLY, *, follow: bool = False) -> int:
    """Open a regular file and nothing else; return its descriptor.

    A pipe would make the program wait, and a device can have any effect. Without `follow`, a
    symbolic link is refused too, because it could lead to any file of the user.

    Raises:
        OSError: of the errno EINVAL or ELOOP if it is something else than a regular file.
    """
    for name in ("O_NONBLOCK", "O_CLOEXEC", "O_BINARY", *(() if follow else ("O_NOFOLLOW",))):
        flags |= getattr(os, name, 0)  # no system has all of them
    try:  # look before opening, which can start a device
        _check_regular(path.stat() if follow else path.lstat(), path)
    except FileNotFoundError:
        if not flags & os.O_CREAT:
            raise
    handle = os.open(path, flags, 0o666)
    try:
        _check_regular(os.fstat(handle), path)
    except OSError:
        os.close(handle)
        raise
    return handle


def _check_regular(status: os.stat_result, path: Path) -> None:
    if stat.S_ISLNK(status.st_mode):
        raise OSError(errno.ELOOP, "a symbolic link, which is not followed", str(path))
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))


def read_small(path: Path) -> bytes:
    """Return the content of a small regular file; a link is not followed.

    Raises:
        OSError: there is no such file, it is something else, or it is too large.
    """
    with os.fdopen(open_regular(path), "rb") as file:
        data = file.read(MAX_SMALL + 1)
    if len(data) > MAX_SMALL:
        raise OSError(errno.EFBIG, f"larger than {MAX_SMALL:,} bytes", str(path))
    return data


def is_dangling(path: Path) -> bool:
    """Return True if `path` is a link to nothing, which `exists` does not see."""
    return os.path.lexists(path) and not path.exists()


@contextlib.contextmanager
def replacing(path: Path, previous: Path | None = None) -> Iterator[BinaryIO]:
    """Yield a binary file that replaces `path` when the block ends without an exception.

    The file is written in the same folder (a rename across file systems is not atomic), synced and
    renamed over `path`, and the folder is synced, so that after a power cut `path` is either the
    old file or the new one. On an exception, the temporary file is removed and `path` is untouched.
    With `previous`, the old file is kept under that name too, unless that file exists already.
    A dangling link is not replaced: its target may be back when a disk is mounted.
    """
    if is_dangling(path):
        raise OSError(errno.EEXIST, "a link to a missing file, which is not replaced", str(path))
    temporary = path.with_name(_temporary_name(path.name))
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if previous:
            _keep_as(previous, path)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    sync_folder(path.parent)


def _temporary_name(name: str) -> str:
    """Return a name for a temporary file, short enough for every file that `name` is not too long
    for: file systems take 255 bytes."""
    short = os.fsencode(name)[:_MAX_NAME].decode("utf-8", "ignore")
    return f".{short or 'file'}.{secrets.token_hex(4)}.tmp"


def _keep_as(previous: Path, path: Path) -> None:
    """Give the file at `path` the second name `previous`.

    A file that already has this name is left alone: it exists because no newer file has yet been
    proven readable.
    """
    if previous.exists() or not path.exists():
        return
    try:
        os.link(path, previous)
    except OSError:  # no hard links on this file system: `path` is missing for an instant
        os.replace(path, previous)


def replace_proven(path: Path, data: bytes, previous: Path) -> None:
    """Replace the content of `path` with `data`, and prove it by reading the file back.

    The old file is kept as `previous` until then. If the disk returns other bytes, the old file is
    restored and `OSError` is raised.
    """
    with replacing(path, previous) as file:
        file.write(data)
    try:
        proven, problem = _contains(path, data), "other bytes than were written"
    except OSError as error:
        proven, problem = False, error.strerror or "an error"
    if not proven:
        if previous.exists():
            os.replace(previous, path)
        else:
            path.unlink()
        raise OSError(errno.EIO, f"reading it back gave {problem}", str(path))
    previous.unlink(missing_ok=True)


def _contains(path: Path, data: bytes) -> bool:
    """Return True if reading the file from the disk gives exactly these bytes."""
    size = 1 << 22
    with path.open("rb") as file:
        if hasattr(os, "posix_fadvise"):  # read the disk, not the page cache
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        same = all(file.read(size) == data[at : at + size] for at in range(0, len(data), size))
        return same and not file.read(1)


def link_or_copy(source: Path, target: Path) -> None:
    """Let `target` name the content of `source`, without more space where the disk has hard links.

    After a stop `target` is the old file or the new one.
    """
    temporary = target.with_name(_temporary_name(target.name))
    try:
        os.link(source, temporary)
    except OSError:  # no hard links on this file system
        with replacing(target) as file:
            file.write(source.read_bytes())
        return
    os.replace(temporary, target)
    temporary.unlink(missing_ok=True)  # two names of one file are not renamed to each other
    sync_folder(target.parent)


def is_leftover(path: Path) -> bool:
    """Return True if the file is the temporary file of a process that was killed in `replacing`."""
    return bool(_LEFTOVER.fullmatch(path.name))


def remove_leftovers(folder: Path, older_than: float | None = None) -> None:
    """Remove temporary files that killed processes left in `folder`.

    With `older_than`, files that were modified in the last so many seconds may still be in use and
    stay. One that is as far in the future was written before a clock was corrected.
    """
    for path in filter(is_leftover, folder.iterdir()):
        with contextlib.suppress(OSError):
            status = path.lstat()
            unused = older_than is None or abs(time.time() - status.st_mtime) >= older_than
            if unused and stat.S_ISREG(status.st_mode):
                path.unlink()


def make_folder(folder: Path) -> None:
    """Make a folder that survives a power cut, as the files that are synced in it do."""
    folder.mkdir()
    with contextlib.suppress(PermissionError):  # its parent may not be read, only written to
        sync_folder(folder.parent)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON with sorted keys, atomically."""
    try:
        data = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False).encode()
    except UnicodeEncodeError:  # lone surrogates: a file name that is not UTF-8
        data = json.dumps(value, indent=2, sort_keys=True).encode()
    with replacing(path) as file:
        file.write(data + b"\n")


def named_path(name: AnyPath) -> Path:
    """Return the path that `name` spells; raise `SettingError` if no file can have this name.

    Python takes an empty name for the current folder, and a user gives one by mistake, as the value
    of a variable that is not set.
    """
    if not isinstance(name, str | os.PathLike) or not isinstance(text := os.fspath(name), str):
        raise SettingError(f"a path must be a text or a `pathlib.Path`, not {shown(name)}")
    try:
        length = len(os.fsencode(text))
    except UnicodeEncodeError:  # half a character
        raise SettingError(f"{text[:SHOWN_PATH]!r} cannot be a path; check the name") from None
    if length > MAX_PATH:
        raise SettingError(
            f"'{text[:SHOWN_PATH]}…': too long for a path, {len(text):,} characters; check the name"
        )
    if not text.strip():
        raise SettingError(
            f"{text!r} names no file or folder; give a name, or check the variable it comes from"
        )
    if "\0" in text:
        raise SettingError(f"{text!r} has a NUL character, so it cannot be a path; check the name")
    return Path(text)


@contextlib.contextmanager
def explained(action: str, advice: str) -> Iterator[None]:
    """Turn an `OSError` in the block into a `CharnnError`: the action, the failure, the advice."""
    try:
        yield
    except CharnnError:  # some are an OSError too
        raise
    except OSError as error:
        raise CharnnError(f"{action}: {error.strerror or error}; {advice}") from error


def sync_folder(folder: Path) -> None:
    """Sync the names in a folder to the disk: new, renamed and removed files."""
    if os.name == "nt":  # Windows cannot open folders
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def cache_folder() -> Path:
    """Return the folder for data that can be recomputed, and create it if needed.

    It is the environment variable CHARNN_CACHE, or a folder in the user's own cache folder.
    """
    folder = Path(os.environ.get("CHARNN_CACHE") or _user_cache() / "charnn")
    with explained(f"creating the cache folder {folder}", "set CHARNN_CACHE to another folder"):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def _user_cache() -> Path:
    home = _home("for the cache; set CHARNN_CACHE to a folder")
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or home / "AppData/Local")
    if sys.platform == "darwin":
        return home / "Library/Caches"
    return _xdg_folder("XDG_CACHE_HOME") or home / ".cache"


def state_folder() -> Path:
    """Return the user's own folder for what cannot be recomputed. It may not exist yet."""
    if given := _xdg_folder("XDG_STATE_HOME"):
        return given / "charnn"
    home = _home("to keep a key in")
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or home / "AppData/Local") / "charnn-state"
    return home / ".local/state/charnn"


def _xdg_folder(variable: str) -> Path | None:
    """Return the folder that a variable names. A relative one is ignored, as its specification
    says, because it would be another folder for each current one."""
    folder = Path(os.environ.get(variable, ""))
    return folder if folder.is_absolute() else None


def _home(purpose: str) -> Path:
    try:
        return Path.home()
    except RuntimeError as error:  # users in containers may have none
        raise CharnnError(f"no home folder {purpose}") from error
