"""Help that fits a screen, and an answer to options that other tools have under another name.

`--help` shows the options that most users need, in groups, each with the first sentence of its
help; `--help-all` shows everything.
"""

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

import click

from charnn.cli.columns import screen_columns
from charnn.cli.synonyms import our_name

Decorated = TypeVar("Decorated", bound=Callable[..., Any])
MORE = "\f"  # on a line of a command's docstring: only --help-all shows what follows
TERM_WIDTH = 26  # columns of an option and its metavar; a longer one gets a line of its own
NO_DOCSTRINGS = "(python -OO removes this text, a docstring; start charnn without -OO to read it.)"
_JOIN = "\u00a0"  # a space at which no line is broken; `get_help` makes it a plain one
_FULL = "charnn.full_help"  # key of the click context's `meta`
HELP_NAMES = ["-h", "--help"]
_HELP = [
    ("-h, --help", "Show this help and exit."),
    ("--help-all", "Show every option, with all details, and exit."),
]


class Option(click.Option):
    """An option that belongs to a group of the help; only --help-all shows one that is `rare`.

    `notes` stand in brackets after the help: the default, or limits that a user needs to know.
    """

    def __init__(
        self, *args: Any, group: str = "Options", rare: bool = False, notes: str = "", **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.group, self.rare, self.notes = group, rare, notes
        if self.metavar is None and isinstance(self.type, click.Choice):
            self.metavar = f"[{'|'.join(map(str, self.type.choices))}]"

    def row(self, full: bool) -> tuple[str, str]:
        """Return the option as it is typed, and its help, of which the first sentence may do."""
        help = self.help or ""
        if not full and ". " in help:
            help = help[: help.index(". ") + 1]
        notes = f"[{self.notes.replace(': ', f':{_JOIN}')}]" if self.notes else ""
        term = ", ".join(sorted(self.opts, key=len))
        return f"{term} {self.metavar or ''}".rstrip(), f"{help} {notes}".rstrip()


def option(*names: str, **settings: Any) -> Callable[[Decorated], Decorated]:
    """Return a decorator that adds an `Option`, whose default its notes tell."""
    default = settings.get("default")
    notes = [settings.pop("notes", ""), "" if default is None else f"default: {default}"]
    return click.option(*names, cls=Option, notes="; ".join(filter(None, notes)), **settings)


class _Formatter(click.HelpFormatter):
    """Lines as wide as the terminal, 80 columns at most; click's are at least 50 columns wide."""

    def __init__(self, width: int | None = None, max_width: int | None = None) -> None:
        super().__init__(width=width or screen_columns() - 2)


class _Context(click.Context):
    formatter_class = _Formatter


class Command(click.Command):
    """A command whose help has groups and a short form, and that knows other tools' options."""

    context_class = _Context

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.append(
            click.Option(
                ["--help-all"], is_flag=True, is_eager=True, expose_value=False,
                callback=_print_full_help,
            )
        )  # fmt: skip

    def get_help(self, ctx: click.Context) -> str:
        return super().get_help(ctx).replace(_JOIN, " ")

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        text, _, details = inspect.cleandoc(self.help or NO_DOCSTRINGS).partition(MORE)
        formatter.write_paragraph()
        with formatter.indentation():
            formatter.write_text(text.rstrip())
            if ctx.meta.get(_FULL) and details:
                formatter.write_paragraph()
                formatter.write_text(details.strip("\n"))

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        full = ctx.meta.get(_FULL, False)
        groups: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            if isinstance(param, Option) and (full or not param.rare):
                groups.setdefault(param.group, []).append(param.row(full))
        groups.setdefault(next(reversed(groups), "Options"), []).extend(_HELP)
        width = max(len(term) for rows in groups.values() for term, _ in rows)
        width = min(width, TERM_WIDTH, formatter.width // 3)
        for group, rows in groups.items():
            with formatter.section(group):  # padded, so that the groups share one column
                formatter.write_dl([(f"{term:<{width}}", text) for term, text in rows], width)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            options = [name for param in self.params for name in param.opts]
            ours = our_name(error.option_name, options, " ".join(self.collect_usage_pieces(ctx)))
            if not ours:
                raise
            takes = [param for param in self.params if ours in param.opts and param.metavar]
            ours = f"{ours} {takes[0].metavar}" if takes else ours
            what = "use" if ours.startswith("--") else "it is an argument, without an option:"
            message = f"no such option: {error.option_name}; {what} {ours}"
            raise click.UsageError(message, ctx) from error


def full_help(command: click.Command, name: str) -> str:
    """Return what `name --help-all` prints in a terminal of 80 columns."""
    context = click.Context(
        command, info_name=name, terminal_width=78, help_option_names=HELP_NAMES
    )
    context.meta[_FULL] = True
    return command.get_help(context)


def _print_full_help(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        ctx.meta[_FULL] = True
        click.echo(ctx.get_help())
        ctx.exit()
