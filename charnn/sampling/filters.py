"""Filters of what may be drawn: pure functions from logits [B, V] to logits [B, V].

A filter makes symbols impossible (-inf) and leaves at least one possible. Filters by probability
use the softmax of the logits they are given, so their order matters; it is that of `FilterChain`.
"""

import torch
from torch import Tensor

from charnn.config import SampleConfig
from charnn.sampling.history import History

# Shapes: B batch, V vocabulary.


def top_k(logits: Tensor, k: int) -> Tensor:
    """Keep the `k` likeliest symbols, exactly `k` even where some are equally likely."""
    k = min(k, logits.shape[-1])
    kept = torch.sort(logits, dim=-1, descending=True, stable=True).indices[..., :k]
    return torch.full_like(logits, -torch.inf).scatter(-1, kept, logits.gather(-1, kept))


def top_p(logits: Tensor, mass: float) -> Tensor:
    """Keep the fewest likeliest symbols whose probabilities sum to `mass` or more (Holtzman et al.
    2020)."""
    return _fewest(logits, -logits, mass)


def min_p(logits: Tensor, share: float) -> Tensor:
    """Keep the symbols at least `share` times as likely as the likeliest (Nguyen et al. 2024)."""
    odds = (logits - logits.amax(-1, keepdim=True)).exp()  # the likeliest has exactly 1
    return logits.masked_fill(odds < share, -torch.inf)


def typical(logits: Tensor, mass: float) -> Tensor:
    """Keep the fewest symbols whose probabilities sum to `mass` or more, in order of how near their
    surprise is to the expected one (Meister et al. 2023)."""
    nats = -logits.log_softmax(-1)
    expected = (nats.exp().reciprocal() * nats).nan_to_num(0.0).sum(-1, keepdim=True)
    return _fewest(logits, (nats - expected).abs(), mass)


def _fewest(logits: Tensor, order: Tensor, mass: float) -> Tensor:
    """Keep symbols in ascending `order` until their probabilities sum to `mass`."""
    if mass >= 1:
        return logits
    ranked = torch.sort(order, dim=-1, stable=True).indices
    probabilities = logits.softmax(-1).gather(-1, ranked)
    before = probabilities.cumsum(-1) - probabilities  # the sum of those that come first
    before[..., 0] = -1.0
    dropped = torch.zeros_like(logits, dtype=torch.bool).scatter(-1, ranked, before >= mass)
    return logits.masked_fill(dropped, -torch.inf)


def penalised(logits: Tensor, seen: Tensor, penalty: float) -> Tensor:
    """Make the symbols marked in `seen` [B, V] `penalty` times less likely, relative to the rest.

    Keskar et al. 2019 scale the logit itself, which depends on where its arbitrary zero lies.
    """
    return logits - torch.log(torch.tensor(penalty)).item() * seen


def without(logits: Tensor, index: int) -> Tensor:
    """Make one symbol impossible."""
    logits = logits.clone()
    logits[..., index] = -torch.inf
    return logits


def forbidden(logits: Tensor, marked: Tensor) -> tuple[Tensor, int]:
    """Make the symbols marked [B, V] impossible, except in rows where none would be left.

    Return the number of these rows too.
    """
    allowed = logits.masked_fill(marked, -torch.inf)
    empty = allowed.isneginf().all(-1, keepdim=True)
    return torch.where(empty, logits, allowed), int(empty.sum())


class FilterChain:
    """The filters of a config, in this order: unknown symbol, repetition penalty, no repeat; then,
    with the temperature applied, top-k, top-p, min-p, typical.

    `relaxed` counts how often `no_repeat` would have left a row nothing to draw, and was dropped
    for that symbol. A chain serves one call of a sampler.
    """

    def __init__(self, config: SampleConfig, unknown: int | None = None) -> None:
        """Take the index of the unknown symbol, which is never drawn."""
        self.config = config
        self.relaxed = 0
        self._unknown = unknown
        self._by_probability = [
            (filter_, value)
            for filter_, value in (
                (top_p, config.top_p), (min_p, config.min_p), (typical, config.typical)
            )
            if value is not None and config.temperature > 0
        ]  # fmt: skip
        self.looks_back = config.repetition_penalty != 1 or config.no_repeat is not None
        others = unknown is not None or config.top_k is not None or bool(self._by_probability)
        self.is_empty = not (self.looks_back or others)

    def __call__(self, logits: Tensor, history: History) -> Tensor:
        """Return the logits [B, V] with impossible symbols at -inf; the temperature is not applied
        to the others."""
        c = self.config
        if self._unknown is not None:
            logits = without(logits, self._unknown)
        if c.repetition_penalty != 1:
            logits = penalised(logits, history.recent().to(logits.device), c.repetition_penalty)
        if c.no_repeat is not None:
            logits, relaxed = forbidden(logits, history.repeating().to(logits.device))
            self.relaxed += relaxed
        if c.top_k is not None:
            logits = top_k(logits, c.top_k)
        if self._by_probability:
            warm = (logits - logits.amax(-1, keepdim=True)) / c.temperature
            for filter_, value in self._by_probability:
                warm = filter_(warm, value)
            logits = logits.masked_fill(warm.isneginf(), -torch.inf)
        return logits
