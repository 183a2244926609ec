"""The record filter that the options of `charnn sample` ask for, and the table of its counts."""

import re
from typing import TYPE_CHECKING, Any

import click

from charnn.cli.options import flag
from charnn.cli.terminal import LOGGER, status
from charnn.errors import SettingError
from charnn.sampling.record_filter import RecordFilter, known_records

if TYPE_CHECKING:
    from charnn.checkpoint import Checkpoint
    from charnn.text.tokenizer import Tokenizer

_NOT_LITERAL = r"\\.|\[\]?.*?\]|\(\?(P?<\w+>|P=\w+|[a-zA-Z]*)|\{.*?\}"  # of a regular expression
NAMES = ("unique", "novel", "keep", "max_tries", "validator")


def record_filter(
    loaded: "Checkpoint", options: dict[str, Any], typed: set[str]
) -> RecordFilter | None:
    """Return the filter that the options ask for; None for a model of plain text, and where one
    likeliest text or a single record is wanted."""
    given = [flag(name) for name in ("lines", *NAMES) if name in typed]
    if not loaded.text.lines:
        if given:
            raise SettingError(
                f"{', '.join(given)}: this model was not trained on records; train one with "
                "`charnn train --lines`, or leave it out"
            )
        return None
    if options["best_of"] or options["beam"] or (options["num_samples"] == 1 and not given):
        return None
    chosen = {name: options[name] for name in NAMES}
    return RecordFilter(options["num_samples"], is_known=known_records(loaded), **chosen)


def show_table(
    wanted: RecordFilter, loaded: "Checkpoint", keep: re.Pattern[str] | None = None
) -> None:
    """Print the table on stderr; exit with code 3 if fewer records than requested were found.

    `keep` is the pattern of the filter, if it has one.
    """
    counts = wanted.counts
    for line in _table(wanted, loaded):
        status(line)
    if counts.kept < counts.requested:
        cut_off = counts.complete < counts.generated / 2
        longer = "--length, so that more of them are complete"
        advice = f"try a higher {longer if cut_off else '--max-tries or --temperature'}"
        advice += "" if keep is None else ", or a looser --keep"
        if keep is not None and counts.kept == 0 and (unknown := _unknown(keep, loaded.tokenizer)):
            advice = f"--keep has {unknown}, which the model does not know"
        LOGGER.error(
            f"found only {counts.kept:,} of {counts.requested:,} records among "
            f"{counts.generated:,} generated; {advice}"
        )
        raise click.exceptions.Exit(3)


def _unknown(keep: re.Pattern[str], tokenizer: "Tokenizer") -> str:
    """Return the letters and digits, quoted, that a pattern names but the model cannot write.

    Escapes, sets and the like are left out, because one of their other characters may match.
    """
    named = {c for c in re.sub(_NOT_LITERAL, "", keep.pattern, flags=re.S) if c.isalnum()}
    cases = (str.lower, str.upper) if keep.flags & re.IGNORECASE else (str,)
    known = set(tokenizer.decode(range(tokenizer.vocabulary_size)))
    unknown = sorted(c for c in named if not known & {case(c) for case in cases})
    return "" if tokenizer.kind == "byte" else ", ".join(map(repr, unknown[:8]))


def _table(wanted: RecordFilter, loaded: "Checkpoint") -> tuple[str, ...]:
    counts, corpus, known = wanted.counts, loaded.corpus, loaded.known
    shares = {"complete": counts.complete, "valid": counts.valid, "unique": counts.unique,
              "unique and novel": counts.novel}  # fmt: skip
    if not wanted.validates:
        del shares["valid"]
    generated = max(1, counts.generated)
    parts = ", ".join(f"{name} {count / generated:.1%}" for name, count in shares.items())
    corpus_length = corpus.train_characters / max(1, corpus.records or 0) - 1
    unit = " bytes" if loaded.tokenizer.unit == "byte" else ""
    false_rejections = 0.0 if known is None else known.false_positive_rate
    return (
        f"requested {counts.requested:,}, generated {counts.generated:,}, kept {counts.kept:,}",
        f"of those generated: {parts}",
        f"novelty check is approximate: {false_rejections:.2%} false rejections",
        f"mean length {counts.mean_length:.1f}{unit}, in the corpus {corpus_length:.1f}",
    )
