"""Validators, which say of each record whether it is valid: functions, and commands to run."""

import contextlib
import itertools
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import IO, NamedTuple, cast

from charnn.errors import CharnnError, SettingError
from charnn.words import plural

VALIDATOR_SECONDS = 60.0  # for which a command may run per call
BYTES_PER_ANSWER = 16  # of a command, with its line end
STDERR_BYTES = 1 << 16  # of a command, from its beginning

Validator = Callable[[list[str]], Sequence[bool]]


class _FailedError(CharnnError):
    """A validator failed on some records, perhaps because of a single one of them."""


def valid_answers(validator: Validator, records: list[str]) -> Iterator[bool]:
    """Yield for each record whether it is valid.

    If the validator fails on all records together, it is asked about one after the other, so that
    the answers before the record on which it fails are not lost.
    """
    try:
        yield from _answers(validator, records)
        return
    except _FailedError:
        pass
    for record in records:
        try:
            yield from _answers(validator, [record])
        except _FailedError as error:
            raise CharnnError(f"{error}; the record was {record!r:.80}") from error.__cause__


def _answers(validator: Validator, records: list[str]) -> list[bool]:
    """Return the answers to all records, one bool for each."""
    import numpy as np  # not above, because the command's help loads this module

    try:
        made: object = validator(records)
        count = len(records)
        answers = list(itertools.islice(made, count + 1)) if isinstance(made, Iterable) else None
    except CharnnError:
        raise
    except Exception as error:  # the user's function may raise anything
        raise _FailedError(
            f"the `validator` raised {type(error).__name__}: {_first_line(error)}"
        ) from error
    must = "it must return a bool for each record"
    if answers is None:
        raise CharnnError(f"the `validator` returned {type(made).__name__}; {must}")
    if len(answers) != count:
        given = "more answers" if len(answers) > count else plural(len(answers), "answer")
        raise CharnnError(f"the `validator` gave {given} for {plural(count, 'record')}; {must}")
    for answer in answers:
        if not isinstance(answer, bool | int | np.bool_ | np.integer) or answer not in (0, 1):
            kind = type(answer).__name__
            raise CharnnError(f"the `validator` gave an answer of type {kind}; {must}")
    return list(map(bool, answers))


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or ["no message"])[0][:200]


class CommandValidator:
    """A validator that runs a command.

    The command reads records from stdin, one a line, and prints 1 or 0 for each.
    """

    def __init__(self, command: str) -> None:
        if not command.strip():
            raise SettingError("an empty `validator` cannot be run; give a command")
        self._called = f"the `validator` {command!r:.200}"
        try:
            self._arguments = shlex.split(command)
        except ValueError as error:
            raise SettingError(f"{self._called} cannot be run: {error}") from error

    def __call__(self, records: list[str]) -> list[bool]:
        """Return the command's answers."""
        called, number = self._called, plural(len(records), "record")
        lines = "".join(f"{record}\n" for record in records).encode("utf-8", "surrogateescape")
        must = f"for {number}; it must print 1 or 0 for each"
        try:
            done = _run(self._arguments, lines, BYTES_PER_ANSWER * len(records))
        except subprocess.TimeoutExpired as error:
            raise CharnnError(
                f"{called} took more than {VALIDATOR_SECONDS:g} s for {number}"
            ) from error
        except OSError as error:
            raise CharnnError(f"{called} cannot be run: {error.strerror or error}") from error
        except ValueError as error:
            raise CharnnError(f"{called} cannot be run: {error}") from error
        if done.too_long:
            raise CharnnError(f"{called} printed too much {must}")
        if done.code != 0:
            said = done.stderr.decode("utf-8", "replace").strip().splitlines()
            message = (said or ["no message on stderr"])[-1][:200]
            raise _FailedError(f"{called} failed with exit code {done.code}: {message}")
        answers = done.stdout.split()
        if len(answers) != len(records) or not set(answers) <= {b"0", b"1"}:
            raise CharnnError(f"{called} printed {plural(len(answers), 'answer')} {must}")
        return [answer == b"1" for answer in answers]


class _Reader(threading.Thread):
    """Reads a pipe to its end in the background, and keeps the first `limit` bytes."""

    def __init__(self, pipe: IO[bytes], limit: int, when_full: Callable[[], object]) -> None:
        super().__init__(daemon=True)
        self._pipe, self._limit, self._when_full = pipe, limit, when_full
        self.data = bytearray()
        self.full = False
        self.start()

    def run(self) -> None:
        """Read until the pipe is closed."""
        with self._pipe:
            while data := os.read(self._pipe.fileno(), 1 << 16):
                room = self._limit - len(self.data)
                self.data += data[:room]
                if len(data) > room and not self.full:
                    self.full = True
                    self._when_full()


class _Done(NamedTuple):
    """The end of a command."""

    code: int
    stdout: bytes
    stderr: bytes
    too_long: bool  # stdout had more than the allowed bytes, so the command was killed


def _run(arguments: list[str], data: bytes, limit: int) -> _Done:
    """Run a command with `data` on its stdin, of whose stdout at most `limit` bytes are read.

    Threads read its output, because `subprocess.run` would keep all of it in memory, and would wait
    beyond its timeout for children of the command that hold the pipes open.
    """
    with tempfile.TemporaryFile() as stdin:
        stdin.write(data)
        stdin.seek(0)
        process = subprocess.Popen(
            arguments, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            start_new_session=True,
        )  # fmt: skip
    end = time.monotonic() + VALIDATOR_SECONDS
    out = _Reader(cast(IO[bytes], process.stdout), limit, lambda: _kill(process))
    err = _Reader(cast(IO[bytes], process.stderr), STDERR_BYTES, lambda: None)
    try:
        for reader in (out, err):
            reader.join(max(0.0, end - time.monotonic()))
        if out.is_alive() or err.is_alive():
            raise subprocess.TimeoutExpired(arguments, VALIDATOR_SECONDS)
        process.wait(max(0.0, end - time.monotonic()))
    except BaseException:
        _kill(process)
        raise
    finally:
        process.wait()
    return _Done(process.returncode, bytes(out.data), bytes(err.data), out.full)


def _kill(process: "subprocess.Popen[bytes]") -> None:
    """Kill a command and its children."""
    with contextlib.suppress(OSError):  # it may have ended
        if sys.platform == "win32":
            process.kill()
        else:
            os.killpg(process.pid, signal.SIGKILL)
