"""How fast does training run, and what share of this machine's matrix-product peak is that?

Prints a Markdown row for each size: characters/s, and two shares of the float32 peak, which is the
rate of a large matrix product in the same run. `share` counts the operations of the model as it is
defined, with layers that read an embedding, and those of the optimizer. `done` counts only the
operations that are carried out: with a small vocabulary a CPU folds the first layer's input product
into a table (charnn/model/network.py), so `share` may exceed `done`. `optimizer` is the optimizer's
part of `done`. The peak is that of float32, whatever the `--precision` of the training. All figures
are medians of five rounds that measure peak and training in turn. On CUDA, `kernel` is the share of
the time during which cuDNN's recurrent kernels ran.

    python scripts/bench_train.py --threads 2
    python scripts/bench_train.py --threads 2 --precision bf16 --lanes 32
    python scripts/bench_train.py --threads 2 --cells lstm gru rnn --optimizer adamw
"""

import argparse
import itertools
import math
import re
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from unittest import mock

import numpy as np
import torch

from charnn.config import ModelConfig, TrainConfig
from charnn.device import pick_device
from charnn.model.weights import GATES
from charnn.text.batches import Batches
from charnn.training import muon
from charnn.training.loop import train_steps
from charnn.training.reports import TrainingWarning
from charnn.training.state import TrainState

SIZES = ("1x256", "2x256", "2x384", "2x512", "2x768")
VOCABULARY = 65
WINDOW = 64
ROUNDS = 5
RECURRENT = re.compile("rnn|lstm|gru|persist", re.IGNORECASE)  # in the names of cuDNN's kernels
SECONDS = 1.5


@dataclass(frozen=True)
class Arithmetic:
    """Floating-point operations per training character."""

    share: float  # of the model as it is defined
    done: float  # carried out
    optimizer: float  # included in both


def arithmetic(model: ModelConfig, train: TrainConfig, folded: bool) -> Arithmetic:
    """Count the matrix products of the gates and the head, and of Muon.

    A multiply-add is two operations. The model's products are made once forward and twice
    backward; Muon's are made once per step.
    """
    H, V, G = model.hidden_size, model.vocabulary_size, GATES[model.cell]
    upper = (model.num_layers - 1) * G * H * 2 * H + H * V
    first = G * H * (model.embedding_size + H)
    one_hot = V if model.cell == "lstm" else 0  # other cells look the table up
    first_done = G * H * (one_hot + H) if folded else first
    columns = [model.embedding_size] + [H] * (2 * model.num_layers - 1)
    step = sum(orthogonalisation(G * H, n) for n in columns) if train.optimizer == "muon" else 0.0
    optimizer = step / (train.batch_size * train.seq_len)
    return Arithmetic(
        6 * (upper + first) + optimizer, 6 * (upper + first_done) + optimizer, optimizer
    )


def orthogonalisation(rows: int, columns: int) -> float:
    """Return the operations of `charnn.training.muon.orthogonalize` in float32.

    In bfloat16 an LSTM's matrices take 1.5 times as many, but they are faster.
    """
    n, m = sorted((rows, columns))
    return 2.0 * (2 * m * n**2 + (4 * muon.ITERATIONS - 3) * n**3)


def peak(device: torch.device, size: int = 2048) -> float:
    """Return the floating-point operations per second of a square float32 product."""
    a, b = (torch.randn(size, size, device=device) for _ in range(2))
    seconds = timed(lambda: torch.mm(a, b)[0, 0].item(), 0.5)
    return 2 * size**3 / seconds


def timed(call: Callable[[], object], seconds: float) -> float:
    """Return the mean seconds per call, over calls that take about `seconds` in all."""
    start, calls = time.perf_counter(), 0
    while calls == 0 or time.perf_counter() - start < seconds:
        call()
        calls += 1
    return (time.perf_counter() - start) / calls


def measure(
    model: ModelConfig, train: TrainConfig, device: torch.device
) -> tuple[float, float, float, float]:
    """Return characters/s, the peak, their ratio, and the recurrent kernels' share of the time.

    The ratio is in characters per floating-point operation. The share is NaN without CUDA.
    """
    text = np.random.default_rng(0).integers(VOCABULARY, size=1_000_000, dtype=np.uint8)
    lanes = train.batch_size
    batches = Batches(text, lanes, WINDOW, seed=0)
    state = TrainState.start(model, train, lanes, device)
    steps = train_steps(state, batches, train, sync_every=sys.maxsize)
    for _ in range(5):
        if isinstance(report := next(steps), TrainingWarning):
            print(report, file=sys.stderr)
    rounds = []
    for _ in range(ROUNDS):
        best = peak(device)
        rate = lanes * WINDOW / timed(lambda: next(steps), SECONDS)
        rounds.append((rate, best, rate / best))
    rates, peaks, ratios = zip(*rounds, strict=True)
    kernel = kernel_share(lambda: next(steps)) if device.type == "cuda" else math.nan
    return statistics.median(rates), statistics.median(peaks), statistics.median(ratios), kernel


def kernel_share(step: Callable[[], object], steps: int = 100) -> float:
    """Return the share of the time of `steps` steps during which cuDNN's recurrent kernels ran."""
    kinds = torch.profiler.ProfilerActivity
    with torch.profiler.profile(activities=[kinds.CUDA]) as profile:
        start = time.perf_counter()
        for _ in range(steps):
            step()
        torch.cuda.synchronize()
        seconds = time.perf_counter() - start
    kernels = (event for event in profile.key_averages() if RECURRENT.search(event.key))
    return sum(event.self_device_time_total for event in kernels) / 1e6 / seconds


def main() -> None:
    """Parse the options and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="auto")
    parser.add_argument("--lanes", type=int, nargs="+", default=[16])
    parser.add_argument("--sizes", nargs="+", default=SIZES, help="LAYERSxHIDDEN, such as 2x384")
    parser.add_argument("--cells", nargs="+", default=["lstm"])
    parser.add_argument("--optimizer", default="muon")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument(
        "--deterministic", action="store_true", help="use deterministic kernels (CUDA)"
    )
    parser.add_argument(
        "--eager", action="store_true", help="run eager steps instead of replaying a CUDA graph"
    )
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.eager:
        mock.patch("charnn.training.loop.can_capture", return_value=False).start()
    device = pick_device(options.device)
    version = f"torch {torch.__version__}, {options.precision}"
    print(f"{device}, {options.threads} threads, {version}")
    kernel_column = device.type == "cuda"
    head = "| size | lanes x window | characters/s | peak GFLOP/s | share | done | optimizer |"
    print(head + " kernel |" * kernel_column)
    print("|---" * (7 + kernel_column) + "|")
    sizes = [tuple(map(int, size.split("x"))) for size in options.sizes]
    for cell, (layers, hidden), lanes in itertools.product(options.cells, sizes, options.lanes):
        model = ModelConfig(VOCABULARY, hidden, layers, min(hidden, 512), cell)
        train = TrainConfig(
            10**9, lanes, WINDOW, 1e-3, 0, optimizer=options.optimizer,
            precision=options.precision, deterministic=options.deterministic,
        )  # fmt: skip
        rate, best, ratio, kernel = measure(model, train, device)
        count = arithmetic(model, train, folded=device.type == "cpu")
        print(
            f"| {layers}x{hidden} {cell} | {lanes}x{WINDOW} | {rate:,.0f} | {best / 1e9:,.0f} "
            f"| {ratio * count.share:.0%} | {ratio * count.done:.0%} "
            f"| {count.optimizer / count.done:.0%} |"
            + ("" if math.isnan(kernel) else f" {kernel:.0%} |"),
            flush=True,
        )


if __name__ == "__main__":
    main()
