"""Generated texts as `charnn sample` writes them: as text, as bytes or as JSON lines."""

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from charnn.cli.output import Output, counted
from charnn.cli.terminal import is_quiet, status

if TYPE_CHECKING:
    from charnn.checkpoint import Checkpoint
    from charnn.sampling.sample import Sample
    from charnn.text.tokenizer import Tokenizer


class Form:
    """The form in which texts are written."""

    def __init__(self, loaded: "Checkpoint", prime: str, options: dict[str, Any]) -> None:
        """`options` are those of `charnn sample`."""
        self.kind, self.total = options["kind"], options["num_samples"]
        self.separator, self.logprobs = options["separator"], options["logprobs"]
        part = part_of(self.total, options["part"])
        self.count = len(part)
        self.continues = part.start > 0  # an earlier part has texts, so a separator comes first
        self.tokenizer, self.records = loaded.tokenizer, loaded.text.lines
        self.prime, self.prime_bytes = prime, loaded.tokenizer.bytes_of(prime)

    def between(self) -> str:
        """Return what stands between two texts."""
        if self.records:
            return ""
        return f"{self.separator}\n" if self.end() else f"\n{self.separator}\n"

    def end(self) -> str:
        """Return what ends a text: a line end, but nothing that a file of bytes does not have."""
        return "" if self.kind == "bytes" and not self.records else "\n"

    def json(self, sample: "Sample") -> dict[str, Any]:
        """Return the JSON object of one text."""
        row: dict[str, Any] = {
            "index": sample.index,
            "seed": sample.seed,
            "prime": self.prime,
            "text": sample.text,
            "nats": sample.nats,
            "stop": sample.stop,
        }
        if self.tokenizer.kind == "byte":
            row["hex"] = sample.data.hex()
        if self.logprobs is not None:
            row["logprobs"] = [
                {
                    self.tokenizer.unit: self._name(choice.symbol),
                    "nats": choice.nats,
                    "best": [[self._name(symbol), nats] for symbol, nats in choice.alternatives],
                }
                for choice in sample.choices
            ]
        return row

    def _name(self, symbol: int) -> int | str:
        """Return a symbol as JSON: a byte as a number, because it may be part of a character."""
        return symbol if self.tokenizer.kind == "byte" else self.tokenizer.decode([symbol])


def part_of(count: int, part: tuple[int, int] | None) -> range:
    """Return the indices of the texts in a part, given as its number and that of all parts."""
    number, parts = part or (1, 1)
    return range(count * (number - 1) // parts, count * number // parts)


def write_samples(samples: Iterator["Sample"], form: Form, out: Output) -> None:
    """Write the texts, separated; JSON and records are one a line."""
    noun = "record" if form.records else "text"
    headings = out.terminal and not form.records and form.total > 1 and not is_quiet()
    for number, sample in enumerate(counted(samples, form.count, noun, out)):
        if form.kind == "jsonl":
            out.write(json.dumps(form.json(sample)) + "\n")
            continue
        if headings:
            status("")
            status(f"--- {sample.index + 1} of {form.total}, seed {sample.seed}")
        elif number or form.continues:
            out.write(form.between())
        out.write_bytes(form.prime_bytes + sample.data)
        out.end_text()
        out.write(form.end())


def write_stream(
    pieces: Iterator[bytes], length: int | None, tokenizer: "Tokenizer", prime: str, out: Output
) -> None:
    """Write one text piece by piece, as it comes."""

    def size(piece: bytes) -> int:
        return len(piece) if tokenizer.kind == "byte" else len(piece.decode())

    out.write_bytes(tokenizer.bytes_of(prime))
    for piece in counted(pieces, length, tokenizer.noun, out, size):
        out.write_bytes(piece)
    if not out.exact:
        out.write("\n")
