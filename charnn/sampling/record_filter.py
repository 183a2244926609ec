"""The records among many generated ones that are unique, new, matching and valid, with counts."""

import itertools
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from charnn.arguments import flag, function, pattern, whole_number
from charnn.errors import SettingError
from charnn.sampling.validator import CommandValidator, Validator, valid_answers

if TYPE_CHECKING:
    from charnn.checkpoint import Checkpoint
    from charnn.sampling.sample import Sample

TRIES_PER_RECORD = 20  # records to generate for each requested one, at most
VALIDATOR_BATCH = 256  # records per call of a validator
_ESCAPED = ("utf-8", "surrogateescape")


@dataclass
class RecordCounts:
    """The numbers of records: requested, generated, and of those generated how many were kept, were
    complete (not cut off by `length`), valid, unique among themselves, and unique and novel."""

    requested: int
    generated: int = 0
    kept: int = 0
    complete: int = 0
    valid: int = 0
    unique: int = 0
    novel: int = 0
    characters: int = 0

    @property
    def mean_length(self) -> float:
        """The mean number of characters of a generated record."""
        return self.characters / max(1, self.generated)


class RecordFilter:
    """Lets the wanted records among generated ones pass, and counts them all. It is used once.

    >>> wanted = RecordFilter(20, unique=True, keep="^st", validator="python is_valid.py")
    >>> records = [sample.text for sample in sampler.records(SampleConfig(seed=1), wanted)]
    >>> wanted.counts.generated, wanted.counts.kept
    (33, 20)
    """

    def __init__(
        self,
        requested: int,
        *,
        unique: bool = False,
        keep: str | re.Pattern[str] | None = None,
        validator: str | Validator | None = None,
        is_known: Callable[[str], bool] | None = None,
        novel: bool = False,
        max_tries: int | None = None,
    ) -> None:
        """Ask for `requested` records among `max_tries` generated ones, by default 20 for each.

        With `unique` no record passes twice, with `novel` none that `is_known`
        (`known_records(checkpoint)`), with `keep` only those in which the regular expression is
        found, with `validator` only those that it answers True for. A validator is a function of a
        list of records, or a command: it reads records from stdin, one a line, and prints 1 or 0
        for each.

        The records of a byte model are compared, counted and given to a command as bytes, because
        different ones may have the same text, with U+FFFD for what is not UTF-8. `is_known` gets
        such bytes as Python's surrogate escapes.
        """
        if flag("novel", novel) and is_known is None:
            raise SettingError("`novel` needs `is_known`, which tells the records of the list")
        requested = whole_number("count", requested, 0)
        self.counts = RecordCounts(requested)
        self.max_tries = TRIES_PER_RECORD * requested
        if max_tries is not None:
            self.max_tries = whole_number("max_tries", max_tries, 1)
        self.validates = validator is not None
        self._validator = None if validator is None else _validator(validator)
        self._unique, self._novel = flag("unique", unique), flag("novel", novel)
        self._keep = None if keep is None else pattern("keep", keep)
        self._is_known = is_known
        self._seen: set[str] = set()

    def apply(
        self, samples: Iterable["Sample"], prime: str = "", unit: str = "char"
    ) -> Iterator["Sample"]:
        """Yield the wanted ones among samples, whose records start with the prime, until there are
        as many as requested. `unit` is that of the mean length, "char" or "byte"."""
        size = 1 if self._validator is None else VALIDATOR_BATCH
        for batch in _batched(samples, size):
            for sample, valid in zip(batch, self._validate(batch, prime), strict=True):
                exact = prime + _exact(sample)
                length = len(exact if unit == "char" else exact.encode(*_ESCAPED))
                self.counts.characters += length
                if self._passes(sample, prime + sample.text, exact, valid):
                    yield sample
                    if self.counts.kept == self.counts.requested:
                        return

    def _validate(self, samples: list["Sample"], prime: str) -> Iterable[bool]:
        if self._validator is None:
            return [True] * len(samples)
        reads_bytes = isinstance(self._validator, CommandValidator)
        texts = map(_exact, samples) if reads_bytes else (sample.text for sample in samples)
        return valid_answers(self._validator, [prime + text for text in texts])

    def _passes(self, sample: "Sample", record: str, exact: str, valid: bool) -> bool:
        """Count a record, given as it is shown and as it is compared; return True if it passes."""
        complete = sample.stop == "stop"
        unique = exact not in self._seen
        novel = self._is_known is None or not self._is_known(exact)
        self._seen.add(exact)
        passes = (
            complete
            and valid
            and (unique or not self._unique)
            and (novel or not self._novel)
            and (self._keep is None or bool(self._keep.search(record)))
        )
        counts = self.counts
        counts.generated += 1
        counts.kept += passes
        counts.complete += complete
        counts.valid += valid
        counts.unique += unique
        counts.novel += unique and novel
        return passes


def _validator(validator: str | Validator) -> Validator:
    if isinstance(validator, str):
        return CommandValidator(validator)
    return function("validator", validator)


def known_records(checkpoint: "Checkpoint") -> Callable[[str], bool]:
    """Return a function that tells whether a record is one of the lists that the model was given,
    to train on or to validate with.

    It is approximate: a share `checkpoint.known.false_positive_rate` of other records is taken
    for known too.
    """
    known, codes_of = checkpoint.known, checkpoint.tokenizer.codes_of
    if known is None:
        raise SettingError("this model was not trained on records, so none is known")
    return lambda record: known.has(codes_of(record))


def _exact(sample: "Sample") -> str:
    """Return a sample's text, in which bytes that are not UTF-8 are surrogate escapes."""
    return sample.data.decode(*_ESCAPED)


def _batched(samples: Iterable["Sample"], size: int) -> Iterator[list["Sample"]]:
    rest = iter(samples)
    while batch := list(itertools.islice(rest, size)):
        yield batch
