"""`charnn inspect`: look inside a model while it reads a text."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from charnn.cli.checkpoints import open_checkpoint, split_checkpoint
from charnn.cli.help import Command, option
from charnn.cli.options import device_option, flag, json_option, quiet_option
from charnn.cli.terminal import LOGGER, show, show_path, status, use_color
from charnn.cli.types import CheckpointOrText, OutPath, Regex, TextFile, Unit, Whole
from charnn.cli.unit_table import TRACKED, show_found
from charnn.words import plural

if TYPE_CHECKING:
    from charnn.checkpoint import Checkpoint
    from charnn.insight.trace import UnitTrace
    from charnn.model.network import CharNetwork

DEFAULT = "steep"
MOST, MOST_OF_A_UNIT = 400, 2000  # characters that are shown, and with --unit
ALL = "all"
# The options that cannot be combined with an option.
IGNORED = {
    "find": ("layer", "unit", "plot", "pattern"),
    "pattern": ("layer", "unit", "plot"),
    "unit": ("layer", "plot"),
    "plot": ("as_json",),
}


@click.command("inspect", cls=Command)
@click.argument("arguments", nargs=-1, metavar="[CHECKPOINT] [TEXT]", type=CheckpointOrText())
@option(
    "--file", metavar="FILE", type=TextFile(), group="Text",
    help="Read TEXT from a file, or - for stdin.",
)  # fmt: skip
@option(
    "--layer", type=Whole(0), metavar="L", group="Show",
    help="Layer to show, from 0.", notes="default: top; in JSON all",
)  # fmt: skip
@option(
    "--unit", type=Unit(), metavar="L:N", group="Show",
    help="Colour TEXT by unit N of layer L, both from 0. Blue is negative, red is positive. "
    "Without colour (in a pipe, or with NO_COLOR), tenths of the value stand above the text, or "
    "below it if negative.",
)  # fmt: skip
@option(
    "--find", is_flag=False, flag_value=ALL, type=click.Choice([*TRACKED, ALL]),
    metavar="[PROPERTY]", group="Show",
    help="Rank units by how well they track a property of the text. The text is TEXT, or the "
    "validation part of the run's own text. Without PROPERTY, all properties are ranked. "
    "CHECKPOINT comes before this option.",
)  # fmt: skip
@option(
    "--pattern", type=Regex(), metavar="REGEX", group="Show",
    help="Rank units by how well they track being inside a match. In REGEX, ^ and $ match at line "
    "ends. It has no time limit; Ctrl-C ends a slow one.",
)  # fmt: skip
@option(
    "--plot", type=OutPath(dir_okay=False), metavar="FILE", group="Output",
    help="Draw gates and states of the layer as a .png or .svg.",
)  # fmt: skip
@option("--force", is_flag=True, group="Output", rare=True, help="Replace an existing picture.")
@json_option
@device_option
@quiet_option
def command(arguments: tuple[str, ...], **options: Any) -> None:
    """Show what happens inside a model while it reads, character by character.

    CHECKPOINT is a run's name, a run folder or a .safetensors file; without it, the
    newest run. TEXT is the text itself; without it, "steep".

    \b
    Examples:
      charnn inspect corpus "steep hills"
      charnn inspect corpus --find quotes            # which units track quotes?
      charnn inspect corpus --unit 1:17 --file corpus.txt

    \f
    The table has a row per character: the gates, the cell state and the hidden state,
    the units that changed most, and the predicted next characters. TEXT is read as if
    it followed a line end, like a text that `charnn sample` starts without a prime. The
    value of a unit is tanh of its cell state, or its hidden state if the cell has no
    other.

    \b
    Properties, each of the character that was just read:
      quotes    inside double quotes: from the opening one up to the closing one,
                which is in the same paragraph (or both are \"\"\")
      brackets  inside (), [] or {}, likewise; an empty line ends them
      line      number of characters since the last line end
      newline, capital, digit, space
                what the character itself is

    Pearson's correlation with the state of a unit is shown for both halves of the text.
    The first half ranks the units and the second half checks them, since the best of
    many looks better than it is.
    """
    _refuse_contradictions(options)

    from charnn.device import pick_device

    # What needs no checkpoint is checked before anything is said about one.
    device = pick_device(options["device"])
    if options["plot"] is not None:
        from charnn.insight.plot import check_picture

        check_picture(options["plot"], options["force"])
    path, texts = split_checkpoint(arguments, paths=False)
    if len(texts) + (options["file"] is not None) > 1:
        raise click.UsageError(
            "one TEXT at most: quote it, and leave it out with --file; CHECKPOINT comes first"
        )

    from charnn.insight.units import MAX_CHARACTERS
    from charnn.text.decoding import read_text

    loaded = open_checkpoint(path)
    text = texts[0] if texts else None
    if options["file"] is not None:
        text = read_text(options["file"], loaded.text, MAX_CHARACTERS)
        text = text.removesuffix("\n") if loaded.text.lines else text
    if options["layer"] is not None:
        loaded.model.check_layer(options["layer"])
    if options["unit"] is not None:
        loaded.model.check_unit(*options["unit"])
    if options["find"] is not None or options["pattern"] is not None:
        show_found(path, loaded, loaded.network(device), text, options)
    else:
        _show_trace(path, loaded, loaded.network(device), text, options)


def _refuse_contradictions(options: dict[str, Any]) -> None:
    given = {name for name, value in options.items() if value is not None and value is not False}
    for name, ignored in IGNORED.items():
        if name in given and (others := [other for other in ignored if other in given]):
            flags = ", ".join("--json" if other == "as_json" else flag(other) for other in others)
            raise click.UsageError(f"{flag(name)} cannot be combined with {flags}")
    if "force" in given and "plot" not in given:
        raise click.UsageError("--force needs --plot")


def _show_trace(
    path: Path, loaded: "Checkpoint", network: "CharNetwork", text: str | None,
    options: dict[str, Any],
) -> None:  # fmt: skip
    """Print or draw the gates and states while the model reads a text."""
    from charnn.cli import view
    from charnn.insight.trace import trace_text

    text = DEFAULT if text is None else text
    most = MOST if options["unit"] is None else MOST_OF_A_UNIT
    if len(text) > most:
        status(f"inspecting the first {most:,} characters")
    trace = trace_text(network, loaded.tokenizer, text[:most], loaded.text.lines)
    if unknown := trace.symbols.count(loaded.tokenizer.unknown_index):
        LOGGER.warning(f"{plural(unknown, 'character')} read as the unknown symbol")
    layer = loaded.model.num_layers - 1 if options["layer"] is None else options["layer"]
    if options["unit"] is not None:
        _show_unit(path, trace.unit(loaded.tokenizer, *options["unit"]), options["as_json"])
    elif options["plot"] is not None:
        from charnn.insight.plot import draw_trace

        labels = [view.symbol_text(loaded.tokenizer, symbol) for symbol in trace.symbols]
        draw_trace(options["plot"], trace, layer, labels)
        show_path(options["plot"])
    elif options["as_json"]:
        layers = range(loaded.model.num_layers) if options["layer"] is None else (layer,)
        result = trace.to_json(loaded.tokenizer, layers)
        click.echo(json.dumps({"checkpoint": str(path), **result}))
    else:
        for row in view.table(trace, layer, loaded.tokenizer):
            show(row)


def _show_unit(path: Path, unit: "UnitTrace", as_json: bool) -> None:
    """Print the text with the values of one unit: in colour, as digits or as JSON."""
    from charnn.cli import view

    if as_json:
        click.echo(json.dumps({"checkpoint": str(path), **unit.to_json()}))
        return
    name, values = f"{unit.state} {unit.layer}:{unit.unit}", unit.values
    if unit.state == "cell":
        name, values = f"tanh {name}", values.tanh()
    if use_color(sys.stdout):
        click.echo(view.coloured(unit.text, values.tolist(), name), color=True)
        return
    for row in view.plain(unit.text, values.tolist(), name):
        show(row)
