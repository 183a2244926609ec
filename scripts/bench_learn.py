"""How well does a model learn a text in so many minutes?

Trains like `charnn train CORPUS --minutes M --seed S`, once for each seed, except that the last
fifth of the validation part is held out and does not influence which model is the best
(scripts/judge.py). Prints one row of BENCHMARKS.md: the mean and range over the seeds of both
protocols on the complete validation part, and of `stream` on the held-out fifth. Settings that are
not given are chosen by charnn. `--curves` saves the metrics for scripts/curves.py.

    python scripts/bench_learn.py data/tinyshakespeare.txt --minutes 3 --seeds 1 2 3
    python scripts/bench_learn.py data/tinyshakespeare.txt --minutes 3 cell=gru
"""

import argparse
import statistics
import sys
from pathlib import Path

from judge import Judged, Text
from sweep import check_settings, parse_setting


def spread(values: list[float]) -> str:
    """Format the mean of the values, and their range if there are several."""
    mean = f"{statistics.mean(values):.4f}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.4f} to {max(values):.4f})"


def main() -> None:
    """Parse the options, train, and print the row."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpus", type=Path)
    parser.add_argument("settings", nargs="*", metavar="NAME=VALUE")
    parser.add_argument("--minutes", type=float, default=3)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument(
        "--curves", type=Path, help="folder in which to save the metrics of the runs"
    )
    options = parser.parse_intermixed_args()
    check_settings(parser, options.settings)
    settings = dict(parse_setting(setting) for setting in options.settings)
    text, results = Text(options.corpus), list[Judged]()
    for seed in options.seeds:
        judged = text.judge(minutes=options.minutes, seed=seed, **settings)
        figures = f"stream {judged.stream:.4f}, window {judged.window:.4f}"
        print(f"seed {seed}: {figures}, {judged.seconds:.0f} s", file=sys.stderr)
        results.append(judged)
        if options.curves:
            options.curves.mkdir(parents=True, exist_ok=True)
            name = " ".join([f"{options.minutes:g} min", *options.settings, f"seed {seed}"])
            (options.curves / f"{name}.jsonl").write_text(judged.metrics, encoding="utf-8")
    model = results[-1].model
    print(
        f"| {options.minutes:g} min | {model.num_layers}x{model.hidden_size} {model.cell} "
        f"| {results[-1].parameters:,} | {len(results)} | {spread([j.stream for j in results])} "
        f"| {spread([j.window for j in results])} | {spread([j.held_out for j in results])} |"
    )


if __name__ == "__main__":
    main()
