"""How close is the estimated memory of a training run to what the run takes?

Each size trains a few steps in a process of its own, past a snapshot, and saves. `taken` is the
peak of its resident memory above what it was before the run began.
"""

import multiprocessing
import resource
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from charnn.config import ModelConfig, TextConfig, TrainConfig, ValidationConfig
from charnn.runs.run import Run, RunContext
from charnn.text.corpus import Corpus
from charnn.text.tokenizer import CharTokenizer
from charnn.training import loop
from charnn.training.memory import estimate_memory
from charnn.training.plan import Plan

# cell, layers, hidden, embedding, vocabulary, lanes, window
SIZES = [
    ("lstm", 1, 384, 384, 65, 16, 64),
    ("lstm", 1, 512, 512, 65, 64, 64),
    ("lstm", 2, 1024, 512, 65, 16, 64),
    ("lstm", 1, 2048, 512, 65, 8, 32),
    ("lstm", 2, 256, 256, 65, 64, 256),
    ("lstm", 1, 256, 128, 5000, 16, 64),
    ("gru", 2, 512, 512, 65, 32, 128),
    ("rnn", 2, 512, 512, 65, 32, 128),
]
STEPS = 6


def peak() -> int:
    """The most that this process has taken so far, in bytes."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def taken(
    cell: str, layers: int, hidden: int, embedding: int, symbols: int, lanes: int, window: int
) -> int:
    """Train a few steps and save; the peak above what there was before."""
    loop.SNAPSHOT_EVERY = STEPS - 1
    train = TrainConfig(STEPS, lanes, window, 1e-3, seed=1)
    small = replace(train, batch_size=2, seq_len=4)
    work(ModelConfig(5, 8, 1, 8), small)  # what torch takes for itself at its first step
    before = peak()
    work(ModelConfig(symbols, hidden, layers, embedding, cell, dropout=0.1), train)
    return peak() - before


def work(model: ModelConfig, train: TrainConfig) -> None:
    """Make the steps on an invented text, saving after each."""
    symbols = model.vocabulary_size
    length = 10_000 + 2 * train.batch_size * train.seq_len
    text = np.random.default_rng(1).integers(symbols, size=length).astype(np.uint16)
    tokenizer = CharTokenizer("".join(map(chr, range(0x4E00, 0x4E00 + symbols))))
    corpus = Corpus(text, length - 5_000, tokenizer, "0" * 64)
    with tempfile.TemporaryDirectory() as name:
        context = RunContext(Path(name), corpus, TextConfig(), torch.device("cpu"))
        run = Run.start(context, Plan(model, train, ValidationConfig(3), ""))
        for _ in run.reports():
            run.save()


def main() -> None:
    """Print a row for each size."""
    print("| model | lanes x window | estimated MB | taken MB | ratio |\n|---|---|---|---|---|")
    for size in SIZES:
        cell, layers, hidden, embedding, symbols, lanes, window = size
        model = ModelConfig(symbols, hidden, layers, embedding, cell)
        guess = estimate_memory(model, TrainConfig(STEPS, lanes, window, 1e-3, seed=1)) / 1e6
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            real = pool.apply(taken, size) / 1e6
        name = f"{layers}x{hidden} {cell}, {symbols} symbols"
        print(f"| {name} | {lanes}x{window} | {guess:.0f} | {real:.0f} | {guess / real:.2f} |")


if __name__ == "__main__":
    main()
