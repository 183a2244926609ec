"""Does training from a related text's weights beat training from random ones in the same time?

Trains on the related text first. Then trains on the first `--characters` of the other text for
`--minutes`: once from random weights, and once from the related text's weights for each learning
rate. Prints a Markdown row for each with the loss (`stream`) on the last tenth of these characters.

    python scripts/bench_tune.py related.txt text.txt --characters 100000 --minutes 1
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import charnn
from charnn.text.corpus import open_corpus
from charnn.text.records import indices_of


def loss(best: Path, text: Path) -> float:
    """Return the nats per character of a checkpoint on the validation part of its text."""
    model = charnn.load(best)
    corpus = open_corpus([str(text)], model.checkpoint.text, tokenizer=model.tokenizer)
    return model.score(model.tokenizer.decode(indices_of(corpus.validation))).nats_per_char


def main() -> None:
    """Parse the options and print the rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("related")
    parser.add_argument("text")
    parser.add_argument("--related-minutes", type=float, default=3)
    parser.add_argument("--minutes", type=float, default=1)
    parser.add_argument("--characters", type=int, default=100_000)
    parser.add_argument("--learning-rates", type=float, nargs="*", default=[None])
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        text = folder / "text.txt"
        text.write_text(
            Path(options.text).read_text(encoding="utf-8")[: options.characters], encoding="utf-8"
        )
        before = charnn.train(
            options.related, out=folder / "related", minutes=options.related_minutes,
            seed=options.seed,
        )  # fmt: skip
        print("| started from | learning rate | model | nats/char |")
        print("|---|---|---|---|")
        starts: list[tuple[str, dict[str, Any]]] = [("random weights", {})]
        for rate in options.learning_rates:
            given = {} if rate is None else {"learning_rate": rate}
            starts.append(("the related text", {"init_from": before, **given}))
        for number, (name, given) in enumerate(starts):
            out = folder / str(number)
            best = charnn.train(text, out=out, minutes=options.minutes, seed=options.seed, **given)
            checkpoint = charnn.load(best).checkpoint
            size = f"{checkpoint.model.num_layers}x{checkpoint.model.hidden_size}"
            rate = checkpoint.train.learning_rate
            print(f"| {name} | {rate:g} | {size} | {loss(best, text):.4f} |", flush=True)


if __name__ == "__main__":
    main()
