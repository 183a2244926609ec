"""The `charnn` command: finds the subcommand, and turns errors into one line."""

import contextlib
import errno
import importlib
import io
import os
import signal
import sys
from typing import Any

import click

from charnn.cli.terminal import tell
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


_OUT_OF_MEMORY = (
    "not enough memory for these sizes; try a smaller --hidden-size, --batch-size or --seq-len"
)


class Commands(click.Group):
    """Imports a command when it is called; prints a `CharnnError` as one line and exits with 1."""

    def list_commands(self, context: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        return getattr(importlib.import_module(f"charnn.cli.commands.{name}"), "command")  # noqa: B009

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def invoke(self, context: click.Context) -> Any:
        if signal.getsignal(signal.SIGTERM) is not signal.SIG_IGN:
            signal.signal(signal.SIGTERM, _terminate)
        limit_spinning()
        if isinstance(sys.stdout, io.TextIOWrapper):  # the product is UTF-8 whatever the locale
            sys.stdout.reconfigure(encoding="utf-8", errors="surrogateescape")
        try:
            return super().invoke(context)
        except CharnnError as error:
            tell(f"error: {error}")
            raise click.exceptions.Exit(1) from error
        except KeyboardInterrupt as error:
            click.echo(err=True)
            raise click.exceptions.Exit(130) from error
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            tell(f"error: {_OUT_OF_MEMORY}")
            raise click.exceptions.Exit(1) from error
        except OSError as error:
            if error.errno != errno.EPIPE:
                tell(f"error: {error.strerror or error}: {error.filename or 'output'}")
                _quiet_pipe()
                raise click.exceptions.Exit(1) from error
            _quiet_pipe()  # the reader (`head`) has what it wanted
            raise click.exceptions.Exit(0) from error


def _terminate(number: int, frame: object) -> None:
    raise SystemExit(128 + number)


def _quiet_pipe() -> None:
    """Let Python's own flush at exit write into nothing instead of the closed pipe."""
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
