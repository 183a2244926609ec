"""`charnn doctor`: show what this machine is, and whether it is as fast as it should be."""

import importlib.metadata
import os
import platform
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from charnn.cli.help import Command, option
from charnn.cli.options import device_option
from charnn.cli.terminal import show
from charnn.version import __version__
from charnn.words import plural

if TYPE_CHECKING:
    import torch

PACKAGES = ("torch", "numpy", "click", "tqdm", "safetensors", "matplotlib")
EXTRAS = {"matplotlib": "pip install 'charnn[plot]'"}
VARIABLES = (
    "OMP_NUM_THREADS", "MKL_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "CHARNN_CACHE", "WORLD_SIZE",
)  # fmt: skip
# Characters per second in BENCHMARKS.md, on two cores of a Xeon with AMX.
REFERENCE = {"training in bf16": 30_770, "training in fp32": 12_634, "sampling": 3_428}
SECONDS = 3.0  # for each of the three speed tests


@click.command("doctor", cls=Command)
@option("--no-speed", is_flag=True, group="General", help="Skip the speed test (10 seconds).")
@device_option
def command(no_speed: bool, device: str) -> None:
    """Show versions, devices and settings, and how fast this machine trains and samples.

    Include its output in bug reports, with the command that failed and what it printed.

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
    show("")
    show("speed (reference: two cores of a Xeon with AMX, see BENCHMARKS.md):")
    for name, rate in _speeds(where):
        reference = f"{REFERENCE[name]:,}" if name in REFERENCE else "none"
        show(f"{name:<20} {rate:,.0f} characters/s (reference: {reference})")


def _machine(device: "torch.device") -> Iterator[tuple[str, str]]:
    """Yield names and descriptions of versions, hardware and environment variables."""
    import torch

    from charnn.device import fast_bfloat16, processor_name, unused_gpu
    from charnn.training.cudnn import CudaDevice
    from charnn.training.memory import available_memory, format_bytes

    yield "charnn", f"{__version__}, {Path(__file__).parents[2]}"
    yield "python", f"{platform.python_version()}, {sys.executable}"
    yield "system", platform.platform()
    for name in PACKAGES:
        try:
            yield name, importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            yield name, f"not installed; {EXTRAS.get(name, f'pip install {name}')}"
    fast = "fast" if fast_bfloat16(torch.device("cpu")) else "slow"
    yield (
        "processor",
        f"{processor_name()}, {plural(os.cpu_count() or 1, 'core')}, "
        f"{plural(torch.get_num_threads(), 'thread')}",
    )
    yield "instructions", f"{torch.backends.cpu.get_cpu_capability()}, bfloat16 is {fast}"
    yield "memory", f"{format_bytes(available_memory(torch.device('cpu')))} free"
    yield "cuda", _cuda()
    for number in range(torch.cuda.device_count()):
        card = CudaDevice.query(torch.device("cuda", number))
        major, minor = card.capability
        kernel = (
            "fp16 LSTMs can use cuDNN's persistent kernel"
            if card.has_persistent_kernel
            else "no persistent kernel"
        )
        yield (
            f"cuda:{number}",
            f"{card.name}, {format_bytes(card.memory)}, capability {major}.{minor}, "
            f"{card.multiprocessors} multiprocessors; {kernel}",
        )
    if note := unused_gpu():
        yield "note", note
    yield "device", f"{device} is used"
    for name in VARIABLES:
        if name in os.environ:
            yield name, os.environ[name]


def _cuda() -> str:
    import torch

    if torch.version.cuda is None:
        return "not available (CPU-only PyTorch)"
    return f"{torch.version.cuda}, cuDNN {torch.backends.cudnn.version() or 'not available'}"


def _speeds(device: "torch.device") -> Iterator[tuple[str, float]]:
    """Yield what was measured and its characters per second, at the sizes of the reference."""
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
        batch = Batch.of_network(network, SampleConfig(), [0], [1])
        start, generated = time.perf_counter(), 0
        while time.perf_counter() < start + SECONDS:
            batch.advance(batch.draw())
            generated += 1
        yield "sampling", generated / (time.perf_counter() - start)
