"""A file is the old one or the new one, whatever happens in between."""

import contextlib
import errno
import io
import json
import os
import stat
import subprocess
import sys
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
    locked,
    remove_leftovers,
    replace_proven,
    replacing,
    write_json,
)
from charnn.runs.folder import LAST, PREVIOUS
from charnn.runs.opening import load_or_previous


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_whole_when_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with replacing(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_exception_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, error: type[BaseException]
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(error), replacing(path) as file:  # noqa: PT012 - two steps make the case
        file.write(b"half of")
        raise error
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


def test_a_name_that_cannot_be_replaced_leaves_nothing_beside_it(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError), replacing(tmp_path / "folder") as file:
        file.write(b"new")
    assert names(tmp_path) == ["folder"]


def test_a_new_file_has_the_permissions_that_the_user_gives_new_files(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with replacing(tmp_path / "file") as file:
            file.write(b"new")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640


def test_json_is_sorted_readable_and_ends_with_a_newline(tmp_path: Path) -> None:
    write_json(tmp_path / "file", {"b": "é", "a": [1, None]})
    expected = '{\n  "a": [\n    1,\n    null\n  ],\n  "b": "é"\n}\n'
    assert (tmp_path / "file").read_text(encoding="utf-8") == expected


def test_json_keeps_names_that_are_no_text(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.txt")
    write_json(tmp_path / "file", [name])
    assert json.loads((tmp_path / "file").read_text(encoding="utf-8")) == [name]


def test_an_error_of_the_system_becomes_one_line(tmp_path: Path) -> None:
    with (
        pytest.raises(CharnnError, match=r"^saving it: No such file or directory; do this$"),
        explained("saving it", "do this"),
        replacing(tmp_path / "nowhere/file"),
    ):
        pass


def test_an_error_without_a_number_keeps_its_words() -> None:
    with (
        pytest.raises(CharnnError, match="saving it: odd; do this"),
        explained("saving it", "do this"),
    ):
        raise OSError("odd")


def test_other_errors_pass_unexplained() -> None:
    with pytest.raises(ValueError, match="a bug"), explained("saving it", "do this"):
        raise ValueError("a bug")


@pytest.mark.skipif(os.name == "nt" or os.uname().sysname == "Darwin", reason="other folders there")
def test_the_cache_is_the_given_folder_then_the_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("CHARNN_CACHE", str(tmp_path / "given/below"))
    assert cache_folder() == tmp_path / "given/below"
    monkeypatch.delenv("CHARNN_CACHE")
    assert cache_folder() == tmp_path / "xdg/charnn"
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    assert cache_folder() == tmp_path / "home/.cache/charnn"
    assert cache_folder().is_dir()


def test_a_cache_folder_that_cannot_be_made_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("CHARNN_CACHE", str(tmp_path / "file/cache"))
    with pytest.raises(CharnnError, match="file/cache: Not a directory; set CHARNN_CACHE"):
        cache_folder()


SYSTEM = ("open", "close", "stat", "fsync", "link", "replace", "unlink", "posix_fadvise")
Note = Callable[[Any, Any], Any]  # of a call's first argument and its result
ERRORS: dict[str, Callable[[], BaseException]] = {
    "full": lambda: OSError(errno.ENOSPC, "full"),
    "broken": lambda: OSError(errno.EIO, "broken"),
    "forbidden": lambda: PermissionError(errno.EACCES, "forbidden"),
    "interrupted": KeyboardInterrupt,
}


@dataclass
class Faults:
    """Within `with`, a call to the system fails: the one that is the `at`-th, before or after it
    has done its work; if `lasting`, all from there on."""

    at: int
    error: Callable[[], BaseException]
    after: bool = False
    lasting: bool = False
    calls: int = 0
    kept: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    handles: set[int] = field(default_factory=set)

    def __enter__(self) -> "Faults":
        patch = self.kept.enter_context(pytest.MonkeyPatch.context())
        notes: dict[str, Note] = {"open": self.opened, "close": self.closed}
        for name in SYSTEM:
            if hasattr(os, name):
                patch.setattr(os, name, self.failing(getattr(os, name), notes.get(name)))
        patch.setattr(io, "open", self.failing(io.open, self.made))
        return self

    def __exit__(self, *_: object) -> None:
        """Close what an interrupted save could not, as the end of its process would."""
        self.kept.close()
        for handle in self.handles:
            os.close(handle)

    def failing(self, call: Callable[..., Any], note: Note | None = None) -> Callable[..., Any]:
        def fails(*arguments: Any, **options: Any) -> Any:
            self.calls += 1
            now = self.calls == self.at or (self.lasting and self.calls > self.at)
            if now and not self.after:
                raise self.error()
            result = call(*arguments, **options)
            if note:
                result = note(arguments[0], result)
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
        self.kept.callback(file.close)
        return FaultyFile(file, self)


class FaultyFile:
    """A file whose calls are among those that may fail."""

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
    """A checkpoint, told from others by its step, and its bytes."""

    checkpoint: Checkpoint
    data: bytes

    @property
    def step(self) -> int:
        return self.checkpoint.figures.step


@pytest.fixture(scope="module")
def versions(run_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Version]:
    """Three checkpoints of which one can go on."""
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
    """The folder after each save of the second version over the first that is disturbed at its
    first, second, … call to the system, and whether the save says that it failed."""
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
            assert at > 8  # the calls were seen
            return
        yield path, failed


def disturbances() -> Iterator[Any]:
    """How a save is disturbed; the most likely ways are tried always."""
    likely = {(save_last, "full"), (save_last, "interrupted"), (save_replacing, "full")}
    for save in (save_replacing, save_proven, save_last):
        for error in ERRORS:
            for after, lasting in product([False, True], repeat=2):
                marks = () if (save, error) in likely and not lasting else pytest.mark.slow
                words = [save.__name__, error, *["after"] * after, *["lasting"] * lasting]
                yield pytest.param(save, error, after, lasting, marks=marks, id=" ".join(words))


@pytest.mark.parametrize(("save", "error", "after", "lasting"), list(disturbances()))
def test_a_save_disturbed_at_any_call_leaves_a_whole_checkpoint_and_room_for_the_next(
    save: Callable[[Path, Version], None],
    error: str,
    after: bool,
    lasting: bool,
    versions: list[Version],
    tmp_path: Path,
) -> None:
    how = {"error": ERRORS[error], "after": after, "lasting": lasting}
    for path, failed in interrupted_saves(tmp_path, save, versions, **how):
        loaded, _ = load_or_previous(path)  # its checksum says that it is whole
        assert loaded.figures.step in ([1, 2] if failed else [2])
        remove_leftovers(path.parent)
        assert {*names(path.parent)} <= {LAST, PREVIOUS}
        save_last(path, versions[2])
        assert names(path.parent) == [LAST]
        assert path.read_bytes() == versions[2].data


def test_a_disk_that_gives_back_other_bytes_keeps_the_old_file(
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
def test_what_a_power_cut_could_undo_is_on_the_disk_before_the_next_thing_is_done(
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
        ("link", False, False),  # the old file keeps one
        ("replace", True, False),
        ("fsync", False, True),  # both names, before the old one is let go
        ("unlink", False, False),
    ]


def test_a_file_that_cannot_be_read_back_never_takes_the_place_of_the_last_good_one(
    versions: list[Version], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / LAST
    save_last(path, versions[0])

    def fail(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    for new in versions[1:]:
        with monkeypatch.context() as patch:
            patch.setattr(files, "_holds", fail)
            with pytest.raises(CharnnError, match="reading it back gave Input/output error"):
                save_last(path, new)
        assert load_or_previous(path)[0].figures.step == versions[0].step
    save_last(path, versions[1])
    assert names(tmp_path) == [LAST]
    assert path.read_bytes() == versions[1].data


def test_a_previous_file_stays_until_a_newer_one_is_proven(
    versions: list[Version], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, previous = tmp_path / LAST, tmp_path / PREVIOUS
    save_last(path, versions[0])

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    for new in versions[1:]:
        with monkeypatch.context() as patch:
            patch.setattr(files, "_holds", interrupt)
            with pytest.raises(KeyboardInterrupt):
                save_last(path, new)
        assert previous.read_bytes() == versions[0].data
        assert path.read_bytes() == new.data


def test_a_file_that_is_whole_but_cannot_be_read_now_is_not_passed_over(
    versions: list[Version], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / LAST
    save_last(path, versions[1])
    (tmp_path / PREVIOUS).write_bytes(versions[0].data)

    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", fail)
        with pytest.raises(CharnnError, match="Too many open files"):
            load_or_previous(path)
    assert load_or_previous(path)[1] == path


HOLD = """
import sys
from pathlib import Path
from charnn.files import locked
with locked(Path(sys.argv[1]), "it", "wait"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_lock_has_one_holder_and_dies_with_its_process(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    command = [sys.executable, "-c", HOLD, str(path)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == "held\n"
        held = rf"^it: in use by process {holder.pid} on .+; wait$"
        with pytest.raises(CharnnError, match=held), locked(path, "it", "wait"):
            pass
        holder.kill()
    with locked(path, "it", "wait"):
        assert path.read_text().startswith(f"process {os.getpid()} on ")
    with locked(path, "it", "wait"):
        pass


def test_a_lock_has_one_holder_within_a_process_too(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    held = rf"^it: in use by process {os.getpid()} on .+; wait$"
    with (
        locked(path, "it", "wait"),
        pytest.raises(CharnnError, match=held),
        locked(path, "it", "wait"),
    ):
        pass
    with locked(path, "it", "wait"):
        pass


def test_only_leftovers_of_some_age_are_removed(tmp_path: Path) -> None:
    others = [LAST, PREVIOUS, ".lock", "notes.tmp", ".hidden", ".vim.tmp", "x.tmp.txt"]
    young, old = ".last.safetensors.0123abcd.tmp", ".last.safetensors.ffffffff.tmp"
    for name in (*others, young, old):
        (tmp_path / name).touch()
    minutes_ago = time.time() - 300
    os.utime(tmp_path / old, (minutes_ago, minutes_ago))
    remove_leftovers(tmp_path, older_than=60)
    assert names(tmp_path) == sorted([*others, young])
    remove_leftovers(tmp_path)
    assert names(tmp_path) == sorted(others)
