"""`charnn sample`: a model becomes text."""

import secrets
import sys
from dataclasses import replace
from pathlib import Path

import click

from charnn.cli.options import device_option, one_checkpoint, quiet_option, settings, tell
from charnn.config import SampleConfig
from charnn.errors import TextError
from charnn.files import explained


@click.command("sample", short_help="Write text with a trained model.")
@click.argument("checkpoint", nargs=-1)
@click.option("--prime", metavar="TEXT", help="The text to go on from; it is printed too.")
@click.option("--prime-file", metavar="FILE|-", help="Read the prime from a file, or stdin.")
@settings(SampleConfig, "length", "temperature", "top_k", "seed")
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
    start = prime or "" if prime_file is None else _read(prime_file)

    from charnn import checkpoint as checkpoints
    from charnn.device import pick_device
    from charnn.sampling.generate import single_stream_threads, stream

    loaded = checkpoints.load(path)
    loaded.tokenizer.check(start)
    network = loaded.network(pick_device(device))
    if config.seed is None:
        config = replace(config, seed=secrets.randbits(32))
        tell(f"seed: {config.seed}", quiet)
    out = sys.stdout
    out.write(start)
    with single_stream_threads():
        for piece in stream(network, loaded.tokenizer, config, start):
            out.write(piece)
            out.flush()
    out.write("\n")
    out.flush()


def _read(name: str) -> str:
    with explained(f"reading the prime from {name}", "check the name"):
        data = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise TextError(
            f"{name}: not utf-8 at byte {error.start}; save the prime as utf-8"
        ) from error
