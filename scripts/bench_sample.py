"""How fast is sampling, against the memory's bandwidth and against a plain nn.LSTM loop?

Prints a Markdown row for each size and number of threads. `share`: characters/s relative to the
fastest of several float32 matrix-vector products that read the bytes of one step's weights: NumPy's
and torch's, of one matrix or of one for each layer. `ratio`:
relative to the usual loop, which calls `nn.LSTM` and `torch.multinomial` for each character.
`int8`: characters/s with 8-bit weights, and their ratio to float32. `of peak`: floating-point
operations per second of sampling 256 texts at once, relative to a 2048 x 2048 product. All figures
are medians of five rounds that measure everything in turn. Drawing a symbol at temperature 0.8 is
included on both sides; decoding symbols to text is not.

    python scripts/bench_sample.py --threads 1 2
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import torch
from torch import nn

from charnn.config import ModelConfig, SampleConfig
from charnn.model.network import CharNetwork
from charnn.sampling.batch import Batch
from charnn.sampling.blas_threads import blas_function, usual_threads
from charnn.sampling.engines import Engines
from charnn.sampling.graphed_batch import GraphedBatch

SIZES = ((1, 128), (1, 384), (1, 512), (2, 512), (2, 1024))
VOCABULARY = 65
ROWS = 256  # texts sampled at once
ROUNDS = 5
# For a device other than the CPU: sizes, numbers of texts sampled at once, and rounds.
DEVICE_SIZES = ((1, 512), (2, 512), (2, 1024))
DEVICE_ROWS = (1, ROWS, 4096)
DEVICE_ROUNDS = 3
SECONDS = 1.0


class PlainModel(nn.Module):
    """Embedding, `nn.LSTM` and linear head: the model of most character-level RNN programs."""

    def __init__(self, layers: int, hidden: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, hidden)
        self.lstm = nn.LSTM(hidden, hidden, layers)
        self.head = nn.Linear(hidden, VOCABULARY)


@torch.inference_mode()
def plain_loop(model: PlainModel) -> Iterator[torch.Tensor]:
    """Yield indices without end, each from one call of the module."""
    index, state = torch.zeros(1, 1, dtype=torch.int64), None
    while True:
        outputs, state = model.lstm(model.embedding(index), state)
        probabilities = torch.softmax(model.head(outputs[-1]) / 0.8, -1)
        index = torch.multinomial(probabilities, 1)
        yield index


def rate(symbols: Iterator[object]) -> float:
    """Return the number of symbols drawn per second."""
    start, steps = time.perf_counter(), 0
    while time.perf_counter() - start < SECONDS:
        next(symbols)
        steps += 1
    return steps / (time.perf_counter() - start)


def bandwidth(layers: int, hidden: int, threads: int) -> float:
    """Return the bytes per second of the fastest matrix-vector products of a step's size."""
    rows = 8 * hidden * layers - 4 * hidden + VOCABULARY
    matrices = [np.ones((rows, hidden), np.float32)]
    parts = np.array_split(matrices[0], layers)
    set_threads = blas_function("set_num_threads")
    if set_threads:
        set_threads(threads)
    rates = []
    for some in (matrices, parts):
        vector, outs = np.ones(hidden, np.float32), [np.empty(len(m), np.float32) for m in some]
        with_numpy: list[Callable[[], object]] = [
            partial(np.dot, m, vector, out=out) for m, out in zip(some, outs, strict=True)
        ]
        with_torch: list[Callable[[], object]] = [
            partial(torch.mv, *map(torch.from_numpy, (m, vector)), out=torch.from_numpy(out))
            for m, out in zip(some, outs, strict=True)
        ]
        rates += [products_rate(products) for products in (with_numpy, with_torch)]
    if set_threads:
        set_threads(usual_threads())
    return max(rates) * rows * hidden * 4


def products_rate(products: list[Callable[[], object]]) -> float:
    """Return how often per second all of these run one after the other."""
    start, rounds = time.perf_counter(), 0
    while time.perf_counter() - start < SECONDS / 4:
        for product in products:
            product()
        rounds += 1
    return rounds / (time.perf_counter() - start)


def peak(size: int = 2048) -> float:
    """Return the floating-point operations per second of a square matrix product."""
    matrix = torch.randn(size, size)
    start, products = time.perf_counter(), 0
    while time.perf_counter() - start < SECONDS / 2:
        torch.mm(matrix, matrix)
        products += 1
    return products * 2 * size**3 / (time.perf_counter() - start)


def measure(layers: int, hidden: int, threads: int) -> tuple[float, ...]:
    """Return the figures of a row in the order of its columns, from `characters/s` on."""
    model = ModelConfig(VOCABULARY, hidden, layers, min(hidden, 512))
    network = CharNetwork(model).eval()
    # A step reads all weights except the embedding and the first layer's input weights; of the
    # table into which those two are folded it reads one row.
    V, H = model.vocabulary_size, hidden
    weights = 4 * H * H + (layers - 1) * 8 * H * H + H * V
    read = 4 * (weights + 4 * H)
    config = SampleConfig()
    engines = Engines(network.weights(), threads=threads)
    small = Engines(network.weights(), precision="int8", threads=threads)
    single, batch, int8 = (
        Batch.of_network(network, config, [0], range(rows), engine).symbols()
        for engine, rows in ((engines.one(), 1), (engines.many(), ROWS), (small.one(), 1))
    )
    plain = plain_loop(PlainModel(layers, hidden).eval())
    rounds = []
    for _ in range(ROUNDS):
        ours = rate(single)
        share, ratio = ours * read / bandwidth(layers, hidden, threads), ours / rate(plain)
        int8_rate, batched = rate(int8), ROWS * rate(batch)
        of_peak = batched * 2 * weights / peak()
        rounds.append((ours, share, ratio, int8_rate, int8_rate / ours, batched, of_peak))
    return tuple(statistics.median(column) for column in zip(*rounds, strict=True))


def print_device_table(device: torch.device) -> None:
    """Print a table of characters/s by size and number of texts, for a device."""
    print(f"{device}, torch {torch.__version__}")
    print("| size | texts | characters/s, eager | CUDA graph | CUDA graph, fp16 |")
    print("|---|---|---|---|---|")
    for layers, hidden in DEVICE_SIZES:
        network = CharNetwork(ModelConfig(VOCABULARY, hidden, layers, min(hidden, 512))).eval()
        network.to(device)
        for rows in DEVICE_ROWS:
            rates = []
            for kind, precision in (
                (Batch, "fp32"), (GraphedBatch, "fp32"), (GraphedBatch, "fp16")
            ):  # fmt: skip
                engine = Engines(network.weights(), str(device), precision).many()
                batch = kind.of_network(network, SampleConfig(), [0], range(rows), engine)
                symbols = batch.symbols()
                next(symbols)  # the first step captures the graph or warms up
                rates.append(statistics.median(rows * rate(symbols) for _ in range(DEVICE_ROUNDS)))
            print(f"| {layers}x{hidden} | {rows} | {' | '.join(f'{r:,.0f}' for r in rates)} |")


def main() -> None:
    """Parse the options and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, torch.get_num_threads()])
    parser.add_argument(
        "--device", default="cpu", help="a device other than the CPU has a table of its own"
    )
    options = parser.parse_args()
    if options.device != "cpu":
        print_device_table(torch.device(options.device))
        return
    print(f"cpu, torch {torch.__version__}")
    batched_columns = f"characters/s of {ROWS} texts | of peak"
    print(f"| size | threads | characters/s | share | ratio | int8 | ratio | {batched_columns} |")
    print("|---|---|---|---|---|---|---|---|---|")
    for layers, hidden in SIZES:
        for threads in options.threads:
            torch.set_num_threads(threads)
            ours, share, ratio, int8, gain, batched, of_peak = measure(layers, hidden, threads)
            print(
                f"| {layers}x{hidden} | {threads} | {ours:,.0f} | {share:.0%} | {ratio:.1f} "
                f"| {int8:,.0f} | {gain:.1f} | {batched:,.0f} | {of_peak:.0%} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
