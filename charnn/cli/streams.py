"""Standard streams that may be closed, full, or in the encoding of an old locale."""

import contextlib
import io
import os
import sys


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
