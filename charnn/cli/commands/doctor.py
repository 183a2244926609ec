"""`charnn doctor`: what is this machine, and is it as fast as it should be?"""

import importlib.metadata
import os
import platform
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from charnn.cli.options import device_option
from charnn.cli.terminal import show
from charnn.version import __version__

if TYPE_CHECKING:
    import torch

PACKAGES = ("torch", "numpy", "click", "tqdm", "safetensors", "matplotlib")
EXTRAS = {"matplotlib": "pip install 'charnn[plot]'"}
VARIABLES = (
    "OMP_NUM_THREADS", "MKL_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "CHARNN_CACHE", "WORLD_SIZE",
)  # fmt: skip
# Rows of BENCHMARKS.md, of two cores of a Xeon with AMX: characters a second.
TABLE = {"training in bf16": 30_770, "training in fp32": 12_634, "sampling": 3_428}
SECONDS = 3.0  # for each of three tests


@click.command("doctor", short_help="Tell what this machine is and how fast.")
@click.option("--no-speed", is_flag=True, help="Leave out the test of ten seconds.")
@device_option
def command(no_speed: bool, device: str) -> None:
    """Tell versions, devices and settings, and how fast this machine trains and samples.

    What it prints belongs into a bug report, with the command that failed and what that printed.

    \b
    Example:
      charnn doctor --no-speed
    """
    from charnn.device import pick_device

    where = pick_device(device)
    for name, value in _machine(where):
        show(f"{name:<20} {value}")
    if no_speed:
        return
    show("\nspeed, beside two cores of a Xeon with AMX (BENCHMARKS.md):")
    for name, rate in _speeds(where):
        there = f"{TABLE[name]:,} there" if name in TABLE else "not there"
        show(f"{name:<20} {rate:,.0f} characters/s, {there}")


def _machine(device: "torch.device") -> Iterator[tuple[str, str]]:
    import torch

    from charnn.device import fast_bfloat16, idle_card
    from charnn.training.cudnn import Card
    from charnn.training.memory import available, readable

    yield "charnn", f"{__version__}, {Path(__file__).parents[2]}"
    yield "python", f"{platform.python_version()}, {sys.executable}"
    yield "system", platform.platform()
    for name in PACKAGES:
        try:
            yield name, importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            yield name, f"not installed; {EXTRAS.get(name, f'pip install {name}')}"
    fast = "fast" if fast_bfloat16(torch.device("cpu")) else "slow"
    yield "processor", f"{_processor()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads"
    yield "instructions", f"{torch.backends.cpu.get_cpu_capability()}, bfloat16 is {fast}"
    yield "memory", f"{readable(available(torch.device('cpu')))} free"
    yield "cuda", f"{torch.version.cuda or 'not in this PyTorch'}, cuDNN {_cudnn() or 'neither'}"
    for number in range(torch.cuda.device_count()):
        card = Card.of(torch.device("cuda", number))
        major, minor = card.capability
        kernel = "lstm in fp16 can have the persistent kernel" if card.suits else "no fast kernel"
        yield (
            f"cuda:{number}",
            f"{card.name}, {readable(card.memory)}, capability {major}.{minor}, "
            f"{card.processors} processors; {kernel}",
        )
    if note := idle_card():
        yield "note", note
    yield "device", f"{device} is used"
    for name in VARIABLES:
        if name in os.environ:
            yield name, os.environ[name]


def _processor() -> str:
    """The name that people know."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _cudnn() -> str:
    import torch

    version = torch.backends.cudnn.version() if torch.version.cuda else None
    return str(version or "")


def _speeds(device: "torch.device") -> Iterator[tuple[str, float]]:
    """Characters a second, of the sizes that the table has."""
    import numpy as np
    import torch

    from charnn.config import ModelConfig, SampleConfig, TrainConfig
    from charnn.device import has_bfloat16_lstm
    from charnn.model.network import CharNetwork
    from charnn.sampling.batch import Batch
    from charnn.sampling.sampler import single_stream_threads
    from charnn.training.speed import SpeedTest

    text = np.random.default_rng(1).integers(65, size=200_000).astype(np.uint8)
    model = ModelConfig(65, 384, 2, 384)
    other = "fp16" if device.type == "cuda" else "bf16"
    for precision, lanes in ((other, 32), ("fp32", 16)):
        if precision == "bf16" and not has_bfloat16_lstm(device):
            continue
        train = TrainConfig(1, lanes, 64, 1e-3, 1, optimizer="muon", precision=precision)
        speed = SpeedTest(text, device).measure(model, train, SECONDS)
        yield f"training in {precision}", lanes * 64 / speed.undisturbed
    network = CharNetwork(ModelConfig(65, 512, 2, 512)).to(device)
    with single_stream_threads(), torch.inference_mode():
        batch = Batch(network, SampleConfig(), [0], [1])
        start, written = time.perf_counter(), 0
        while time.perf_counter() < start + SECONDS:
            batch.advance(batch.draw())
            written += 1
        yield "sampling", written / (time.perf_counter() - start)
