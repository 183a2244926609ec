"""The conditions under which PyTorch uses cuDNN's persistent kernel for recurrent layers.

That kernel keeps the recurrent weights on the GPU's multiprocessors for a whole window, which makes
it the fastest. The conditions below are those of PyTorch's aten/src/ATen/native/cudnn/RNN.cpp
(`get_algo` and the two heuristics it calls) for GPUs since Ampere, applied to the one-layer modules
that the network is made of.
"""

from dataclasses import dataclass

import torch

from charnn.config import ModelConfig, TrainConfig

SIZE_MULTIPLE, MAX_HIDDEN_SIZE = 128, 1024
LANE_MULTIPLE, MAX_LANES = 8, 128  # per process
MIN_CAPABILITY, MIN_MULTIPROCESSORS = (8, 0), 98
EXCLUDED_CAPABILITY = (8, 6)  # consumer GPUs of that generation, which PyTorch leaves out
# A plain RNN with as many units and as many lanes takes another kernel.
RNN_MANY_UNITS, RNN_MANY_LANES = 896, 96


@dataclass(frozen=True)
class CudaDevice:
    """The properties of a CUDA device that decide which kernels it can use."""

    name: str
    capability: tuple[int, int]
    multiprocessors: int
    memory: int  # bytes

    @classmethod
    def query(cls, device: torch.device) -> "CudaDevice":
        """Return the properties that the driver reports for `device`."""
        found = torch.cuda.get_device_properties(device)
        capability = (found.major, found.minor)
        return cls(found.name, capability, found.multi_processor_count, found.total_memory)

    @property
    def has_persistent_kernel(self) -> bool:
        """True if PyTorch uses the kernel on this device for some network."""
        recent = self.capability >= MIN_CAPABILITY and self.capability != EXCLUDED_CAPABILITY
        return recent and self.multiprocessors >= MIN_MULTIPROCESSORS


def unmet_conditions(
    model: ModelConfig, train: TrainConfig, device: CudaDevice, processes: int = 1
) -> list[str]:
    """Return the settings that keep a run from the kernel, each with the nearest that would not.

    For example: ["`hidden_size=500` (try 512)"]. The list is empty if the kernel will be used.
    """
    if not device.has_persistent_kernel:
        return [f"{device.name} is not one of the GPUs that have it"]
    unmet = []
    if model.cell == "gru":
        unmet.append('`cell="gru"` (try lstm)')
    if train.precision != "fp16":
        unmet.append(f'`precision="{train.precision}"` (try fp16)')
    nearest = _nearest(model.hidden_size, SIZE_MULTIPLE, MAX_HIDDEN_SIZE)
    if nearest != model.hidden_size:
        unmet.append(f"`hidden_size={model.hidden_size}` (try {nearest})")
    nearest = _nearest(model.embedding_size, SIZE_MULTIPLE, model.embedding_size + SIZE_MULTIPLE)
    if nearest != model.embedding_size:
        unmet.append(f"`embedding_size={model.embedding_size}` (try {nearest})")
    lanes = train.batch_size // processes
    nearest = _nearest(lanes, LANE_MULTIPLE, MAX_LANES)
    if nearest != lanes:
        unmet.append(f"`batch_size={train.batch_size}` (try {nearest * processes})")
    if model.cell == "rnn" and lanes >= RNN_MANY_LANES and model.hidden_size >= RNN_MANY_UNITS:
        most = (RNN_MANY_LANES - LANE_MULTIPLE) * processes
        unmet.append(f'`cell="rnn"` with so many units and lanes (try `batch_size={most}`)')
    return unmet


def _nearest(size: int, multiple: int, largest: int) -> int:
    """Return the multiple that is nearest to `size`, rounding up at ties, and at most `largest`."""
    return min(largest // multiple * multiple, max(1, int(size / multiple + 0.5)) * multiple)
