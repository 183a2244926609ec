"""`charnn sample`: a model becomes text."""

import json
import secrets
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from charnn.cli.options import (
    Clamped,
    device_option,
    flag,
    one_checkpoint,
    open_checkpoint,
    quiet_option,
    settings,
)
from charnn.cli.output import Output, counted, output
from charnn.cli.records import (
    NAMES,
    TRIES,
    RecordFilter,
    records_options,
    tell_table,
    wanted_records,
)
from charnn.cli.terminal import status
from charnn.config import SampleConfig

if TYPE_CHECKING:
    from charnn.sampling.sampler import Sampler
    from charnn.sampling.stopping import Sample, StopCriteria
    from charnn.text.tokenizer import Tokenizer

DRAWING = (
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "typical",
    "repetition_penalty",
    "repetition_window",
    "no_repeat",
    "seed",
)
# What would silently be ignored beside an option.
IGNORED = {
    "beam": (*DRAWING, "num_samples", "best_of", "logprobs", *NAMES),
    "best_of": ("num_samples", "beam", *NAMES),
}


@click.command("sample", short_help="Write text with a trained model.")
@click.argument("checkpoint", nargs=-1, metavar="[CHECKPOINT]")
@click.option("--prime", metavar="TEXT", help="The text to go on from; it is printed too.")
@click.option("--prime-file", metavar="FILE|-", help="Read the prime from a file, or stdin.")
@click.option(
    "-n", "--num-samples", type=click.IntRange(min=1), default=1, show_default=True,
    help="Texts to write; many are written at once.",
)  # fmt: skip
@settings(SampleConfig, "length")
@click.option(
    "--stop", multiple=True, metavar="TEXT", help="End before this text; may be given often."
)
@click.option("--keep-stop", is_flag=True, help="End after that text instead.")
@settings(SampleConfig, *DRAWING)
@click.option(
    "--best-of", type=click.IntRange(min=1), metavar="N",
    help="Write N texts and print the one that is likeliest per character.",
)  # fmt: skip
@click.option(
    "--beam", type=click.IntRange(min=1, max=10_000), metavar="K",
    help="Search for the likeliest text with a beam of K, instead of drawing one.",
)  # fmt: skip
@records_options
@click.option(
    "--clamp", "clamps", type=Clamped(), multiple=True, metavar="L:N=VALUE",
    help="Hold unit N of layer L, both from 0, at VALUE in every step: its cell state, or its "
    "hidden state where the cell has no other. May be given often; `charnn inspect --find` finds "
    "units worth it.",
)  # fmt: skip
@click.option(
    "--format", "kind", type=click.Choice(["text", "jsonl"]), default="text", show_default=True,
    help="jsonl: a line each with index, seed, prime, text, nats and what ended it.",
)  # fmt: skip
@click.option(
    "--logprobs", type=click.IntRange(min=0), metavar="K",
    help="In jsonl, the nats of each character and of its K likeliest alternatives; a byte model's "
    "are of bytes, as numbers.",
)  # fmt: skip
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), help="Write to a new file instead."
)
@click.option(
    "--int8", is_flag=True,
    help="On a CPU, products of 8-bit integers: faster, nearly the same (`charnn eval --int8`).",
)  # fmt: skip
@click.option(
    "--fp16", is_flag=True, help="On a GPU, products of float16: faster, nearly the same."
)
@click.option("--raw", is_flag=True, help="Send control characters to a terminal as they are.")
@device_option
@quiet_option
@click.pass_context
def command(context: click.Context, /, **options: Any) -> None:
    """Write text with a trained model, character by character, to stdout.

    CHECKPOINT is a run folder or a .safetensors file; without it, the newest run under
    ./checkpoints. Filters apply in this order: repetition penalty, no repeat, temperature, top-k,
    top-p, min-p, typical. A sample's random numbers depend on its own seed and the place in its
    text only: a row's seed, given to --seed, writes that row again (in float32 a near-tie may fall
    differently among many rows; 999 of 1,000 texts are equal).

    \b
    Example:
      charnn sample checkpoints/corpus --prime steep --length 300 --temperature 0.7
      charnn sample -n 100 --stop . --format jsonl --out samples.jsonl
    """
    typed = {name for name in options if _typed(context, name)}
    _refuse_contradictions(typed, options)
    path = one_checkpoint(options["checkpoint"], options["quiet"])

    from charnn.device import pick_device
    from charnn.sampling.clamp import Clamp
    from charnn.sampling.products import FullProduct, HalfProduct, Int8Product, check_half
    from charnn.sampling.sampler import Sampler, single_stream_threads
    from charnn.sampling.stopping import StopCriteria
    from charnn.text.sources import read_text

    quiet = options["quiet"]
    loaded = open_checkpoint(path, quiet)
    prime = options["prime"] or ""
    if options["prime_file"] is not None:
        prime = read_text(options["prime_file"], loaded.text)
        prime = prime.removesuffix("\n") if loaded.text.lines else prime
    loaded.tokenizer.check(prime)
    config = SampleConfig(**{name: options[name] for name in ("length", *DRAWING)})
    if config.seed is None and not options["beam"]:
        config = replace(config, seed=secrets.randbits(32))
        status(f"seed: {config.seed}", quiet)
    ending = StopCriteria(options["stop"], options["keep_stop"])
    _tell_unwritable(ending, loaded.tokenizer, quiet)
    network = loaded.network(pick_device(options["device"]))
    wanted = wanted_records(loaded, options, typed)
    product = Int8Product if options["int8"] else HalfProduct if options["fp16"] else FullProduct
    if options["fp16"]:
        check_half(network.head.weight.device)
    writer = Sampler(
        network, loaded.tokenizer, product=product, records=loaded.text.lines,
        clamps=[Clamp(*clamped) for clamped in options["clamps"]],
    )  # fmt: skip
    many = options["num_samples"] > 1 or options["kind"] == "jsonl" or wanted is not None
    with output(options["out"], options["raw"]) as out:
        if many or options["best_of"] or options["beam"]:
            samples = _samples(writer, config, prime, ending, wanted, options)
            _write_samples(samples, prime, loaded.tokenizer, out, options)
        else:
            out.write(prime)
            pieces = counted(
                writer.stream(config, prime, ending), config.length, "char", out, quiet
            )
            with single_stream_threads():
                for piece in pieces:
                    out.write(piece)
            out.write("\n")
    if writer.warning:
        status(f"note: {writer.warning}", quiet)
    if writer.yielded:
        status(
            f"note: {writer.yielded:,} times --no-repeat left nothing to write, and yielded", quiet
        )
    if wanted is not None:
        tell_table(wanted, loaded, quiet)


def _typed(context: click.Context, name: str) -> bool:
    return context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE


def _refuse_contradictions(typed: set[str], options: dict[str, Any]) -> None:
    """Options that would silently be ignored, or never end."""
    if {"int8", "fp16"} <= typed:
        raise click.UsageError("give --int8 (on a CPU) or --fp16 (on a GPU), not both")
    if {"prime", "prime_file"} <= typed:
        raise click.UsageError("give --prime or --prime-file, not both")
    for name, ignored in IGNORED.items():
        if name in typed and (others := [flag(other) for other in ignored if other in typed]):
            raise click.UsageError(f"{', '.join(others)} means nothing with {flag(name)}")
    for name, needs in (("keep_stop", "stop"), ("repetition_window", "repetition_penalty")):
        if name in typed and needs not in typed:
            raise click.UsageError(f"{flag(name)} needs {flag(needs)}")
    if "" in options["stop"]:
        raise click.UsageError("--stop '' would end every text before it begins")
    if options["logprobs"] is not None and options["kind"] != "jsonl":
        raise click.UsageError("--logprobs needs --format jsonl")
    several = options["num_samples"] > 1 or options["best_of"] or options["beam"]
    if options["length"] is None and (several or options["kind"] == "jsonl"):
        raise click.UsageError("--length inf is for one text that streams; give a number")


def _tell_unwritable(ending: "StopCriteria", tokenizer: "Tokenizer", quiet: bool) -> None:
    from charnn.errors import VocabularyError

    for text in ending.stops:
        try:
            tokenizer.check(text)
        except VocabularyError as error:
            status(f"note: --stop {text!r} will never be met: {error}", quiet)


def _samples(
    writer: "Sampler",
    config: SampleConfig,
    prime: str,
    ending: "StopCriteria",
    wanted: RecordFilter | None,
    options: dict[str, Any],
) -> Iterator["Sample"]:
    """What was asked for, with the words about it."""
    from charnn.sampling.sampler import ROWS

    quiet = options["quiet"]
    if options["beam"]:
        found = writer.beam(config, options["beam"], prime, ending)[:1]
        status(f"beam of {options['beam']}: {found[0].nats_per_char:.4f} nats/char", quiet)
        yield from found
    elif options["best_of"]:
        count = options["best_of"]
        one = min(
            writer.samples(config, count, prime, ending, options["logprobs"]),
            key=lambda sample: sample.nats_per_char,
        )
        status(f"best of {count}: {one.nats_per_char:.4f} nats/char, seed {one.seed}", quiet)
        yield one
    else:
        count, best = options["num_samples"], options["logprobs"]
        if wanted is None:
            yield from writer.samples(config, count, prime, ending, best)
        else:
            tries, rows = options["max_tries"] or TRIES * count, min(ROWS, count)
            written = writer.samples(config, tries, prime, ending, best, rows)
            yield from wanted.among(written, prime)


def _write_samples(
    samples: Iterator["Sample"], prime: str, tokenizer: "Tokenizer", out: "Output",
    options: dict[str, Any],
) -> None:  # fmt: skip
    quiet, number = options["quiet"], options["num_samples"]
    for sample in counted(samples, number, "text", out, quiet):
        if options["kind"] == "jsonl":
            out.write(json.dumps(_row(sample, prime, tokenizer, options)) + "\n")
            continue
        if number > 1 and out.terminal:
            status(f"\n--- {sample.index + 1} of {number}, seed {sample.seed}", quiet)
        out.write(f"{prime}{sample.text}\n")


def _row(
    sample: "Sample", prime: str, tokenizer: "Tokenizer", options: dict[str, Any]
) -> dict[str, Any]:
    row: dict[str, Any] = {
        "index": sample.index,
        "seed": sample.seed,
        "prime": prime,
        "text": sample.text,
        "nats": sample.nats,
        "stop": sample.stop,
    }
    if options["logprobs"] is not None:
        unit = "byte" if tokenizer.kind == "byte" else "char"  # a byte may be half a character

        def named(symbol: int) -> int | str:
            return symbol if unit == "byte" else tokenizer.decode([symbol])

        row["logprobs"] = [
            {
                unit: named(choice.symbol),
                "nats": choice.nats,
                "best": [[named(symbol), nats] for symbol, nats in choice.best],
            }
            for choice in sample.choices
        ]
    return row
