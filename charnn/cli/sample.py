"""`charnn sample`: a model becomes text."""

import secrets
import sys
from dataclasses import replace

import click

from charnn.cli.options import (
    device_option,
    one_checkpoint,
    open_checkpoint,
    quiet_option,
    settings,
)
from charnn.cli.terminal import tell, visible
from charnn.config import SampleConfig


@click.command("sample", short_help="Write text with a trained model.")
@click.argument("checkpoint", nargs=-1, metavar="[CHECKPOINT]")
@click.option("--prime", metavar="TEXT", help="The text to go on from; it is printed too.")
@click.option("--prime-file", metavar="FILE|-", help="Read the prime from a file, or stdin.")
@settings(SampleConfig, "length", "temperature", "top_k", "seed")
@click.option("--raw", is_flag=True, help="Send control characters to a terminal as they are.")
@device_option
@quiet_option
def command(
    checkpoint: tuple[str, ...],
    prime: str | None,
    prime_file: str | None,
    length: int,
    temperature: float,
    top_k: int | None,
    seed: int | None,
    raw: bool,
    device: str,
    quiet: bool,
) -> None:
    """Write text with a trained model, character by character, to stdout.

    CHECKPOINT is a run folder or a .safetensors file; without it, the newest run under
    ./checkpoints.

    \b
    Example:
      charnn sample checkpoints/corpus --prime steep --length 300 --temperature 0.7
    """
    if prime is not None and prime_file is not None:
        raise click.UsageError("give --prime or --prime-file, not both")
    config = SampleConfig(length, temperature, top_k, seed)
    path = one_checkpoint(checkpoint, quiet)

    from charnn.device import pick_device
    from charnn.sampling.generate import single_stream_threads, stream
    from charnn.text.sources import read_text

    loaded = open_checkpoint(path, quiet)
    start = prime or "" if prime_file is None else read_text(prime_file, loaded.text)
    loaded.tokenizer.check(start)
    network = loaded.network(pick_device(device))
    if config.seed is None:
        config = replace(config, seed=secrets.randbits(32))
        tell(f"seed: {config.seed}", quiet)
    out = sys.stdout
    shown = visible if out.isatty() and not raw else str
    out.write(shown(start))
    with single_stream_threads():
        for piece in stream(network, loaded.tokenizer, config, start):
            out.write(shown(piece))
            out.flush()
    out.write("\n")
    out.flush()
