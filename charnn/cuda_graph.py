"""What CUDA is made to do, recorded once and replayed: one launch instead of hundreds."""

from collections.abc import Callable
from typing import TypeVar

import torch

Result = TypeVar("Result")


def capture(
    device: torch.device, warm_up: Callable[[], Result], run: Callable[[], object]
) -> tuple[torch.cuda.CUDAGraph, Result]:
    """A recording of what `run` launches, which CUDA can replay, and what `warm_up` gave before:
    libraries make what they need at their first call, and a recording must find it.

    `RuntimeError` if it cannot be recorded; then all goes on as if nobody had tried.
    """
    with torch.cuda.device(device):
        # a recording cannot be made on the usual stream
        usual, side = torch.cuda.current_stream(), torch.cuda.Stream()
        side.wait_stream(usual)
        try:
            with torch.cuda.stream(side):
                result = warm_up()
            usual.wait_stream(side)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, stream=side):
                run()
        except RuntimeError:
            # torch then leaves the side stream in use, and its generator in the recording
            torch.cuda.set_stream(usual)
            generator = torch.cuda.default_generators[torch.cuda.current_device()]
            generator.graphsafe_set_state(generator.clone_state())
            raise
    return graph, result
