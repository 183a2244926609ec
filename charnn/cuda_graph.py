"""CUDA graphs: capture the kernels of a function once, then replay them all in one launch."""

from collections.abc import Callable
from typing import TypeVar

import torch

Result = TypeVar("Result")


def capture(
    device: torch.device, warm_up: Callable[[], Result], run: Callable[[], object]
) -> tuple[torch.cuda.CUDAGraph, Result]:
    """Capture the kernels that `run` launches; return the graph and the result of `warm_up`.

    `warm_up` is called first: libraries allocate workspaces and choose kernels at their first
    call, which must not happen during the capture. Raises `RuntimeError` if the capture fails;
    PyTorch's streams and generators are then as they were before.
    """
    with torch.cuda.device(device):
        # CUDA cannot capture on its default stream.
        current, side = torch.cuda.current_stream(), torch.cuda.Stream()
        side.wait_stream(current)
        try:
            with torch.cuda.stream(side):
                result = warm_up()
            current.wait_stream(side)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, stream=side):
                run()
        except RuntimeError:
            # After a failed capture PyTorch leaves the side stream selected and its random
            # generator registered with the graph; undo both.
            torch.cuda.set_stream(current)
            generator = torch.cuda.default_generators[torch.cuda.current_device()]
            generator.graphsafe_set_state(generator.clone_state())
            raise
    return graph, result
