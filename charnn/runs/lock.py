"""The lock of a run folder: one process writes to it, and notices when it is no longer the same.

The folder itself is locked where the system can do that, so that neither removing the lock file nor
moving the folder lets a second process in. The lock file is locked too, for network file systems
and Windows. It says who holds it, which decides where a file system has no locks at all.
"""

import contextlib
import errno
import logging
import os
import re
import secrets
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from charnn.errors import CharnnError
from charnn.files import explained, open_regular, remove_leftovers

log = logging.getLogger(__name__)

LOCK = ".lock"
_NOTE = re.compile(r"process (\d{1,19}) on ([^\s,]{1,255})(?:, since (\S{1,40}))?")
_NOTE_BYTES = 400
_CLOCK_SECONDS = 60.0  # by which the times of a process and of a file may differ
_HELD = (errno.EAGAIN, errno.EACCES, errno.EDEADLK)


@dataclass(frozen=True)
class FolderLock:
    """A run folder that this process has locked."""

    folder: Path
    file: int  # descriptor of the lock file
    handle: int | None  # descriptor of the folder, if it is locked itself
    note: bytes  # what the lock file says

    def is_intact(self) -> bool:
        """Return True if `check` finds nothing."""
        with contextlib.suppress(CharnnError):
            self.check()
            return True
        return False

    def check(self) -> None:
        """Check that the folder is still the locked one; call it before writing to it.

        Raises:
            CharnnError: the folder was moved or replaced, or another process has taken the lock.
        """
        path = self.folder / LOCK
        try:
            if self.handle is not None:
                same = os.path.samestat(os.fstat(self.handle), self.folder.stat())
            else:
                held = os.path.samestat(os.fstat(self.file), path.lstat())
                same = held and _read(self.file) == self.note
        except FileNotFoundError:
            same = False
        except OSError as error:
            raise CharnnError(f"looking at {path}: {error.strerror}; check the disk") from error
        if not same:
            what = self.folder if self.handle is not None else path
            raise CharnnError(
                f"{what}: moved or replaced while this run writes to it; nothing more is written "
                "there unless it is moved back"
            )


@contextlib.contextmanager
def lock_run(folder: Path) -> Iterator[FolderLock]:
    """Be the only process that writes to a run folder; remove what a killed one left behind."""
    with lock_folder(folder) as lock:
        remove_leftovers(folder)
        yield lock


@contextlib.contextmanager
def lock_folder(folder: Path) -> Iterator[FolderLock]:
    """Be the only process that writes to a run folder.

    The system releases the lock when the process ends. The lock file is never removed, because that
    would let two processes lock two different files of the same name.

    Raises:
        CharnnError: another process holds the folder, or it cannot be locked.
    """
    with contextlib.ExitStack() as opened:
        with explained(f"locking {folder / LOCK}", "check the run folder"):
            handle = _open_folder(folder, opened)
            whole = None if handle is None else _lock(handle)
            file = _open_file(folder / LOCK, opened)
            part = _lock(file)
            before = _read(file)
        if whole is False or part is False:
            raise _in_use(folder, before)
        if whole is None and part is None:
            if _may_be_running(before):
                raise _in_use(folder, before, f"if it has ended, remove {folder / LOCK}")
            log.warning(f"{folder}: this file system has no locks; start no second run there")
        now = datetime.now(UTC).isoformat(timespec="seconds")
        note = f"process {os.getpid()} on {_host()}, since {now}\n".encode()
        try:
            os.ftruncate(file, 0)
            os.pwrite(file, note, 0) if hasattr(os, "pwrite") else os.write(file, note)
        except OSError:  # where there are locks the note is optional: a full disk must not matter
            with explained(f"reading {folder / LOCK}", "check the disk"):
                note = _read(file)
        lock = FolderLock(folder, file, handle if whole else None, note)
        lock.check()
        yield lock


def lock_holder(folder: Path) -> str:
    """Return who writes to a run folder, or "" if nobody does; nothing is changed."""
    path = folder / LOCK
    with contextlib.ExitStack() as opened, contextlib.suppress(OSError):
        handle = _open_folder(folder, opened)
        locks = [None if handle is None else _lock(handle)]
        if path.exists():
            file = open_regular(path)
            opened.callback(os.close, file)
            locks.append(_lock(file))
            note = _read(file)
            if False in locks or (True not in locks and _may_be_running(note)):
                return _holder(note)
        elif False in locks:
            return _holder(b"")
    return ""


def is_lock_file(path: Path) -> bool:
    """Return True if the file is empty or says what a lock file says, and is not the user's own.

    A power cut may leave zeros.
    """
    try:
        with os.fdopen(open_regular(path), "rb") as file:
            text = file.read(_NOTE_BYTES + 1)
    except OSError:
        return False
    return not text.strip(b"\0") or bool(_NOTE.fullmatch(text.decode("utf-8", "replace").strip()))


def _in_use(folder: Path, note: bytes, more: str = "") -> CharnnError:
    advice = "wait until it ends, or choose another `out`" + (more and f"; {more}")
    return CharnnError(f"{folder}: in use by {_holder(note)}; {advice}")


def _holder(note: bytes) -> str:
    met = _NOTE.match(note.decode("utf-8", "replace"))
    return met[0] if met else "another process"


def _open_folder(folder: Path, opened: contextlib.ExitStack) -> int | None:
    """Return a descriptor of the folder until the stack is closed; Windows has none."""
    if os.name == "nt":
        return None
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    opened.callback(os.close, handle)
    return handle


def _open_file(path: Path, opened: contextlib.ExitStack) -> int:
    """Return a descriptor of the lock file until the stack is closed.

    A backup of hard links shares the file with this folder, but it needs its own lock.
    """
    file = open_regular(path, os.O_RDWR | os.O_CREAT)
    if os.fstat(file).st_nlink > 1:
        os.close(file)
        own = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
        os.close(open_regular(own, os.O_RDWR | os.O_CREAT | os.O_EXCL))
        os.replace(own, path)
        file = open_regular(path, os.O_RDWR)
    opened.callback(os.close, file)
    return file


def _lock(handle: int) -> bool | None:
    """Try to lock an open file or folder; return False if another process holds the lock, and None
    if it cannot be locked."""
    try:
        if sys.platform == "win32":
            import msvcrt

            os.lseek(handle, _NOTE_BYTES, os.SEEK_SET)  # not the note, which others shall read
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
            os.lseek(handle, 0, os.SEEK_SET)
        else:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return False if error.errno in _HELD else None
    return True


def _read(file: int) -> bytes:
    os.lseek(file, 0, os.SEEK_SET)
    return os.read(file, _NOTE_BYTES)


def _host() -> str:
    return re.sub(r"[\s,]", "-", socket.gethostname()) or "this-host"


def _may_be_running(note: bytes) -> bool:
    """Return True unless the process of a note has certainly ended; another host's may run."""
    met = _NOTE.match(note.decode("utf-8", "replace"))
    if met is None:
        return False
    if met[2] != _host():
        return True
    process = int(met[1])
    if process == os.getpid():
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # another user's
        return True
    started, since = _process_start(process), _timestamp(met[3])
    return started is None or since is None or started < since + _CLOCK_SECONDS


def _timestamp(text: str | None) -> float | None:
    try:
        return datetime.fromisoformat(text or "").timestamp()
    except (ValueError, OverflowError):
        return None


def _process_start(process: int) -> float | None:
    """Return when a process began, in seconds since 1970; None where the system does not say.

    A number that a later process has got does not stand for the one that locked the folder.
    """
    try:
        ticks = int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19])
        boot = re.search(r"^btime (\d+)$", Path("/proc/stat").read_text(), re.MULTILINE)
        return boot and int(boot[1]) + ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return None
