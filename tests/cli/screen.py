"""A terminal for a command, and what it then shows."""

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from pathlib import Path

from tests.conftest import ENVIRONMENT

INTERRUPT = b"\x03"


def on_screen(
    width: int, folder: Path, *arguments: str | Path, term: str = "xterm", stop_at: bytes = b""
) -> str:
    """Return what a terminal of this width gets; Ctrl-C is typed there once it got `stop_at`."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, width, 0, 0))
    command = [sys.executable, "-m", "charnn", *map(str, arguments)]
    path = {"PYTHONPATH": str(Path(__file__).parents[2]), "TERM": term}
    inherited = {name: value for name, value in ENVIRONMENT.items() if name != "COLUMNS"}
    process = subprocess.Popen(
        command, stdout=theirs, stderr=theirs, stdin=theirs, cwd=folder, env=inherited | path,
        start_new_session=True, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )  # fmt: skip
    os.close(theirs)
    data, typed = b"", False
    while True:
        try:
            data += os.read(ours, 4096)
        except OSError:  # Linux reports so that the other side is closed
            break
        if stop_at and not typed and stop_at in data:
            typed = bool(os.write(ours, INTERRUPT))
    os.close(ours)
    assert process.wait() == (130 if stop_at else 0)
    return data.decode()


def shown(data: str, width: int) -> list[str]:
    """Return the lines that a terminal of this width shows in the end, without empty ones."""
    rows, row, column = [[" "] * width], 0, 0
    for character in data:
        if character == "\r":
            column = 0
        elif character == "\n":
            row += 1
        else:
            if column == width:
                row, column = row + 1, 0
            rows += [[" "] * width for _ in range(row + 1 - len(rows))]
            rows[row][column] = character
            column += 1
        rows += [[" "] * width for _ in range(row + 1 - len(rows))]
    lines = ("".join(row).rstrip() for row in rows)
    return [line for line in lines if line]
