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

from charnn.cli.help import HELP_NAMES, Command, Option
from charnn.cli.terminal import LOGGER, logging_to_stderr
from charnn.errors import CharnnError, is_out_of_memory
from charnn.threads import limit_spinning
from charnn.version import __version__

# Name -> what it does, so that `charnn --help` imports none of them.
COMMANDS = {
    "train": "Train a model on a text.",
    "sample": "Generate text with a trained model.",
    "eval": "Measure how well a model predicts a text.",
    "info": "Show what is in a checkpoint.",
    "inspect": "Show what happens inside a model while it reads.",
    "runs": "List the runs under ./checkpoints.",
    "plot": "Draw the learning curves of runs.",
    "gradients": "Measure how far back in the text learning reaches.",
    "doctor": "Show versions, devices and the speed of this machine.",
    "completion": "Print the script for shell completion.",
}


# Errors that torch and Python raise for it do not say what would help.
_OUT_OF_MEMORY = (
    "not enough memory for these sizes; try a smaller `hidden_size`, `batch_size` or `seq_len`"
)


class Commands(Command, click.Group):
    """Import a command when it is called; print a `CharnnError` as one line and exit with 1."""

    def list_commands(self, context: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        return _command(name) if name in COMMANDS else None

    def format_options(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))
        super().format_options(context, formatter)

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
                LOGGER.error(_explained(error))
                raise click.exceptions.Exit(1) from error


def _explained(error: OSError) -> str:
    """Return one line about an error of the system that no command expected."""
    if "temporary directory" in str(error):  # Python's words; PyTorch needs one to train
        return "no folder for temporary files; set TMPDIR to a folder with free space"
    return f"{error.strerror or error}: {error.filename or 'output'}"


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


@click.group(cls=Commands, context_settings={"help_option_names": HELP_NAMES})
@click.version_option(__version__, prog_name="charnn", cls=Option, help="Print the version.")
def main() -> None:
    """Train character-level language models, generate text with them, and measure them.

    \b
    Examples:
      charnn train corpus.txt --minutes 5    # the name of this run is corpus
      charnn sample corpus --prime steep
      charnn COMMAND --help

    \f
    Where a command takes a CHECKPOINT, that is the name of a run under ./checkpoints, a
    run folder or a .safetensors file; without it, the newest run. Results are printed
    on stdout; progress, notes and errors on stderr.

    \b
    Exit codes:
      0    success
      1    an error, explained in one line on stderr
      2    wrong usage, such as an unknown option
      3    fewer results than requested (charnn sample)
      129  stopped by SIGHUP, such as a closed terminal
      130  stopped by SIGINT (Ctrl-C)
      143  stopped by SIGTERM

    \b
    Environment variables:
      NO_COLOR      turn colour off
      FORCE_COLOR   turn colour on, even in a pipe
      CHARNN_CACHE  folder for the cached texts of large corpora

    \b
    Shell completion of commands, options, runs and files:
      charnn completion bash >> ~/.bashrc    # or zsh, fish; see its --help
    """
