"""Which of many records are wanted, and a table of how many were."""

import itertools
import re
import shlex
import subprocess
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click

from charnn.cli.options import flag
from charnn.cli.terminal import status
from charnn.errors import CharnnError, SettingError

if TYPE_CHECKING:
    from charnn.checkpoint import Checkpoint
    from charnn.sampling.stopping import Sample

TRIES = 20  # for each record that is asked for, unless told otherwise
AT_ONCE = 256  # records that a validator gets
SECONDS = 60.0  # that it may take for them
NAMES = ("unique", "novel", "keep", "max_tries", "validator")


@dataclass
class RecordFilter:
    """Lets those records pass that are wanted, and counts."""

    asked: int
    unique: bool = False
    novel: bool = False
    keep: "re.Pattern[str] | None" = None
    validator: str | None = None
    is_known: Callable[[str], bool] = lambda record: False
    counts: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(
            ("written", "kept", "whole", "valid", "unique", "novel", "characters"), 0
        )
    )
    _seen: set[str] = field(default_factory=set)

    def among(self, samples: Iterable["Sample"], prime: str) -> Iterator["Sample"]:
        """As many as are asked for, or all that there are."""
        size = AT_ONCE if self.validator is not None else 1
        for some in _batched(samples, size):
            answers = [True] * len(some)
            if self.validator is not None:
                answers = _answers(self.validator, [prime + sample.text for sample in some])
            for sample, valid in zip(some, answers, strict=True):
                if self._passes(sample, prime + sample.text, valid):
                    yield sample
                    if self.counts["kept"] == self.asked:
                        return

    def _passes(self, sample: "Sample", record: str, valid: bool) -> bool:
        whole = sample.stop == "stop"  # and not cut by --length
        new, novel = record not in self._seen, not self.is_known(record)
        self._seen.add(record)
        passes = (
            whole
            and valid
            and (new or not self.unique)
            and (novel or not self.novel)
            and (self.keep is None or bool(self.keep.search(record)))
        )
        found = {
            "written": True, "kept": passes, "whole": whole, "valid": valid, "unique": new,
            "novel": new and novel,
        }  # fmt: skip
        for name, yes in found.items():
            self.counts[name] += yes
        self.counts["characters"] += len(record)
        return passes

    def table(self, corpus_length: float, false_positives: float) -> str:
        """The counts, for stderr."""
        count = self.counts
        written = max(1, count["written"])
        lines = [f"asked {self.asked:,}, written {count['written']:,}, kept {count['kept']:,}"]
        shares = [
            f"whole {count['whole'] / written:.1%}",
            f"unique {count['unique'] / written:.1%}",
            f"unique and novel {count['novel'] / written:.1%} "
            f"(a novel one is taken for known {false_positives:.2%} of the time)",
        ]
        if self.validator is not None:
            shares.insert(1, f"valid {count['valid'] / written:.1%}")
        lines.append("of those written: " + ", ".join(shares))
        lines.append(
            f"mean length {count['characters'] / written:.1f}, the corpus's {corpus_length:.1f}"
        )
        return "\n".join(lines)


def wanted_records(
    loaded: "Checkpoint", options: dict[str, Any], typed: set[str]
) -> RecordFilter | None:
    """What is asked of records; nothing of a plain text, or of the one record that is likeliest."""
    asked = [flag(name) for name in ("lines", *NAMES) if name in typed]
    if not loaded.text.lines:
        if asked:
            raise SettingError(
                f"{', '.join(asked)}: this model was not trained on records; train one with "
                "`charnn train --lines`, or leave it out"
            )
        return None
    if options["best_of"] or options["beam"] or (options["num_samples"] == 1 and not asked):
        return None
    codes_of, known = loaded.tokenizer.codes_of, loaded.known
    return RecordFilter(
        options["num_samples"], options["unique"], options["novel"], options["keep"],
        options["validator"], lambda record: known is not None and known.has(codes_of(record)),
    )  # fmt: skip


def tell_table(wanted: RecordFilter, loaded: "Checkpoint", quiet: bool) -> None:
    """The counts, on stderr; exit code 3 when there are fewer records than asked for."""
    corpus, known = loaded.corpus, loaded.known
    length = corpus.train_characters / max(1, corpus.records or 0) - 1
    status(wanted.table(length, 0.0 if known is None else known.false_positive_rate), quiet)
    if wanted.counts["kept"] < wanted.asked:
        cut = wanted.counts["whole"] < wanted.counts["written"] / 2
        more = "--length lets them end" if cut else "--max-tries or --temperature finds more"
        status(
            f"only {wanted.counts['kept']:,} of {wanted.asked:,} records were found among "
            f"{wanted.counts['written']:,}; a higher {more}"
        )
        raise click.exceptions.Exit(3)


def _batched(samples: Iterable["Sample"], size: int) -> Iterator[list["Sample"]]:
    rest = iter(samples)
    while some := list(itertools.islice(rest, size)):
        yield some


def _answers(validator: str, records: Sequence[str]) -> list[bool]:
    """What the command says of each record."""
    called = f"--validator {validator!r}"
    try:
        done = subprocess.run(
            shlex.split(validator), input="".join(record + "\n" for record in records),
            capture_output=True, text=True, encoding="utf-8", timeout=SECONDS, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise CharnnError(
            f"{called} took more than {SECONDS:g} s for {len(records)} records"
        ) from error
    except (OSError, ValueError) as error:
        raise CharnnError(f"{called} cannot be run: {error}") from error
    if done.returncode != 0:
        said = (done.stderr.strip().splitlines() or ["nothing"])[-1]
        raise CharnnError(f"{called} failed with exit code {done.returncode}: {said[:200]}")
    answers = done.stdout.split()
    if len(answers) != len(records) or not set(answers) <= {"0", "1"}:
        raise CharnnError(
            f"{called} answered {len(answers)} lines to {len(records)} records; one of 1 or 0 for "
            "each is wanted"
        )
    return [answer == "1" for answer in answers]
