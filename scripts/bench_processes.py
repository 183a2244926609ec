"""Do two processes learn the same model as one, and how fast are they in comparison?

Trains the same run twice, in one process with two threads and in two processes with one thread
each, and prints a Markdown row for each: the speed between the first and the last step in the
metrics, and the largest difference of any weight, after the last step, from the first row's model.

    python scripts/bench_processes.py data/tinyshakespeare.txt --steps 200
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

from charnn import checkpoint
from charnn.runs.folder import LAST, METRICS

WORLDS = ((1, 2), (2, 1))  # processes, threads per process


def train(folder: Path, processes: int, threads: int, arguments: list[str]) -> None:
    """Train into `folder` in several processes, started with the variables that torchrun sets."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = [sys.executable, "-m", "charnn", "train", *arguments, "--quiet", "--out", str(folder)]
    world = {"WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    environment = os.environ | world | {"OMP_NUM_THREADS": str(threads)}
    running = [
        subprocess.Popen(command, env=environment | {"RANK": str(rank)}, stdout=subprocess.DEVNULL)
        for rank in range(processes)
    ]
    codes = [process.wait() for process in running]
    if any(codes):
        sys.exit(f"a process failed: exit codes {codes}")


def speed(folder: Path) -> float:
    """Return the training speed of a run in characters per second."""
    lines = [json.loads(line) for line in (folder / METRICS).read_text().splitlines()]
    steps = [line for line in lines if "loss" in line]
    config = checkpoint.load(folder / LAST).train
    characters = (steps[-1]["step"] - steps[0]["step"]) * config.batch_size * config.seq_len
    return float(characters / (steps[-1]["time"] - steps[0]["time"]))


def main() -> None:
    """Parse the options and print the rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("text")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--hidden-size", type=int, default=384)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--precision", default="fp32")
    options = parser.parse_args()
    arguments = [options.text, "--seed", "1", "--dropout", "0", "--val-every", str(options.steps)]
    for name in ("steps", "hidden_size", "batch_size", "precision"):
        arguments += ["--" + name.replace("_", "-"), str(getattr(options, name))]
    print("| processes | threads of each | characters/s | ratio | largest difference of a weight |")
    print("|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as temporary:
        folders = [Path(temporary) / f"{processes}" for processes, _ in WORLDS]
        for folder, (processes, threads) in zip(folders, WORLDS, strict=True):
            train(folder, processes, threads, arguments)
            first, weights = (checkpoint.load(f / LAST).weights for f in (folders[0], folder))
            difference = max(float(abs(first[k] - weights[k]).max()) for k in first)
            rate, ratio = speed(folder), speed(folder) / speed(folders[0])
            print(
                f"| {processes} | {threads} | {rate:,.0f} | {ratio:.2f} | {difference:.1e} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
