"""CUDA graphs on a CPU: the tensor operations of a block are noted and repeated in place.

As on a GPU, only tensor operations are replayed, on whatever the same memory holds by then, and an
operation that would make the program wait for a number cannot be captured.
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

WAITING = {torch.ops.aten._local_scalar_dense.default, torch.ops.aten.equal.default}


class FakeGraph(TorchDispatchMode):
    """Stands in for `torch.cuda.CUDAGraph`."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations: list[tuple[Callable[..., Any], Any, Any, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in WAITING:
            raise RuntimeError(f"{func}: operation not permitted when stream is capturing")
        result = func(*args, **(kwargs or {}))
        self.operations.append((func, args, kwargs or {}, result))
        return result

    @torch.no_grad()
    def replay(self) -> None:
        """Repeat the operations, and write their results where the first ones were written."""
        for func, args, kwargs, result in self.operations:
            for place, value in zip(
                tree_leaves(result), tree_leaves(func(*args, **kwargs)), strict=True
            ):
                if isinstance(value, Tensor) and place.data_ptr() != value.data_ptr():
                    place.copy_(value)


@contextlib.contextmanager
def _capture(graph: FakeGraph, stream: object) -> Iterator[None]:
    """Stands in for `torch.cuda.graph`."""
    with graph:
        yield


@contextlib.contextmanager
def fake_cuda_graphs() -> Iterator[list[FakeGraph]]:
    """Within the block, let training and sampling capture graphs on a CPU; yield those made."""
    graphs: list[FakeGraph] = []

    def new_graph() -> FakeGraph:
        graphs.append(FakeGraph())
        return graphs[-1]

    anything = mock.MagicMock()
    with (
        mock.patch.multiple(
            torch.cuda, device=anything, Stream=anything, current_stream=anything, stream=anything,
            CUDAGraph=new_graph, graph=_capture, set_stream=anything, current_device=anything,
            default_generators=anything,
        ),
        mock.patch.object(update, "_pinned", lambda part: part),
        mock.patch.object(loop, "can_capture", return_value=True),
        mock.patch.object(GraphedBatch, "_can_capture", True),
    ):  # fmt: skip
        yield graphs
