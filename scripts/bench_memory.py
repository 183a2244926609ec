"""How close is the estimated memory of a training run to what the run takes?

Trains each size for a few steps in a new process, long enough to take a snapshot and to save.
`taken` is the peak resident memory minus the peak before the run started.
"""

import multiprocessing
import resource
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from charnn.config import ModelConfig, TextConfig, TrainConfig, ValidationConfig
from charnn.runs.context import RunContext
from charnn.runs.run import Run
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


def peak_bytes() -> int:
    """Return the peak resident memory of this process so far, in bytes."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def memory_taken(
    cell: str, layers: int, hidden: int, embedding: int, symbols: int, lanes: int, window: int
) -> int:
    """Train a few steps and save; return by how many bytes the peak has risen."""
    loop.SNAPSHOT_EVERY = STEPS - 1
    train = TrainConfig(STEPS, lanes, window, 1e-3, seed=1)
    small = replace(train, batch_size=2, seq_len=4)
    train_and_save(
        ModelConfig(5, 8, 1, 8), small
    )  # the first step also allocates torch's own memory
    before = peak_bytes()
    train_and_save(ModelConfig(symbols, hidden, layers, embedding, cell, dropout=0.1), train)
    return peak_bytes() - before


def train_and_save(model: ModelConfig, train: TrainConfig) -> None:
    """Train on a random text and save after each step."""
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
    """Print a Markdown row for each size."""
    print("| model | lanes x window | estimated MB | taken MB | ratio |\n|---|---|---|---|---|")
    for size in SIZES:
        cell, layers, hidden, embedding, symbols, lanes, window = size
        model = ModelConfig(symbols, hidden, layers, embedding, cell)
        estimated = estimate_memory(model, TrainConfig(STEPS, lanes, window, 1e-3, seed=1)) / 1e6
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            taken = pool.apply(memory_taken, size) / 1e6
        name, ratio = f"{layers}x{hidden} {cell}, {symbols} symbols", estimated / taken
        print(f"| {name} | {lanes}x{window} | {estimated:.0f} | {taken:.0f} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
