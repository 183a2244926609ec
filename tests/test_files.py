"""A file is the old one or the new one, whatever happens in between."""

import os
import stat
from pathlib import Path

import pytest

from charnn.errors import CharnnError
from charnn.files import cache_folder, explained, replacing, write_json


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
