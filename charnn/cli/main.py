"""The `charnn` command: find the subcommand, and turn errors into one line and an exit code."""

import contextlib
import errno
import functools
import importlib
import io
import os
import signal
import sys
from typing import Any

import click

from charnn.cli.terminal import LOGGER, logging_to_stderr
from charnn.errors import CharnnError, is_out_of_memory
from charnn.threads import limit_spinning
from charnn.version import __version__

# Name -> first line of its help, so that `charnn --help` imports none of them.
COMMANDS = {
    "train": "Train a model on a text.",
    "sample": "Write text with a trained model.",
    "eval": "Measure how well a model predicts a text.",
    "info": "Tell what is in a checkpoint.",
    "inspect": "Look inside a model while it reads.",
    "runs": "List the runs under ./checkpoints.",
    "plot": "Draw the learning curves of runs.",
    "gradients": "Measure how far back learning reaches.",
    "doctor": "Tell what this machine is and how fast.",
}


# Errors that torch and Python raise for it do not say what would help.
_OUT_OF_MEMORY = (
    "not enough memory for these sizes; try a smaller `hidden_size`, `batch_size` or `seq_len`"
)


class Commands(click.Group):
    """Import a command when it is called; print a `CharnnError` as one line and exit with 1."""

    def list_commands(self, context: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        return _command(name) if name in COMMANDS else None

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def invoke(self, context: click.Context) -> Any:
        _exit_on_signals()
        limit_spinning()
        if isinstance(sys.stdout, io.TextIOWrapper):  # the product is UTF-8 whatever the locale
            sys.stdout.reconfigure(encoding="utf-8", errors="surrogateescape")
        with logging_to_stderr(options_by_setting):
            try:
                return super().invoke(context)
            except CharnnError as error:
                LOGGER.error(str(error))
                raise click.exceptions.Exit(1) from error
            except KeyboardInterrupt as error:
                click.echo(err=True)
                raise click.exceptions.Exit(130) from error
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                LOGGER.error(_OUT_OF_MEMORY)
                raise click.exceptions.Exit(1) from error
            except OSError as error:
                _discard_stdout()
                if error.errno == errno.EPIPE:  # the reader, such as `head`, has enough
                    raise click.exceptions.Exit(0) from error
                LOGGER.error(f"{error.strerror or error}: {error.filename or 'output'}")
                raise click.exceptions.Exit(1) from error


def _command(name: str) -> click.Command:
    module = importlib.import_module(f"charnn.cli.commands.{name}")
    command: click.Command = module.command
    return command


@functools.cache
def options_by_setting() -> dict[str, str]:
    """Return the option of each setting that a command takes, such as `seq_len`: `--seq-len`."""
    return {
        str(option.name): max(option.opts, key=len)
        for name in COMMANDS
        for option in _command(name).params
        if isinstance(option, click.Option)
    }


def _exit_on_signals() -> None:
    """Exit with 128 + N at SIGTERM and SIGHUP; one that is ignored, as by `nohup`, stays so."""
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _exit)


def _exit(number: int, frame: object) -> None:
    raise SystemExit(128 + number)


def _discard_stdout() -> None:
    """Send what is still buffered to /dev/null, or Python's flush at exit would fail again."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="charnn")
def main() -> None:
    """Character-level language models: train on any text, write more of it, measure it.

    \b
    Example:
      charnn train corpus.txt --minutes 5
      charnn sample --prime steep
    """
