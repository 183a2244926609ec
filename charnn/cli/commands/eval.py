"""`charnn eval`: how well does a model predict a text?"""

import json

import click

from charnn.cli.options import (
    device_option,
    json_option,
    open_checkpoint,
    quiet_option,
    split_checkpoint,
)
from charnn.cli.terminal import status


@click.command("eval", short_help="Measure how well a model predicts a text.")
@click.argument("arguments", nargs=-1, metavar="[CHECKPOINT] [TEXT]...")
@click.option(
    "--protocol",
    type=click.Choice(["stream", "window"]),
    default="stream",
    show_default=True,
    help="stream: one pass, state carried; window: cold windows, state zero at each start. Of a "
    "model of records each is read by itself.",
)
@click.option(
    "--window",
    type=click.IntRange(min=1),
    default=256,
    show_default=True,
    help="Characters of a cold window.",
)
@click.option("--encoding", help="Character encoding of TEXT.  [default: as trained]")
@click.option(
    "--skip-unknown", is_flag=True, help="Leave out characters the model has no index for."
)
@click.option("--int8", is_flag=True, help="Measure what `charnn sample --int8` writes by.")
@device_option
@json_option
@quiet_option
def command(
    arguments: tuple[str, ...],
    protocol: str,
    window: int,
    encoding: str | None,
    skip_unknown: bool,
    int8: bool,
    device: str,
    as_json: bool,
    quiet: bool,
) -> None:
    """Measure how well a model predicts a text, in nats and bits per character.

    CHECKPOINT is a run folder or a .safetensors file; without it, the newest run under
    ./checkpoints. TEXT is what `charnn train` takes; without it, the validation part of the run's
    own corpus.

    \b
    Example:
      charnn eval checkpoints/corpus --protocol window --json
    """
    path, texts = split_checkpoint(arguments, quiet)

    from charnn.device import pick_device
    from charnn.model.evaluate import evaluate
    from charnn.runs.evaluation_text import evaluation_text
    from charnn.sampling.products import Int8Product
    from charnn.sampling.stepper import SteppedNetwork
    from charnn.text.records import indices_of

    loaded = open_checkpoint(path, quiet)
    chosen = evaluation_text(loaded, path.parent, texts, encoding, skip_unknown)
    text, corpus = chosen.text, chosen.corpus
    for note in chosen.notes:
        status(f"note: {note}", quiet)
    network = loaded.network(pick_device(device))
    score = evaluate(network, text, protocol, window)
    loss = None
    if int8:
        rough = SteppedNetwork(network, Int8Product)
        exact, score = score, evaluate(rough, text, protocol, window)
        loss = score.bits_per_char - exact.bits_per_char
    if corpus.is_records:
        protocol = "records"
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
    if loss is not None:
        result["int8_loss_bits_per_char"] = loss
    if as_json:
        click.echo(json.dumps(result))
    else:
        click.echo(
            f"{score.nats_per_char:.4f} nats/char  {score.bits_per_char:.4f} bits/char  "
            f"({result['protocol']}, {score.characters:,} characters)"
            + ("" if loss is None else f"; int8, {loss:+.4f} bits/char beside float32")
        )
