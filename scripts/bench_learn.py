"""How well does a model learn a text in so many minutes?

Trains as `charnn train CORPUS --minutes M --seed S` does, once for each seed, and prints one row of
BENCHMARKS.md: both protocols on the validation part, mean and range over the seeds.

    python scripts/bench_learn.py data/tinyshakespeare.txt --minutes 3 --seeds 1 2 3
"""

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

import charnn
from charnn.config import TextConfig
from charnn.model.evaluate import evaluate
from charnn.text.corpus import open_corpus


def spread(values: list[float]) -> str:
    """Mean, with the range where there is one."""
    mean = f"{statistics.mean(values):.4f}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.4f} to {max(values):.4f})"


def main() -> None:
    """Parse the options, train, and print the row."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpus")
    parser.add_argument("--minutes", type=float, default=3)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--cell", default="lstm")
    options = parser.parse_args()
    validation = open_corpus([options.corpus], TextConfig()).validation
    scores: dict[str, list[float]] = {"stream": [], "window": []}
    with tempfile.TemporaryDirectory() as folder:
        for seed in options.seeds:
            out = Path(folder, str(seed))
            path = charnn.train(
                options.corpus, out=out, minutes=options.minutes, seed=seed, cell=options.cell
            )
            model = charnn.load(path)
            for protocol, values in scores.items():
                values.append(evaluate(model.network, validation, protocol).nats_per_char)
            figures = ", ".join(f"{name} {values[-1]:.4f}" for name, values in scores.items())
            print(f"seed {seed}: {figures}", file=sys.stderr)
    config = model.checkpoint.model
    print(
        f"| {Path(options.corpus).name} | {options.minutes:g} min "
        f"| {config.num_layers}x{config.hidden_size} {config.cell} "
        f"| {model.network.parameter_count():,} | {len(options.seeds)} "
        f"| {spread(scores['stream'])} | {spread(scores['window'])} |"
    )


if __name__ == "__main__":
    main()
