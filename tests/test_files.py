"""A file is either the old one or the new one, whatever fails during a write."""

import contextlib
import errno
import io
import json
import os
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import count, product
from pathlib import Path
from typing import Any

import pytest

from charnn import checkpoint, files
from charnn.checkpoint import Checkpoint
from charnn.errors import CharnnError
from charnn.files import (
    cache_folder,
    explained,
    is_leftover,
    read_small,
    remove_leftovers,
    replace_proven,
    replacing,
    state_folder,
    write_json,
)
from charnn.runs.folder import LAST, PREVIOUS
from charnn.runs.opening import load_or_previous


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_replaced_when_the_block_ends_and_not_before(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with replacing(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_exception_leaves_the_old_file_and_no_temporary_file(
    tmp_path: Path, error: type[BaseException]
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(error), replacing(path) as file:  # noqa: PT012 - the write belongs to the case
        file.write(b"half of")
        raise error
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


def test_a_failed_rename_leaves_no_temporary_file(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError), replacing(tmp_path / "folder") as file:
        file.write(b"new")
    assert names(tmp_path) == ["folder"]


@pytest.mark.parametrize("name", ["n" * 255, "é" * 127, "n\nn", os.fsdecode(b"\xe9" * 255)])
def test_a_name_as_long_as_the_file_system_takes_has_a_temporary_file(
    tmp_path: Path, name: str
) -> None:
    with replacing(tmp_path / name) as file:
        (temporary,) = tmp_path.iterdir()
        assert is_leftover(temporary)
        file.write(b"new")
    assert names(tmp_path) == [name]


def test_a_new_file_has_the_permissions_of_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with replacing(tmp_path / "file") as file:
            file.write(b"new")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640


def test_json_is_sorted_indented_and_ends_with_a_newline(tmp_path: Path) -> None:
    write_json(tmp_path / "file", {"b": "é", "a": [1, None]})
    expected = '{\n  "a": [\n    1,\n    null\n  ],\n  "b": "é"\n}\n'
    assert (tmp_path / "file").read_text(encoding="utf-8") == expected


def test_json_keeps_file_names_that_are_not_utf8(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.txt")
    write_json(tmp_path / "file", [name])
    assert json.loads((tmp_path / "file").read_text(encoding="utf-8")) == [name]


def test_an_operating_system_error_becomes_one_line(tmp_path: Path) -> None:
    with (
        pytest.raises(CharnnError, match=r"^saving it: No such file or directory; do this$"),
        explained("saving it", "do this"),
        replacing(tmp_path / "nowhere/file"),
    ):
        pass


def test_an_error_without_an_errno_keeps_its_message() -> None:
    with (
        pytest.raises(CharnnError, match="saving it: odd; do this"),
        explained("saving it", "do this"),
    ):
        raise OSError("odd")


def test_other_exceptions_are_not_translated() -> None:
    with pytest.raises(ValueError, match="a bug"), explained("saving it", "do this"):
        raise ValueError("a bug")


@pytest.mark.skipif(
    os.name == "nt" or os.uname().sysname == "Darwin", reason="other folders on these systems"
)
def test_charnn_cache_comes_before_the_users_cache_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("CHARNN_CACHE", str(tmp_path / "given/below"))
    assert cache_folder() == tmp_path / "given/below"
    monkeypatch.delenv("CHARNN_CACHE")
    assert cache_folder() == tmp_path / "xdg/charnn"
    for nowhere in ("", "relative", "~/folder"):
        monkeypatch.setenv("XDG_CACHE_HOME", nowhere)
        monkeypatch.setenv("XDG_STATE_HOME", nowhere)
        assert cache_folder() == tmp_path / "home/.cache/charnn"
        assert cache_folder().is_dir()
        assert state_folder() == tmp_path / "home/.local/state/charnn"


def test_a_cache_folder_that_cannot_be_created_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("CHARNN_CACHE", str(tmp_path / "file/cache"))
    with pytest.raises(CharnnError, match="file/cache: Not a directory; set CHARNN_CACHE"):
        cache_folder()


SYSTEM = ("open", "close", "stat", "fsync", "link", "replace", "unlink", "posix_fadvise")
Observer = Callable[[Any, Any], Any]  # gets a call's first argument and its result
ERRORS: dict[str, Callable[[], BaseException]] = {
    "full": lambda: OSError(errno.ENOSPC, "full"),
    "broken": lambda: OSError(errno.EIO, "broken"),
    "forbidden": lambda: PermissionError(errno.EACCES, "forbidden"),
    "interrupted": KeyboardInterrupt,
}


@dataclass
class Faults:
    """Context in which the `at`-th system call fails, before or after it has done its work.

    If `lasting`, all calls after it fail too.
    """

    at: int
    error: Callable[[], BaseException]
    after: bool = False
    lasting: bool = False
    calls: int = 0
    cleanup: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    handles: set[int] = field(default_factory=set)

    def __enter__(self) -> "Faults":
        patch = self.cleanup.enter_context(pytest.MonkeyPatch.context())
        observers: dict[str, Observer] = {"open": self.opened, "close": self.closed}
        for name in SYSTEM:
            if hasattr(os, name):
                patch.setattr(os, name, self.failing(getattr(os, name), observers.get(name)))
        patch.setattr(io, "open", self.failing(io.open, self.made))
        return self

    def __exit__(self, *_: object) -> None:
        """Close what an interrupted save left open, as the end of its process would."""
        self.cleanup.close()
        for handle in self.handles:
            os.close(handle)

    def failing(
        self, call: Callable[..., Any], observer: Observer | None = None
    ) -> Callable[..., Any]:
        def fails(*arguments: Any, **options: Any) -> Any:
            self.calls += 1
            now = self.calls == self.at or (self.lasting and self.calls > self.at)
            if now and not self.after:
                raise self.error()
            result = call(*arguments, **options)
            if observer:
                result = observer(arguments[0], result)
            if now:
                raise self.error()
            return result

        return fails

    def opened(self, _: object, handle: int) -> int:
        self.handles.add(handle)
        return handle

    def closed(self, handle: int, _: None) -> None:
        self.handles.discard(handle)

    def made(self, place: object, file: io.IOBase) -> "FaultyFile":
        if isinstance(place, int):
            self.handles.discard(place)
        self.cleanup.callback(file.close)
        return FaultyFile(file, self)


class FaultyFile:
    """File whose calls count as system calls that may fail."""

    def __init__(self, file: io.IOBase, faults: Faults) -> None:
        self.file, self.faults = file, faults

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.file, name)
        return self.faults.failing(value) if name in ("write", "flush", "read", "close") else value

    def __enter__(self) -> "FaultyFile":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass(frozen=True)
class Version:
    """Checkpoint, identified by its step, with its bytes."""

    checkpoint: Checkpoint
    data: bytes

    @property
    def step(self) -> int:
        return self.checkpoint.figures.step


@pytest.fixture(scope="module")
def versions(run_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Version]:
    """Three checkpoints that can be resumed, at steps 1, 2 and 3."""
    last, folder, made = checkpoint.load(run_folder / LAST), tmp_path_factory.mktemp("made"), []
    for step in (1, 2, 3):
        path = folder / str(step)
        one = replace(last, figures=replace(last.figures, step=step))
        checkpoint.save(path, one)
        made.append(Version(one, path.read_bytes()))
    return made


def save_replacing(path: Path, new: Version) -> None:
    with replacing(path) as file:
        file.write(new.data)


def save_proven(path: Path, new: Version) -> None:
    replace_proven(path, new.data, path.with_name(PREVIOUS))


def save_last(path: Path, new: Version) -> None:
    checkpoint.save(path, new.checkpoint, path.with_name(PREVIOUS))


def interrupted_saves(
    folder: Path, save: Callable[[Path, Version], None], versions: list[Version], **how: Any
) -> Iterator[tuple[Path, bool]]:
    """Save the second version over the first, disturbed at the first, second, … system call.

    Yield the checkpoint's path after each save and whether the save reported a failure.
    """
    for at in count(1):
        path = folder / str(at) / LAST
        path.parent.mkdir()
        save(path, versions[0])
        failed = False
        with Faults(at, **how) as faults:
            try:
                save(path, versions[1])
            except (OSError, CharnnError, KeyboardInterrupt):
                failed = True
        if faults.calls < at:
            assert at > 8  # the system calls were counted
            return
        yield path, failed


def disturbances() -> Iterator[Any]:
    """Yield the ways to disturb a save; all but the likeliest are marked slow."""
    likely = {(save_last, "full"), (save_last, "interrupted"), (save_replacing, "full")}
    for save in (save_replacing, save_proven, save_last):
        for error in ERRORS:
            for after, lasting in product([False, True], repeat=2):
                marks = () if (save, error) in likely and not lasting else pytest.mark.slow
                words = [save.__name__, error, *["after"] * after, *["lasting"] * lasting]
                yield pytest.param(save, error, after, lasting, marks=marks, id=" ".join(words))


@pytest.mark.parametrize(("save", "error", "after", "lasting"), list(disturbances()))
def test_a_save_disturbed_at_any_call_leaves_an_intact_checkpoint_and_the_next_save_works(
    save: Callable[[Path, Version], None],
    error: str,
    after: bool,
    lasting: bool,
    versions: list[Version],
    tmp_path: Path,
) -> None:
    how = {"error": ERRORS[error], "after": after, "lasting": lasting}
    for path, failed in interrupted_saves(tmp_path, save, versions, **how):
        loaded, _ = load_or_previous(path)  # verifies the checksum
        assert loaded.figures.step in ([1, 2] if failed else [2])
        remove_leftovers(path.parent)
        assert {*names(path.parent)} <= {LAST, PREVIOUS}
        save_last(path, versions[2])
        assert names(path.parent) == [LAST]
        assert path.read_bytes() == versions[2].data


def test_the_old_file_is_kept_if_the_disk_returns_other_bytes(
    versions: list[Version], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, sync = tmp_path / LAST, os.fsync
    save_last(path, versions[0])

    def sync_and_forget(handle: int) -> None:
        sync(handle)
        with contextlib.suppress(OSError):  # a folder
            os.pwrite(handle, b"?", 100)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", sync_and_forget)
        with pytest.raises(CharnnError, match="reading it back gave other bytes than were written"):
            save_last(path, versions[1])
    assert names(tmp_path) == [LAST]
    assert path.read_bytes() == versions[0].data


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs Linux's /proc")
def test_each_step_of_a_save_is_synced_before_the_next_step(
    versions: list[Version], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, log = tmp_path / LAST, []
    save_last(path, versions[0])

    def logged(name: str) -> Callable[..., Any]:
        call = getattr(os, name)

        def calls(first: Any, *more: Any, **options: Any) -> Any:
            place = Path(f"/proc/self/fd/{first}").readlink() if name == "fsync" else Path(first)
            log.append((name, place.name.endswith(".tmp"), place.is_dir()))
            return call(first, *more, **options)

        return calls

    for name in ("fsync", "link", "replace", "unlink"):
        monkeypatch.setattr(os, name, logged(name))
    save_last(path, versions[1])
    assert log == [
        ("fsync", True, False),  # the new bytes, before they get the name
        ("link", False, False),  # the old file gets its second name
        ("replace", True, False),
        ("fsync", False, True),  # both names, before the old file is removed
        ("unlink", False, False),
    ]


def test_a_file_that_cannot_be_read_back_never_replaces_the_last_good_one(
    versions: list[Version], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / LAST
    save_last(path, versions[0])

    def fail(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    for new in versions[1:]:
        with monkeypatch.context() as patch:
            patch.setattr(files, "_contains", fail)
            with pytest.raises(CharnnError, match="reading it back gave Input/output error"):
                save_last(path, new)
        assert load_or_previous(path)[0].figures.step == versions[0].step
    save_last(path, versions[1])
    assert names(tmp_path) == [LAST]
    assert path.read_bytes() == versions[1].data


def test_a_previous_file_stays_until_a_newer_one_was_read_back(
    versions: list[Version], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, previous = tmp_path / LAST, tmp_path / PREVIOUS
    save_last(path, versions[0])

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    for new in versions[1:]:
        with monkeypatch.context() as patch:
            patch.setattr(files, "_contains", interrupt)
            with pytest.raises(KeyboardInterrupt):
                save_last(path, new)
        assert previous.read_bytes() == versions[0].data
        assert path.read_bytes() == new.data


def test_a_temporary_read_error_does_not_fall_back_to_the_previous_file(
    versions: list[Version], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / LAST
    save_last(path, versions[1])
    (tmp_path / PREVIOUS).write_bytes(versions[0].data)

    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", fail)
        with pytest.raises(CharnnError, match="Too many open files"):
            load_or_previous(path)
    assert load_or_previous(path)[1] == path


def test_only_temporary_files_of_the_given_age_are_removed(tmp_path: Path) -> None:
    others = [LAST, PREVIOUS, ".lock", "notes.tmp", ".hidden", ".vim.tmp", "x.tmp.txt"]
    young, old, future = (
        f".last.safetensors.{n}.tmp" for n in ("0123abcd", "ffffffff", "00000000")
    )
    for name in (*others, young, old, future):
        (tmp_path / name).touch()
    for name, seconds in ((old, -300), (future, 300)):
        os.utime(tmp_path / name, (time.time() + seconds,) * 2)
    remove_leftovers(tmp_path, older_than=60)
    assert names(tmp_path) == sorted([*others, young])
    os.utime(tmp_path / young, (time.time() + 1e6,) * 2)
    remove_leftovers(tmp_path)
    assert names(tmp_path) == sorted(others)


def test_only_a_small_regular_file_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"small")
    assert read_small(path) == b"small"
    monkeypatch.setattr(files, "MAX_SMALL", 4)
    with pytest.raises(OSError, match="larger than"):
        read_small(path)
    (tmp_path / "link").symlink_to(path)
    with pytest.raises(OSError, match="symbolic link"):
        read_small(tmp_path / "link")
    os.mkfifo(tmp_path / "pipe")
    for other in (tmp_path / "pipe", tmp_path, Path("/dev/zero")):
        with pytest.raises(OSError, match="not a regular file"):
            read_small(other)


def test_a_link_to_a_missing_file_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.symlink_to("missing")
    with pytest.raises(OSError, match="link to a missing file"), replacing(path):
        pass
    assert names(tmp_path) == ["file"]
    assert path.is_symlink()
