"""A picture is written whole or not at all, and is the same bytes each time."""

import sys
from pathlib import Path

import pytest

from charnn.errors import CharnnError
from charnn.insight.plot import check_picture, figure


def draw(path: Path, title: str = "steep") -> bytes:
    with figure(path, 2, 1) as drawn:
        drawn.subplots().plot([0, 1], [1, 0])
        drawn.suptitle(title)
    return path.read_bytes()


@pytest.mark.parametrize("kind", ["png", "svg"])
def test_the_same_picture_is_the_same_bytes(tmp_path: Path, kind: str) -> None:
    first, second = (draw(tmp_path / f"{n}.{kind}") for n in "ab")
    assert first == second
    assert first != draw(tmp_path / f"c.{kind}", "deep")


def test_a_png_is_gray_with_a_byte_a_pixel(tmp_path: Path) -> None:
    depth, color_type = draw(tmp_path / "a.png")[24:26]  # of its first chunk, IHDR
    assert (depth, color_type) == (8, 0)


def test_an_error_while_drawing_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), figure(tmp_path / "a.png", 2, 1):
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_made_is_refused_before_anything_is_computed(tmp_path: Path) -> None:
    there = tmp_path / "there.png"
    there.touch()
    for path, said in (
        (tmp_path / "a.jpg", ".png or .svg"),
        (there, "exists"),
        (tmp_path / "no" / "a.png", "no folder"),
    ):
        with pytest.raises(CharnnError, match=said):
            check_picture(path)


def test_without_matplotlib_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(CharnnError, match=r"charnn\[plot\]"):
        check_picture(tmp_path / "a.png")
