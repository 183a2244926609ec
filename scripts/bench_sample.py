"""How fast is sampling, against the memory's bandwidth and against a plain nn.LSTM loop?

Prints a Markdown row per size and number of threads. `share`: of the rate at which a float32
matrix-vector product of as many bytes as a step's weights runs in the same round. `ratio`: to the
usual loop, an `nn.LSTM` call and a `torch.multinomial` per character. Medians of five rounds,
everything in turn; drawing at temperature 0.8 is included on both sides.

    python scripts/bench_sample.py --threads 1 2
"""

import argparse
import statistics
import time
from collections.abc import Iterator

import torch
from torch import nn

from charnn.config import ModelConfig, SampleConfig
from charnn.model.network import CharNetwork
from charnn.sampling.generate import generate
from charnn.sampling.stepper import Stepper
from charnn.text.tokenizer import CharTokenizer

SIZES = ((1, 128), (1, 384), (1, 512), (2, 512), (2, 1024))
VOCABULARY = "".join(map(chr, range(32, 97)))
ROWS = 64
ROUNDS = 5
SECONDS = 1.0


class PlainModel(nn.Module):
    """What this field's tools sample from."""

    def __init__(self, layers: int, hidden: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(len(VOCABULARY), hidden)
        self.lstm = nn.LSTM(hidden, hidden, layers)
        self.head = nn.Linear(hidden, len(VOCABULARY))


@torch.inference_mode()
def plain_loop(model: PlainModel) -> Iterator[torch.Tensor]:
    """Characters without end, one call of the module each."""
    index, state = torch.zeros(1, 1, dtype=torch.int64), None
    while True:
        outputs, state = model.lstm(model.embedding(index), state)
        probabilities = torch.softmax(model.head(outputs[-1]) / 0.8, -1)
        index = torch.multinomial(probabilities, 1)
        yield index


def rate(symbols: Iterator[torch.Tensor]) -> float:
    """Steps per second."""
    start, steps = time.perf_counter(), 0
    while time.perf_counter() - start < SECONDS:
        next(symbols)
        steps += 1
    return steps / (time.perf_counter() - start)


def bandwidth(size: int) -> float:
    """Bytes per second of a matrix-vector product that reads `size` bytes."""
    matrix = torch.randn(size // 4 // 1024, 1024)
    vector = torch.randn(1024)
    torch.mv(matrix, vector)
    start, products = time.perf_counter(), 0
    while time.perf_counter() - start < SECONDS / 2:
        torch.mv(matrix, vector)
        products += 1
    return products * matrix.numel() * 4 / (time.perf_counter() - start)


def measure(layers: int, hidden: int) -> tuple[float, float, float, float]:
    """Single-stream characters/s, share of the bandwidth, ratio to the plain loop, batched rate."""
    model = ModelConfig(len(VOCABULARY), hidden, layers, min(hidden, 512))
    network = CharNetwork(model).eval()
    stepper, tokenizer = Stepper(network), CharTokenizer(VOCABULARY)
    # What a step must read: every weight but the embedding and the first layer's input weights,
    # of which it reads one row of the folded table.
    V, H = model.vocabulary_size, hidden
    read = 4 * (4 * H * H + (layers - 1) * 8 * H * H + H * V + 4 * H)
    config = SampleConfig(length=10**9, seed=1)
    single = generate(network, tokenizer, config, stepper=stepper)
    batch = generate(network, tokenizer, config, rows=ROWS, stepper=Stepper(network))
    plain = plain_loop(PlainModel(layers, hidden).eval())
    rounds = []
    for _ in range(ROUNDS):
        ours = rate(single)
        rounds.append((ours, ours * read / bandwidth(read), ours / rate(plain), ROWS * rate(batch)))
    ours, share, ratio, batched = (
        statistics.median(column) for column in zip(*rounds, strict=True)
    )
    return ours, share, ratio, batched


def main() -> None:
    """Parse the options and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, torch.get_num_threads()])
    options = parser.parse_args()
    print(f"cpu, torch {torch.__version__}")
    print(f"| size | threads | characters/s | share | ratio | characters/s of {ROWS} streams |")
    print("|---|---|---|---|---|---|")
    for layers, hidden in SIZES:
        for threads in options.threads:
            torch.set_num_threads(threads)
            ours, share, ratio, batched = measure(layers, hidden)
            print(
                f"| {layers}x{hidden} | {threads} | {ours:,.0f} | {share:.0%} | {ratio:.1f} "
                f"| {batched:,.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
