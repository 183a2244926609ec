"""How fast does training run, and what share of this machine's matrix-product peak is that?

Prints a Markdown row per size: characters/s, and two shares of the float32 peak that a large
product reaches in the same run. `share` counts the multiplications of the model as it is written
(layers that read an embedding) and the optimizer's; `done` counts those that are made: with few
symbols the first layer's input product is folded into a small table (charnn/model/network.py), and
on a CPU the share may then pass what is done. `optimizer` is its part of them. The peak is that of
float32 whatever `--precision` the training has. Medians of five rounds, peak and training in turn.
On CUDA `kernel` is the share of the time in which cuDNN's recurrent kernels ran.

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
from charnn.text.batches import Batches
from charnn.training import muon
from charnn.training.loop import TrainingWarning, train_steps
from charnn.training.memory import GATES
from charnn.training.state import TrainState

SIZES = ("1x256", "2x256", "2x384", "2x512", "2x768")
VOCABULARY = 65
WINDOW = 64
ROUNDS = 5
RECURRENT = re.compile("rnn|lstm|gru|persist", re.IGNORECASE)  # in the names of cuDNN's kernels
SECONDS = 1.5


@dataclass(frozen=True)
class Arithmetic:
    """Floating-point operations for each character that is trained on."""

    share: float
    done: float
    optimizer: float  # counted in both


def arithmetic(model: ModelConfig, train: TrainConfig, folded: bool) -> Arithmetic:
    """Count the products of all gates over input and state, and of the head, each multiply-add two
    operations, forward once and backward twice; and Muon's, which are made once a step."""
    H, V, G = model.hidden_size, model.vocabulary_size, GATES[model.cell]
    upper = (model.num_layers - 1) * G * H * 2 * H + H * V
    first = G * H * (model.embedding_size + H)
    first_done = G * H * (V + H) if folded else first
    columns = [model.embedding_size] + [H] * (2 * model.num_layers - 1)
    step = sum(orthogonalisation(G * H, n) for n in columns) if train.optimizer == "muon" else 0.0
    optimizer = step / (train.batch_size * train.seq_len)
    return Arithmetic(
        6 * (upper + first) + optimizer, 6 * (upper + first_done) + optimizer, optimizer
    )


def orthogonalisation(rows: int, columns: int) -> float:
    """Return the operations of `charnn.training.muon.orthogonalize` in float32.

    In bfloat16 an LSTM's matrices take half as many again, but they are faster.
    """
    n, m = sorted((rows, columns))
    return 2.0 * (2 * m * n**2 + (4 * muon.ITERATIONS - 3) * n**3)


def peak(device: torch.device, size: int = 2048) -> float:
    """Floating-point operations per second of a square float32 product."""
    a, b = (torch.randn(size, size, device=device) for _ in range(2))
    seconds = timed(lambda: torch.mm(a, b)[0, 0].item(), 0.5)
    return 2 * size**3 / seconds


def timed(call: Callable[[], object], seconds: float) -> float:
    """Mean seconds of a call, from about `seconds` of calls."""
    start, calls = time.perf_counter(), 0
    while calls == 0 or time.perf_counter() - start < seconds:
        call()
        calls += 1
    return (time.perf_counter() - start) / calls


def measure(
    model: ModelConfig, train: TrainConfig, device: torch.device
) -> tuple[float, float, float, float]:
    """Characters/s, peak, their ratio (characters per floating-point operation at the peak), and on
    CUDA the recurrent kernels' share of the time."""
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
    """Share of the time of so many steps in which cuDNN's recurrent kernels ran."""
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
    parser.add_argument("--sizes", nargs="+", default=SIZES, help="layers x hidden units")
    parser.add_argument("--cells", nargs="+", default=["lstm"])
    parser.add_argument("--optimizer", default="muon")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--deterministic", action="store_true", help="what that costs on CUDA")
    parser.add_argument(
        "--eager", action="store_true", help="run eager steps instead of a replayed CUDA graph"
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
