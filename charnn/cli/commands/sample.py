"""`charnn sample`: generate text with a trained model."""

import contextlib
import secrets
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from charnn.cli.checkpoints import one_checkpoint, open_checkpoint
from charnn.cli.help import Command, option
from charnn.cli.options import device_option, quiet_option, settings
from charnn.cli.output import check_output, output
from charnn.cli.records import record_filter, show_table
from charnn.cli.sample_checks import (
    DRAWING,
    RARE_DRAWING,
    note_escapes,
    note_no_effect,
    note_relaxed,
    note_stops,
    note_threads,
    note_unknown,
    refuse_contradictions,
)
from charnn.cli.samples import Form, part_of, write_samples, write_stream
from charnn.cli.terminal import LOGGER, status
from charnn.cli.types import Checkpoint, Clamped, OutPath, Part, Regex, TextFile, Whole
from charnn.config import MAX_THREADS, MAX_WIDTH, SampleConfig
from charnn.errors import SettingError
from charnn.sampling.record_filter import TRIES_PER_RECORD

if TYPE_CHECKING:
    from charnn.sampling.record_filter import RecordFilter
    from charnn.sampling.sample import Sample
    from charnn.sampling.sampler import Sampler
    from charnn.sampling.stopping import StopCriteria


@click.command("sample", cls=Command)
@click.argument("checkpoint", nargs=-1, metavar="[CHECKPOINT]", type=Checkpoint())
@option(
    "--prime", metavar="TEXT", group="Start and end",
    help="Opening text to continue; it is printed too.",
)  # fmt: skip
@option(
    "--prime-file", metavar="FILE", type=TextFile(), group="Start and end",
    help="Read the opening text from a file, or - for stdin.",
)  # fmt: skip
@settings(SampleConfig, "length", group="Start and end")
@option(
    "--stop", multiple=True, metavar="TEXT", group="Start and end",
    help="End before this text; repeatable.",
)  # fmt: skip
@option(
    "--keep-stop", is_flag=True, group="Start and end", rare=True,
    help="End after the text of --stop, not before it.",
)  # fmt: skip
@settings(SampleConfig, *DRAWING, group="Drawing")
@settings(SampleConfig, *RARE_DRAWING, group="Drawing", rare=True)
@option(
    "--clamp", "clamps", type=Clamped(), multiple=True, metavar="L:N=VALUE", group="Drawing",
    rare=True,
    help="Hold unit N of layer L, both from 0, at VALUE in every step: its cell state, or its "
    "hidden state if the cell has no other. Repeatable. `charnn inspect --find` finds units that "
    "are worth it.",
)  # fmt: skip
@option(
    "-n", "--num-samples", type=Whole(1), default=1, metavar="N",
    group="Many samples", help="Number of texts, generated in parallel.",
)  # fmt: skip
@option(
    "--part", type=Part(), metavar="K/N", group="Many samples", rare=True,
    help="Write only the K-th of N parts of the -n texts, so that N processes or machines share "
    "the work: `cat` joins the parts to what -n with --exact writes. Give each the same --seed.",
)  # fmt: skip
@option(
    "--exact", is_flag=True, group="Many samples", rare=True,
    help="Generate each text so that its seed always generates the same text, alone and among "
    "others, on the same machine. A single text then takes several times as long.",
)  # fmt: skip
@option(
    "--best-of", type=Whole(1), metavar="N", group="Many samples",
    help="Generate N texts and print the likeliest one.",
)  # fmt: skip
@option(
    "--beam", type=Whole(1, MAX_WIDTH), metavar="K", group="Many samples",
    rare=True,
    help="Search for the likeliest text with a beam of K, instead of drawing one.",
)  # fmt: skip
@option(
    "--lines", is_flag=True, group="Records", rare=True,
    help="Expect a model that was trained with --lines. Such a model writes records anyway.",
)  # fmt: skip
@option("--unique", is_flag=True, group="Records", help="Keep no record twice.")
@option(
    "--novel",
    is_flag=True,
    group="Records",
    help="Keep no record of your list.",
)
@option(
    "--keep", type=Regex(), metavar="REGEX", group="Records",
    help="Keep only records in which REGEX matches. It has no time limit, and some, such as "
    "(a+)+b, are slow by nature; Ctrl-C ends them.",
)  # fmt: skip
@option(
    "--validator", metavar="CMD", group="Records", rare=True,
    help="Keep records for which CMD prints 1 (one record per line on stdin), not 0.",
)  # fmt: skip
@option(
    "--max-tries", type=Whole(1), metavar="N", group="Records", rare=True,
    help="Maximum number of records to generate.",
    notes=f"default: {TRIES_PER_RECORD} for each requested one",
)  # fmt: skip
@option(
    "--format", "kind", type=click.Choice(["text", "jsonl", "bytes"]), default="text",
    metavar="NAME", group="Output",
    help="One of text, jsonl (JSON lines) and bytes. Each JSON line is an object with index, seed, "
    "prime, text, nats and stop, which is what ended the text. A byte model may write what is not "
    "UTF-8: text shows U+FFFD there, and bytes are exactly those that were generated.",
)  # fmt: skip
@option(
    "--logprobs", type=Whole(0), metavar="K", group="Output", rare=True,
    help="Add to the JSON the nats of each character and of its K likeliest alternatives. A byte "
    "model gives them for bytes, as numbers.",
)  # fmt: skip
@option(
    "--out", type=OutPath(dir_okay=False), metavar="FILE",
    group="Output", help="Write to a new file, or to stdout if it is -.",
)  # fmt: skip
@option("--force", is_flag=True, group="Output", rare=True, help="Replace the file of --out.")
@option(
    "--separator", default="---", metavar="LINE", group="Output", rare=True,
    help="Line between several texts. Records are one a line, without it. On a terminal a heading "
    "with the seed stands there instead.",
)  # fmt: skip
@option(
    "--raw", is_flag=True, group="Output", rare=True,
    help="Send control characters to a terminal unchanged.",
)  # fmt: skip
@option(
    "--int8", is_flag=True, group="General", rare=True,
    help="On a CPU, multiply 8-bit integers: faster, nearly the same text. `charnn eval --int8` "
    "measures the difference.",
)  # fmt: skip
@option(
    "--fp16", is_flag=True, group="General", rare=True,
    help="On a GPU, multiply in float16: faster, nearly the same text.",
)  # fmt: skip
@device_option
@option(
    "--threads", type=Whole(1, MAX_THREADS), metavar="N", group="General", rare=True,
    help="CPU threads.",
    notes="default: all for many texts; for one, which at most 2 compute, the faster of 1 and 2",
)  # fmt: skip
@quiet_option
@click.pass_context
def command(context: click.Context, /, **options: Any) -> None:
    """Generate text with a trained model, character by character, on stdout.

    CHECKPOINT is a run's name, a run folder or a .safetensors file; without it, the
    newest run.

    \b
    Examples:
      charnn sample corpus --prime steep --length 300 --temperature 0.7
      charnn sample -n 100 --stop . --format jsonl --out samples.jsonl
      charnn sample names -n 20 --unique --novel    # records nobody has seen

    \f
    Filters apply in this order: repetition penalty, no repeat, temperature, top-k,
    top-p, min-p, typical.

    The random numbers of a text depend only on its own seed and on the position in the
    text, so the seed of any row, given to --seed, generates that row again. Near-ties
    may fall differently among many rows: of 1,000 texts 999 are equal in float32, about
    950 with --int8, where a last digit may change an 8-bit number. With --exact all are.

    If fewer records pass the filters than were requested, the exit code is 3.
    """
    typed = {name for name in options if _is_typed(context, name)}
    refuse_contradictions(typed, options)
    from charnn.device_name import device_name
    from charnn.model.weights import Weights
    from charnn.sampling.clamp import Clamp
    from charnn.sampling.sampler import Sampler
    from charnn.sampling.stopping import StopCriteria
    from charnn.text.decoding import read_text

    # What needs no checkpoint is checked before anything is said about one.
    config = SampleConfig(**{name: options[name] for name in SampleConfig.names()})
    device = device_name(options["device"])
    note_threads(options["threads"])
    precision = "int8" if options["int8"] else "fp16" if options["fp16"] else "fp32"
    if precision != "fp32":
        from charnn.device import pick_device
        from charnn.sampling.products import check_precision

        check_precision(precision, pick_device(device))
    check_output(options["out"], options["force"])
    path = one_checkpoint(options["checkpoint"], "; to give an opening text use --prime")
    loaded = open_checkpoint(path)
    prime = options["prime"] or ""
    if options["prime_file"] is not None:
        prime = read_text(options["prime_file"], loaded.text)
        prime = prime.removesuffix("\n") if loaded.text.lines else prime
    note_unknown(prime, loaded.tokenizer)
    if loaded.figures.step == 0:
        LOGGER.warning(f"{path}: this model is not trained yet (step 0), so its text is random")
    criteria = StopCriteria(options["stop"], options["keep_stop"])
    wanted = record_filter(loaded, options, typed)
    if wanted is not None and options["part"]:
        raise SettingError(
            "--part is for texts: records are generated until there are enough; give each process "
            "another --seed instead"
        )
    if wanted is not None and "separator" in typed:
        raise SettingError("records are written one a line; leave --separator out")
    sampler = Sampler(
        Weights(loaded.model, loaded.weights), loaded.tokenizer, device=device,
        precision=precision, records=loaded.text.lines, threads=options["threads"] or 0,
        exact=options["exact"],
        clamps=[Clamp(*clamped) for clamped in options["clamps"]],
    )  # fmt: skip
    note_no_effect(typed, config)
    note_stops(options["stop"], loaded.tokenizer)
    note_escapes({"prime": options["prime"], "stop": "".join(options["stop"])})
    if config.seed is None and not options["beam"]:
        config = replace(config, seed=secrets.randbits(32))
        status(f"seed: {config.seed}")
    several = options["num_samples"] > 1 or options["best_of"] or options["beam"]
    is_bytes = options["kind"] == "bytes"
    with (
        output(options["out"], raw=options["raw"], exact=is_bytes, force=options["force"]) as out,
        _torch_threads(sampler, options["threads"], 2 if several else 1),
    ):
        if several or options["kind"] == "jsonl" or wanted is not None:
            samples = _samples(sampler, config, prime, criteria, wanted, options)
            form = Form(loaded, prime, options)
            write_samples(samples, form, out)
        else:
            generation = sampler.stream_bytes(config, prime, criteria)
            write_stream(generation, config.length, loaded.tokenizer, prime, out)
            note_relaxed(generation)
    if wanted is not None:
        show_table(wanted, loaded, options["keep"])


def _is_typed(context: click.Context, name: str) -> bool:
    return context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE


def _torch_threads(
    sampler: "Sampler", threads: int | None, texts: int
) -> contextlib.AbstractContextManager[None]:
    """Let torch, if it generates so many texts, use these threads within the block, or the best
    number."""
    if not sampler.needs_torch(texts):
        return contextlib.nullcontext()
    from charnn.device import thread_count
    from charnn.sampling.sampler import single_stream_threads

    return single_stream_threads() if threads is None and texts == 1 else thread_count(threads or 0)


def _samples(
    sampler: "Sampler",
    config: SampleConfig,
    prime: str,
    criteria: "StopCriteria",
    wanted: "RecordFilter | None",
    options: dict[str, Any],
) -> Iterator["Sample"]:
    """Yield the requested texts, and print a status line about a chosen one."""
    if options["beam"]:
        found = sampler.beam(config, options["beam"], prime, criteria)[:1]
        status(f"beam of {options['beam']}: {found[0].nats_per_char:.4f} nats/{sampler.unit}")
        yield from found
        return
    count, alternatives = options["best_of"] or options["num_samples"], options["logprobs"]
    if wanted is None:
        indices = part_of(count, options["part"])
        generation = sampler.samples(config, indices, prime, criteria, alternatives)
    else:
        generation = sampler.records(config, wanted, prime, criteria, alternatives)
    if options["best_of"]:
        best = min(generation, key=lambda sample: sample.nats_per_char)
        status(f"best of {count}: {best.nats_per_char:.4f} nats/{sampler.unit}, seed {best.seed}")
        yield best
    else:
        yield from generation
    note_relaxed(generation)
