"""What may be drawn: pure functions from logits [B, V] to logits [B, V]."""

import torch
from torch import Tensor


def top_k(logits: Tensor, k: int) -> Tensor:
    """Keep the `k` likeliest symbols, exactly `k` also among equals; the rest is impossible."""
    k = min(k, logits.shape[-1])
    kept = torch.sort(logits, dim=-1, descending=True, stable=True).indices[..., :k]
    return torch.full_like(logits, -torch.inf).scatter(-1, kept, logits.gather(-1, kept))


def without(logits: Tensor, index: int) -> Tensor:
    """Make one symbol impossible."""
    logits = logits.clone()
    logits[..., index] = -torch.inf
    return logits
