"""How much does training lose beside other busy processes?

Runs `charnn train CORPUS --minutes M --seed S` while 0, 1 and 2 other processes each keep a core
busy, and evaluates each model with the `stream` protocol. `--beside` names another checkout of
charnn, which is measured in alternation, so that both see the same load. Prints rows of
BENCHMARKS.md.

    python scripts/bench_busy.py data/tinyshakespeare.txt
    python scripts/bench_busy.py data/tinyshakespeare.txt --beside ../charnn-before
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent.parent
BUSY = "while True: pass"


@contextlib.contextmanager
def busy(count: int) -> Iterator[None]:
    """Run `count` processes that keep one core busy each, for the duration of the block."""
    others = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(count)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def charnn(checkout: Path, *arguments: str) -> str:
    """Run a charnn command from a checkout and return its standard output."""
    done = subprocess.run(
        [sys.executable, "-m", "charnn", *arguments, "--quiet"],
        cwd=checkout, env=os.environ | {"PYTHONPATH": str(checkout)}, check=True,
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    return done.stdout


def train(checkout: Path, corpus: Path, count: int, minutes: float, seed: int) -> tuple[str, Any]:
    """Train beside `count` busy processes; return the best model's size and figures."""
    with tempfile.TemporaryDirectory() as folder:
        run = str(Path(folder, "run"))
        with busy(count):
            charnn(
                checkout, "train", str(corpus), "--minutes", f"{minutes:g}", "--seed", str(seed),
                "--out", run,
            )  # fmt: skip
        info = json.loads(charnn(checkout, "info", run, "--json"))
        score = json.loads(charnn(checkout, "eval", run, str(corpus), "--json"))
    model = info["model"]
    size = f"{model['num_layers']}x{model['hidden_size']}, {info['train']['batch_size']} lanes"
    return size, {"steps": info["train"]["steps"], "stream": score["nats_per_char"]}


def main() -> None:
    """Parse the options, train, and print the rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--busy", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--beside", type=Path, help="another checkout of charnn to compare with")
    options = parser.parse_args()
    checkouts = {"this": HERE} | ({"other": options.beside.resolve()} if options.beside else {})
    print("| busy processes | checkout | model | steps | `stream` |", flush=True)
    print("|---|---|---|---|---|", flush=True)
    for count in options.busy:
        for name, checkout in checkouts.items():
            corpus = options.corpus.resolve()
            size, found = train(checkout, corpus, count, options.minutes, options.seed)
            row = f"| {count} | {name} | {size} | {found['steps']:,} | {found['stream']:.4f} |"
            print(row, flush=True)


if __name__ == "__main__":
    main()
