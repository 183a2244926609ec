"""`charnn inspect`: look inside a model while it reads a text."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from charnn.cli.options import (
    Unit,
    device_option,
    flag,
    json_option,
    open_checkpoint,
    quiet_option,
    split_checkpoint,
)
from charnn.cli.records import Regex
from charnn.cli.terminal import show, status, use_color
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


@click.command("inspect", short_help="Look inside a model while it reads.")
@click.argument("arguments", nargs=-1, metavar="[CHECKPOINT] [TEXT]")
@click.option("--file", metavar="FILE|-", help="Read TEXT from a file, or stdin.")
@click.option(
    "--layer", type=int, metavar="L",
    help="The layer to show, from 0.  [default: the top one; in JSON all]",
)  # fmt: skip
@click.option(
    "--plot", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
    help="Draw the layer's gates and states as heat maps instead, into a .png or .svg.",
)  # fmt: skip
@click.option("--force", is_flag=True, help="Replace the picture that is there.")
@click.option(
    "--unit", type=Unit(), metavar="L:N",
    help="Colour the text by unit N of layer L instead, both from 0: blue -, red +. Without colour "
    "(a pipe, NO_COLOR) its tenths stand above the text, or below it where it is negative.",
)  # fmt: skip
@click.option(
    "--find", is_flag=False, flag_value=ALL, type=click.Choice([*TRACKED, ALL]),
    metavar="[PROPERTY]",
    help="Rank the units by how well they track a property of TEXT, or of the validation part of "
    "the run's own corpus. Without PROPERTY, all of them. CHECKPOINT comes before it.",
)  # fmt: skip
@click.option(
    "--pattern", type=Regex(), metavar="REGEX",
    help="As --find; the property is to be inside a match. ^ and $ are a line's.",
)  # fmt: skip
@device_option
@json_option
@quiet_option
def command(arguments: tuple[str, ...], **options: Any) -> None:
    """Look inside a model while it reads: for each character the gates, the cell state and the
    hidden state, the units that it moved most, and what the model expects next.

    CHECKPOINT is a run folder or a .safetensors file; without it, the newest run under
    ./checkpoints. TEXT is the text itself, "steep" without it; it is read after a line end, as a
    text that `charnn sample` writes without a prime. A unit's value is tanh of its cell state, or
    its hidden state where the cell has no other.

    \b
    Properties, each of the character that was just read:
      quotes    inside double quotes, from the opening one on, without the
                closing one, which is in the same paragraph (or both are \"\"\")
      brackets  inside (), [] or {}, in the same way; an empty line ends them
      line      characters since the line end
      newline, capital, digit, space: what the character is
    Pearson's correlation with a unit's state is told for both halves of the
    text; the first one ranks, and the best of many looks better than it is.

    \b
    Example:
      charnn inspect checkpoints/corpus "steep hills" --plot steep.png
      charnn inspect checkpoints/corpus --find quotes
      charnn inspect checkpoints/corpus --unit 1:17 --file corpus.txt
    """
    _refuse_contradictions(options)
    path, texts = split_checkpoint(arguments, options["quiet"])
    if len(texts) + (options["file"] is not None) > 1:
        raise click.UsageError(
            "one TEXT at most: quote it, and leave it out with --file; CHECKPOINT comes first"
        )

    from charnn.device import pick_device
    from charnn.text.sources import read_text

    loaded = open_checkpoint(path, options["quiet"])
    text = texts[0] if texts else None
    if options["file"] is not None:
        text = read_text(options["file"], loaded.text)
        text = text.removesuffix("\n") if loaded.text.lines else text
    if options["layer"] is not None:
        loaded.model.check_layer(options["layer"])
    if options["unit"] is not None:
        loaded.model.check_unit(*options["unit"])
    if options["plot"] is not None:
        from charnn.insight.plot import check_picture

        check_picture(options["plot"], options["force"])
    device = pick_device(options["device"])
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

    text, quiet = DEFAULT if text is None else text, options["quiet"]
    most = MOST if options["unit"] is None else MOST_OF_A_UNIT
    if len(text) > most:
        status(f"inspecting the first {most:,} of {len(text):,} characters", quiet)
    trace = trace_text(network, loaded.tokenizer, text[:most], loaded.text.lines)
    if unknown := trace.symbols.count(loaded.tokenizer.unknown_index):
        status(f"note: {plural(unknown, 'character')} read as the unknown symbol", quiet)
    layer = loaded.model.num_layers - 1 if options["layer"] is None else options["layer"]
    if options["unit"] is not None:
        _show_unit(path, trace.unit(loaded.tokenizer, *options["unit"]), options["as_json"])
    elif options["plot"] is not None:
        from charnn.insight.plot import draw_trace

        labels = [view.symbol_text(loaded.tokenizer, symbol) for symbol in trace.symbols]
        draw_trace(options["plot"], trace, layer, labels)
        show(str(options["plot"]))
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
