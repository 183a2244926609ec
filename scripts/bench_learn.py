"""How well does a model learn a text in so many minutes?

Trains as `charnn train CORPUS --minutes M --seed S` does, once for each seed, but with the last
fifth of the validation part kept from the choice of the best model (scripts/judge.py). Prints one
row of BENCHMARKS.md: both protocols on the whole part, mean and range over the seeds; and `stream`
on that fifth. Settings may be given; without any charnn chooses all of them. The learning curves
are kept for scripts/curves.py.

    python scripts/bench_learn.py data/tinyshakespeare.txt --minutes 3 --seeds 1 2 3
    python scripts/bench_learn.py data/tinyshakespeare.txt --minutes 3 cell=gru
"""

import argparse
import statistics
import sys
from pathlib import Path

from judge import Judged, Text
from sweep import parsed, refuse


def spread(values: list[float]) -> str:
    """Mean, with the range where there is one."""
    mean = f"{statistics.mean(values):.4f}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.4f} to {max(values):.4f})"


def main() -> None:
    """Parse the options, train, and print the row."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpus", type=Path)
    parser.add_argument("settings", nargs="*", metavar="NAME=VALUE")
    parser.add_argument("--minutes", type=float, default=3)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--curves", type=Path, help="Folder for the runs' metrics.")
    options = parser.parse_intermixed_args()
    refuse(parser, options.settings)
    settings = dict(parsed(setting) for setting in options.settings)
    text, found = Text(options.corpus), list[Judged]()
    for seed in options.seeds:
        judged = text.judge(minutes=options.minutes, seed=seed, **settings)
        figures = f"stream {judged.stream:.4f}, window {judged.window:.4f}"
        print(f"seed {seed}: {figures}, {judged.seconds:.0f} s", file=sys.stderr)
        found.append(judged)
        if options.curves:
            options.curves.mkdir(parents=True, exist_ok=True)
            name = " ".join([f"{options.minutes:g} min", *options.settings, f"seed {seed}"])
            (options.curves / f"{name}.jsonl").write_text(judged.metrics, encoding="utf-8")
    model = found[-1].model
    print(
        f"| {options.minutes:g} min | {model.num_layers}x{model.hidden_size} {model.cell} "
        f"| {found[-1].parameters:,} | {len(found)} | {spread([j.stream for j in found])} "
        f"| {spread([j.window for j in found])} | {spread([j.held_out for j in found])} |"
    )


if __name__ == "__main__":
    main()
