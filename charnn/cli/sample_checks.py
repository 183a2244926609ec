"""Checks of the options of `charnn sample`, and notes about those without effect."""

import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from charnn.cli.options import flag
from charnn.cli.records import NAMES
from charnn.cli.terminal import LOGGER
from charnn.config import SampleConfig
from charnn.words import plural

if TYPE_CHECKING:
    from charnn.sampling.generation import Generation
    from charnn.text.tokenizer import Tokenizer

DRAWING = ("temperature", "top_k", "top_p", "seed")
RARE_DRAWING = ("min_p", "typical", "repetition_penalty", "repetition_window", "no_repeat")
NO_EFFECT_ON_THE_LIKELIEST = ("seed", "top_k", "top_p", "min_p", "typical", "best_of")
# Names of stdout, to be written to and not replaced by a file.
STDOUT = tuple(map(Path, ("-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")))
# Options that would silently be ignored beside another.
IGNORED = {
    "beam": (*DRAWING, *RARE_DRAWING, "num_samples", "best_of", "logprobs", *NAMES),
    "best_of": ("num_samples", "beam", *NAMES),
    "part": ("beam", "best_of", *NAMES),
}


def refuse_contradictions(typed: set[str], options: dict[str, Any]) -> None:
    """Refuse options that would silently be ignored, or that would never end."""
    if {"int8", "fp16"} <= typed:
        raise click.UsageError("give only one of --int8 (on a CPU) and --fp16 (on a GPU)")
    options["exact"] = options["exact"] or options["part"] is not None
    if options["exact"] and options["fp16"]:
        raise click.UsageError("--exact and --part are not for --fp16; leave one out")
    if "part" in typed and not {"num_samples", "seed"} <= typed:
        raise click.UsageError("--part needs -n N and --seed N, the same for all parts")
    if {"prime", "prime_file"} <= typed:
        raise click.UsageError("give only one of --prime and --prime-file")
    for name, ignored in IGNORED.items():
        if name in typed and (others := [flag(other) for other in ignored if other in typed]):
            raise click.UsageError(f"{', '.join(others)} cannot be combined with {flag(name)}")
    for name, needs in (("keep_stop", "stop"), ("repetition_window", "repetition_penalty")):
        if name in typed and needs not in typed:
            raise click.UsageError(f"{flag(name)} needs {flag(needs)}")
    if "" in options["stop"]:
        raise click.UsageError("--stop '' would end every text before it begins")
    if options["logprobs"] is not None and options["kind"] != "jsonl":
        raise click.UsageError("--logprobs needs --format jsonl")
    if options["out"] in STDOUT:
        options["out"] = None
    if options["force"] and options["out"] is None:
        raise click.UsageError("--force needs --out FILE")
    if "separator" in typed and (options["kind"] == "jsonl" or options["num_samples"] == 1):
        raise click.UsageError("--separator is for several texts, -n N, that are not JSON lines")
    to_terminal = options["out"] is None and not options["raw"] and sys.stdout.isatty()
    if options["kind"] == "bytes" and to_terminal:
        raise click.UsageError(
            "--format bytes may upset a terminal; redirect it, or add --out FILE or --raw"
        )
    several = options["num_samples"] > 1 or options["best_of"] or options["beam"]
    if options["length"] is None and (several or options["kind"] == "jsonl"):
        raise click.UsageError("--length inf is for one text that streams; give a number")


def note_no_effect(typed: set[str], config: SampleConfig) -> None:
    """Note the options that change nothing where the likeliest character is always taken."""
    without = [flag(name) for name in NO_EFFECT_ON_THE_LIKELIEST if name in typed]
    if config.temperature == 0 and without:
        LOGGER.warning(
            f"--temperature 0 takes the likeliest character: {', '.join(without)} cannot change it"
        )


def note_threads(threads: int | None) -> None:
    """Note that more threads than cores only wait for each other."""
    if threads and threads > (cores := os.cpu_count() or threads):
        LOGGER.warning(f"--threads {threads}: this machine has {plural(cores, 'core')}")


def note_unknown(prime: str, tokenizer: "Tokenizer") -> None:
    """Warn of characters of the prime that the model reads as its unknown symbol."""
    symbols = tokenizer.fold(prime).tolist()  # raises if it has none
    if tokenizer.unknown_index is not None and (count := symbols.count(tokenizer.unknown_index)):
        LOGGER.warning(f"{plural(count, 'character')} of the prime read as the unknown symbol")


def note_stops(stops: Sequence[str], tokenizer: "Tokenizer") -> None:
    """Warn of texts of --stop that the model cannot write."""
    from charnn.errors import VocabularyError

    for text in stops:
        try:
            tokenizer.check(text)
        except VocabularyError as error:
            LOGGER.warning(f"--stop {text[:40]!r} cannot be generated: {error}")


def note_escapes(typed: dict[str, str | None]) -> None:
    """Warn of escapes such as \\n, which a shell passes on as a backslash and a letter."""
    for name, text in typed.items():
        if text and (escape := re.search(r"\\([abefnrtv]|x[0-9a-fA-F]{2})", text)):
            LOGGER.warning(
                f"{escape[0]} in {flag(name)} is read as it stands, a backslash and a letter; for "
                f"the character, type $'{escape[0]}' (in bash or zsh)"
            )


def note_relaxed(generation: "Generation[Any]") -> None:
    """Warn if --no-repeat had to be ignored."""
    if generation.relaxed:
        symbols = plural(generation.relaxed, "character")
        LOGGER.warning(f"--no-repeat was ignored for {symbols}, where it left nothing to draw")
