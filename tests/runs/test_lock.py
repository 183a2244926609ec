"""One process writes to a run folder, and notices when it is no longer the same."""

import errno
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from charnn.errors import CharnnError
from charnn.runs import lock as module
from charnn.runs.lock import LOCK, is_lock_file, lock_run
from tests.conftest import warned

pytestmark = pytest.mark.skipif(os.name == "nt", reason="moves and links as on POSIX")

HOLD = """
import sys
from pathlib import Path
from charnn.runs.lock import lock_run
with lock_run(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def without_locks(monkeypatch: pytest.MonkeyPatch, folders_only: bool = False) -> None:
    """Let no file be locked, as on some network file systems, or no folder."""
    import fcntl

    flock = fcntl.flock

    def refuse(handle: int, operation: int) -> None:
        if folders_only and not os.path.isdir(f"/dev/fd/{handle}"):  # noqa: PTH112
            return flock(handle, operation)
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)


@pytest.mark.medium
def test_a_lock_has_one_holder_and_is_released_when_its_process_ends(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == "held\n"
        held = rf"in use by process {holder.pid} on \S+, since \S+; wait until it ends"
        with pytest.raises(CharnnError, match=held), lock_run(tmp_path):
            pass
        (tmp_path / LOCK).unlink()  # as a user does who thinks that it is stale
        with pytest.raises(CharnnError, match="in use by"), lock_run(tmp_path):
            pass
        holder.kill()
    with lock_run(tmp_path):
        assert (tmp_path / LOCK).read_text().startswith(f"process {os.getpid()} on ")
    with lock_run(tmp_path):
        pass


@pytest.mark.parametrize("folders_only", [False, True])
def test_a_lock_has_one_holder_within_a_process_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folders_only: bool
) -> None:
    if folders_only:
        without_locks(monkeypatch, folders_only=True)
    held = rf"in use by process {os.getpid()} on "
    with lock_run(tmp_path) as lock:
        with pytest.raises(CharnnError, match=held), lock_run(tmp_path):
            pass
        lock.check()
    with lock_run(tmp_path):
        pass


def moved(folder: Path) -> None:
    folder.rename(folder.with_name("moved"))


def moved_and_made_anew(folder: Path) -> None:
    moved(folder)
    shutil.copytree(folder.with_name("moved"), folder)


def without_its_lock(folder: Path) -> None:
    (folder / LOCK).unlink()


def with_another_lock(folder: Path) -> None:
    (folder / LOCK).unlink()
    (folder / LOCK).touch()


@pytest.mark.parametrize(
    ("change", "folders_only"),
    [
        (moved, False), (moved_and_made_anew, False),
        (moved, True), (moved_and_made_anew, True), (without_its_lock, True),
        (with_another_lock, True),
    ],
)  # fmt: skip
def test_a_folder_that_is_no_longer_the_locked_one_is_noticed(
    change: Callable[[Path], None],
    folders_only: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if folders_only:
        without_locks(monkeypatch, folders_only=True)
    folder = tmp_path / "run"
    folder.mkdir()
    with lock_run(folder) as lock:
        change(folder)
        with pytest.raises(CharnnError, match="moved or replaced"):
            lock.check()
        assert not lock.is_intact()


def test_without_locks_the_note_of_a_process_that_may_run_keeps_others_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_locks(monkeypatch)
    with warned("no locks"), lock_run(tmp_path) as lock:
        with pytest.raises(CharnnError, match="in use by"), lock_run(tmp_path):
            pass
        lock.check()
        (tmp_path / LOCK).write_text("process 1 on elsewhere, since 2026-01-01T00:00:00+00:00\n")
        with pytest.raises(CharnnError, match="moved or replaced"):
            lock.check()
    with pytest.raises(CharnnError, match=r"process 1 on elsewhere.*remove .*\.lock"):
        lock_run(tmp_path).__enter__()


@pytest.mark.parametrize(
    ("note", "running"),
    [
        ("", False), ("mine", False), ("process 5 on elsewhere", True),
        ("process {me} on {here}, since 2026-01-01T00:00:00+00:00", True),
        ("process 4194999 on {here}, since 2026-01-01T00:00:00+00:00", False),
        ("process 9999999999999999999 on {here}", False),
        ("process {parent} on {here}", True),
        ("process {parent} on {here}, since 2001-01-01T00:00:00+00:00", False),  # another's number
        ("process {parent} on {here}, since yesterday", True),
    ],
)  # fmt: skip
def test_a_note_tells_a_dead_process_here_from_one_elsewhere(note: str, running: bool) -> None:
    here = socket.gethostname()
    text = note.format(me=os.getpid(), parent=os.getppid(), here=here)
    assert module._may_be_running(text.encode()) is running


def test_a_backup_of_hard_links_has_a_lock_of_its_own(tmp_path: Path) -> None:
    run, backup = tmp_path / "run", tmp_path / "backup"
    run.mkdir()
    with lock_run(run) as lock:
        shutil.copytree(run, backup, copy_function=os.link)
        with lock_run(backup):
            assert (run / LOCK).stat().st_ino != (backup / LOCK).stat().st_ino
        lock.check()


@pytest.mark.parametrize("kind", ["folder", "pipe", "link", "dangling"])
def test_a_lock_file_of_another_kind_is_refused_and_left_unchanged(
    kind: str, tmp_path: Path
) -> None:
    run, victim = tmp_path / "run", tmp_path / "victim"
    run.mkdir()
    if kind == "folder":
        (run / LOCK).mkdir()
    elif kind == "pipe":
        os.mkfifo(run / LOCK)
    else:
        (run / LOCK).symlink_to(victim)
        if kind == "link":
            victim.write_text("mine")
    with pytest.raises(CharnnError, match=r"locking .*(regular file|symbolic link)"):
        lock_run(run).__enter__()
    assert not is_lock_file(run / LOCK)
    assert victim.exists() is (kind == "link")
    assert kind != "link" or victim.read_text() == "mine"


def test_a_lock_file_may_hold_zeros_after_a_power_cut(tmp_path: Path) -> None:
    (tmp_path / LOCK).write_bytes(bytes(60))
    assert is_lock_file(tmp_path / LOCK)


def test_a_file_of_the_user_that_is_called_like_the_lock_is_not_one(tmp_path: Path) -> None:
    (tmp_path / LOCK).write_text("my notes\n")
    assert not is_lock_file(tmp_path / LOCK)
    with lock_run(tmp_path):
        pass
    assert is_lock_file(tmp_path / LOCK)
