"""A picture's file: PNG or SVG by matplotlib, in grays, the same bytes each time."""

import contextlib
import io
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from charnn.errors import CharnnError, SettingError
from charnn.files import explained, replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KINDS = (".png", ".svg")
STYLE: Any = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.hashsalt": "charnn",  # without it the names inside an SVG differ each time
    "svg.fonttype": "none",
}
LINES = ("-", "--", ":", "-.")  # so that curves are told apart without colour
GRAYS = ("#000000", "#4d4d4d", "#808080", "#a6a6a6")


def check_picture(path: Path, force: bool = False, instead: str = "") -> None:
    """One line if a picture cannot be made there, before anything is computed; without matplotlib
    it says what there is `instead`."""
    if path.suffix.lower() not in KINDS:
        raise SettingError(f"{path}: a picture is {' or '.join(KINDS)}; give it such a name")
    if path.exists() and not force:
        raise CharnnError(f"{path} exists; choose another name, or give --force to replace it")
    if not path.parent.is_dir():
        raise CharnnError(f"{path.parent} is no folder; make it first")
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise CharnnError(
            "pictures need matplotlib: pip install 'charnn[plot]' (from a checkout: pip install "
            "-c constraints.txt -e '.[plot]')" + (instead and f"; {instead}")
        ) from error


@contextlib.contextmanager
def figure(path: Path, width: float, height: float) -> Iterator["Figure"]:
    """A figure of so many inches to draw on; written to `path` at the end of the block, whole or
    not at all. Ask `check_picture` first."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):
        drawn = Figure((width, height), layout="constrained")
        yield drawn
        kind, data = path.suffix.lower()[1:], io.BytesIO()
        undated = {"Date": None} if kind == "svg" else None
        with warnings.catch_warnings():  # a name may hold signs that the font lacks
            warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
            drawn.savefig(data, format=kind, dpi=150, metadata=undated)
        if kind == "png":
            data = _gray(data)
    with (
        explained(f"writing {path}", "check its folder and the free space"),
        replacing(path) as file,
    ):
        file.write(data.getvalue())


def _gray(png: io.BytesIO) -> io.BytesIO:
    """The same picture with a byte a pixel instead of four: all that is drawn here is gray."""
    from PIL import Image  # matplotlib brings it

    smaller = io.BytesIO()
    with Image.open(png) as image:
        image.convert("L").save(smaller, format="png", optimize=True, dpi=(150, 150))
    return smaller
