"""The `charnn` command: find the subcommand, and turn errors into one line and an exit code."""

import contextlib
import errno
import functools
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import click
from click.shell_completion import shell_complete

from charnn.cli.help import HELP_NAMES, Command, Option
from charnn.cli.signals import EXIT
from charnn.cli.surroundings import check_surroundings, discard_stdout, prepare_streams
from charnn.cli.terminal import LOGGER, STDERR, logging_to_stderr
from charnn.errors import CharnnError, SettingError, is_out_of_memory
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
    "check": "Check runs for damage, and repair them.",
    "plot": "Draw the learning curves of runs.",
    "gradients": "Measure how far back in the text learning reaches.",
    "doctor": "Show versions, devices and the speed of this machine.",
    "completion": "Print the script for shell completion.",
}

COMPLETE = "_CHARNN_COMPLETE"  # the environment variable by which a completion script asks
# Errors that torch and Python raise for it do not say what would help. Any command may meet them,
# so that this names no option; training has a message of its own.
_OUT_OF_MEMORY = "not enough memory; use a smaller model, a shorter text or fewer texts at once"


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

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        # Click's versions disagree about the stream and the exit code.
        if not args and not ctx.resilient_parsing:
            click.echo(ctx.get_help(), STDERR)
            ctx.exit(2)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        check_surroundings()
        return super().invoke(ctx)

    def main(
        self, args: Sequence[str] | None = None, prog_name: str | None = None,
        complete_var: str | None = None, standalone_mode: bool = True, **extra: Any,
    ) -> NoReturn:  # fmt: skip
        """Run a command line and exit: every error is one line, every exit code documented.

        It replaces click's own, which has several lines for an error and other exit codes.
        """
        prepare_streams()
        limit_spinning()
        arguments = list(sys.argv[1:] if args is None else args)
        with logging_to_stderr(options_by_setting, arguments):
            code = _exit_code(functools.partial(self._run, arguments, extra))
        EXIT.finished()
        sys.exit(code)

    def _run(self, arguments: list[str], settings: dict[str, Any]) -> int:
        if instruction := os.environ.get(COMPLETE):
            return self._complete(instruction, settings)
        with self.make_context("charnn", arguments, **settings) as context:
            self.invoke(context)
        return 0

    def _complete(self, instruction: str, settings: dict[str, Any]) -> int:
        """Print the completions that a shell's script asks for."""
        with contextlib.suppress(KeyError, ValueError):  # variables that the script sets too
            if shell_complete(self, settings, "charnn", COMPLETE, instruction) == 0:
                return 0
        raise SettingError(f"{COMPLETE} is set to {instruction!r} outside of a script; unset it")


def _exit_code(run: Callable[[], int]) -> int:
    """Return the exit code of a command line; print its error."""
    try:
        try:
            code = run()
        except click.exceptions.Exit as end:
            code = end.exit_code
        sys.stdout.flush()
        return code
    except click.ClickException as error:
        LOGGER.error(_usage_line(error), extra={"verbatim": True})
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except CharnnError as error:
        LOGGER.error(str(error))
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        LOGGER.error(_OUT_OF_MEMORY)
    except OSError as error:
        discard_stdout()
        if error.errno == errno.EPIPE:  # the reader, such as `head`, has enough
            return 0
        LOGGER.error(_explained(error))
    return 1


def _usage_line(error: click.ClickException) -> str:
    """Return what click says in several lines as one, with the command that explains more."""
    message = error.format_message().replace("\n\t", " ").rstrip(".")
    message = message[:1].lower() + message[1:]
    context = getattr(error, "ctx", None)
    return f"{message}; see `{context.command_path} --help`" if context else message


def _explained(error: OSError) -> str:
    """Return one line about an error of the system that no command expected."""
    if "temporary directory" in str(error):  # Python's words; PyTorch needs one to train
        return "no folder for temporary files; set TMPDIR to a folder with free space"
    where, why = error.filename or "output", error.strerror or str(error)
    return f"{where}: {why[:1].lower()}{why[1:]}; check the path, its permissions and its disk"


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


@click.group("charnn", cls=Commands, context_settings={"help_option_names": HELP_NAMES})
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
      1    an error, explained in one line on stderr, or damage (charnn check)
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
