"""Functions written once for NumPy's arrays and for torch's tensors.

NumPy computes one text on a CPU, where it starts faster and needs no torch, and filters; torch many
texts, and all on other devices.
"""

from typing import Any

import numpy as np

Array = Any  # of NumPy or of torch


def module_of(array: Array) -> Any:
    """Return the module that computes with an array: numpy, or torch."""
    if isinstance(array, np.ndarray):
        return np
    import torch

    return torch


def like(array: Array, other: Array, dtype: Any = None) -> Array:
    """Return a NumPy array as one of the module and device of `other`, and of a torch `dtype` if
    one is given."""
    if isinstance(other, np.ndarray):
        return array
    import torch

    tensor = torch.from_numpy(array)  # cast first: a device may lack the type
    return tensor.to(dtype or tensor.dtype).to(other.device)


def to_numpy(array: Array) -> Array:
    """Return an array of NumPy; one of a tensor on the CPU shares its memory."""
    return array if isinstance(array, np.ndarray) else array.cpu().numpy()


def take_along(array: Array, indices: Array) -> Array:
    """Return the elements at `indices` along the last axis."""
    if isinstance(array, np.ndarray):
        return np.take_along_axis(array, indices, -1)
    return array.gather(-1, indices)


def log_softmax(logits: Array) -> Array:
    """Return the logarithms of the probabilities along the last axis; one logit must be finite."""
    xp = module_of(logits)
    shifted = logits - xp.amax(logits, axis=-1, keepdims=True)
    return shifted - xp.log(xp.exp(shifted).sum(axis=-1, keepdims=True))


def least(values: Array, count: int) -> Array:
    """Return the indices of the `count` least values along the last axis of a NumPy array, in
    ascending order."""
    if 0 < count < values.shape[-1]:
        some = np.argpartition(values, count - 1, -1)[..., :count]
        some.sort(-1)  # what is equal keeps its order
    else:
        some = np.broadcast_to(np.arange(count), (*values.shape[:-1], count))
    order = np.take_along_axis(values, some, -1).argsort(-1, kind="stable")
    return np.take_along_axis(some, order, -1)
