"""`charnn eval`: measure how well a model predicts a text."""

import json

import click

from charnn.cli.checkpoints import open_checkpoint, run_argument, split_checkpoint
from charnn.cli.help import Command, option
from charnn.cli.options import device_option, encoding_options, json_option, quiet_option
from charnn.cli.terminal import LOGGER
from charnn.cli.types import Checkpoint, Whole
from charnn.errors import text_named_by
from charnn.words import loss, plural

COMMANDLINE = click.core.ParameterSource.COMMANDLINE


@click.command("eval", cls=Command)
@click.argument("arguments", nargs=-1, metavar="[CHECKPOINT] [TEXT]...", type=Checkpoint())
@option(
    "--protocol", type=click.Choice(["stream", "window"]), default="stream", group="Measure",
    help="One pass, or cold windows. A pass carries the state on to the end of the text, and each "
    "window starts from the zero state. A model of records reads each record by itself.",
)  # fmt: skip
@option(
    "--window", type=Whole(1), default=256, metavar="N", group="Measure",
    help="Characters per window.",
)  # fmt: skip
@option(
    "--int8", is_flag=True, group="Measure",
    help="Measure the 8-bit model of `charnn sample --int8`.",
)  # fmt: skip
@encoding_options
@json_option
@device_option
@quiet_option
def command(
    arguments: tuple[str, ...],
    protocol: str,
    window: int,
    encoding: str | None,
    encoding_errors: str | None,
    skip_unknown: bool,
    int8: bool,
    device: str,
    as_json: bool,
) -> None:
    """Measure how well a model predicts a text, in nats and bits per character.

    CHECKPOINT is a run's name, a run folder or a .safetensors file; without it, the
    newest run. TEXT is files, folders or globs; without it, the validation part of the
    run's own text.

    \b
    Examples:
      charnn eval corpus
      charnn eval corpus other.txt --protocol window --json
    """
    context = click.get_current_context()
    if context.get_parameter_source("window") is COMMANDLINE and protocol != "window":
        raise click.UsageError("--window needs --protocol window")
    path, texts = split_checkpoint(arguments)

    from charnn.device import pick_device
    from charnn.model.evaluate import evaluate
    from charnn.runs.evaluation_text import evaluation_text
    from charnn.sampling.folded_engine import SteppedNetwork
    from charnn.sampling.products import Int8Product
    from charnn.text.records import indices_of

    loaded = open_checkpoint(path)
    if loaded.text.lines and context.get_parameter_source("protocol") is COMMANDLINE:
        raise click.UsageError("--protocol is for running text; records are each read on their own")
    with text_named_by(f"`charnn eval {run_argument(path)} TEXT`"):
        chosen = evaluation_text(
            loaded, path.parent, texts, encoding, encoding_errors, skip_unknown
        )
    text, corpus = chosen.text, chosen.corpus
    for note in chosen.notes:
        LOGGER.warning(note)
    network = loaded.network(pick_device(device))
    score = evaluate(network, text, protocol, window)
    lost = None
    if int8:
        rough = SteppedNetwork(network, Int8Product)
        exact, score = score, evaluate(rough, text, protocol, window)
        lost = score.bits_per_char - exact.bits_per_char
    if corpus.is_records:
        protocol = "records"
    per_char = loaded.tokenizer.bytes_per_char(indices_of(text))
    result = {
        "protocol": f"window {window}" if protocol == "window" else protocol,
        "nats_per_char": score.nats_per_char,
        "bits_per_char": score.bits_per_char,
        "characters": score.characters,
        "unknown": corpus.unknown
        if texts
        else int((indices_of(text) == loaded.tokenizer.unknown_index).sum()),
        "checkpoint": str(path),
    }
    if loaded.text.tokenizer == "byte":
        result |= {"nats_per_byte": score.nats_per_char, "bits_per_byte": score.bits_per_char}
        result["bytes_per_char"] = per_char
    if lost is not None:
        result["int8_loss_bits_per_char"] = lost
    if as_json:
        click.echo(json.dumps(result))
    else:
        unit, noun = loaded.tokenizer.unit, loaded.tokenizer.noun
        shown = loss(score.nats_per_char, unit).replace(", ", "  ")
        also = f"; {loss(score.nats_per_char * per_char, 'char')}" if per_char else ""
        compared = f"; int8: {lost:+.4f} bits/{unit} compared with float32" if int8 else ""
        of = plural(score.characters, noun)
        click.echo(f"{shown}  ({result['protocol']}, {of}{also}){compared}")
