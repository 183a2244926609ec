"""CUDA's recordings on a CPU: the operations of a block are noted, and done again on the same
memory.

As on a card, only tensor operations are replayed, on what lies in the noted places by then, and one
that would make the program wait for a number cannot be recorded.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from charnn.sampling.graphed_batch import GraphedBatch
from charnn.training import loop, update

WAITS = {torch.ops.aten._local_scalar_dense.default, torch.ops.aten.equal.default}


class Graph(TorchDispatchMode):
    """Stands for `torch.cuda.CUDAGraph`."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations: list[tuple[Callable[..., Any], Any, Any, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in WAITS:
            raise RuntimeError(f"{func}: operation not permitted when stream is capturing")
        result = func(*args, **(kwargs or {}))
        self.operations.append((func, args, kwargs or {}, result))
        return result

    @torch.no_grad()
    def replay(self) -> None:
        """Do it again."""
        for func, args, kwargs, result in self.operations:
            for place, value in zip(
                tree_leaves(result), tree_leaves(func(*args, **kwargs)), strict=True
            ):
                if isinstance(value, Tensor) and place.data_ptr() != value.data_ptr():
                    place.copy_(value)


@contextlib.contextmanager
def _graph(graph: Graph, stream: object) -> Iterator[None]:
    with graph:
        yield


@contextlib.contextmanager
def recordings() -> Iterator[list[Graph]]:
    """Within the block a CPU makes recordings of updates and of sampling; those that were made."""
    made: list[Graph] = []

    def new() -> Graph:
        made.append(Graph())
        return made[-1]

    anything = mock.MagicMock()
    with (
        mock.patch.multiple(
            torch.cuda, device=anything, Stream=anything, current_stream=anything, stream=anything,
            CUDAGraph=new, graph=_graph, set_stream=anything, current_device=anything,
            default_generators=anything,
        ),
        mock.patch.object(update, "_sendable", lambda part: part),
        mock.patch.object(loop, "can_capture", return_value=True),
        mock.patch.object(GraphedBatch, "_can_capture", True),
    ):  # fmt: skip
        yield made
