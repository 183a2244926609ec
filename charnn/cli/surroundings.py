"""Make what a program inherits usable: standard streams, environment variables, the folder."""

import contextlib
import io
import os
import sys
from pathlib import Path

from charnn.errors import SettingError


def prepare_streams() -> None:
    """Replace closed standard streams by the null device, and write UTF-8 to stdout.

    A file that is opened while a standard stream is closed would get its number, and what a
    library prints would end up in that file.
    """
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
        if getattr(sys, name) is None:  # closed, or a Windows program without a console
            stream = open(number, mode, encoding="utf-8", closefd=False)  # noqa: SIM115
            setattr(sys, name, stream)
    if isinstance(sys.stdout, io.TextIOWrapper):  # the product is UTF-8 whatever the locale
        sys.stdout.reconfigure(encoding="utf-8", errors="surrogateescape")
    if isinstance(sys.stderr, io.TextIOWrapper):
        sys.stderr.reconfigure(errors="backslashreplace")


def discard_stdout() -> None:
    """Send what is still buffered to the null device, or Python's flush at exit would fail."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def check_surroundings() -> None:
    """Raise `SettingError` for what would make PyTorch fail with a traceback, or abort."""
    try:
        Path.cwd()
    except OSError as error:
        raise SettingError("the current folder was deleted; change to another one") from error
    given = [name for name in os.environ if name.startswith("TQDM_")]
    if given:
        try:
            import tqdm  # noqa: F401  # which reads them
        except ValueError as error:
            raise SettingError(f"{', '.join(given)}: {error}; unset what is wrong") from error
