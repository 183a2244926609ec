"""What may be drawn: pure functions from logits [B, V] to logits [B, V].

A filter makes symbols impossible (-inf) and leaves at least one possible. Those that go by
probabilities take what softmax makes of the logits they get, so that the order matters; it is that
of `Chain`.
"""

import torch
from torch import Tensor

from charnn.config import SampleConfig
from charnn.sampling.history import History


def top_k(logits: Tensor, k: int) -> Tensor:
    """Keep the `k` likeliest symbols, exactly `k` also among equals."""
    k = min(k, logits.shape[-1])
    kept = torch.sort(logits, dim=-1, descending=True, stable=True).indices[..., :k]
    return torch.full_like(logits, -torch.inf).scatter(-1, kept, logits.gather(-1, kept))


def top_p(logits: Tensor, mass: float) -> Tensor:
    """Keep the fewest likeliest symbols that have so much probability together (Holtzman et al.
    2020)."""
    return _fewest(logits, -logits, mass)


def min_p(logits: Tensor, share: float) -> Tensor:
    """Keep what is at least `shard` times as likely as the likeliest (Nguyen et al. 2024)."""
    odds = (logits - logits.amax(-1, keepdim=True)).exp()  # the likeliest has exactly 1
    return logits.masked_fill(odds < share, -torch.inf)


def typical(logits: Tensor, mass: float) -> Tensor:
    """Keep the fewest symbols that have so much probability together, those first whose surprise
    is nearest to the one expected (Meister et al. 2023)."""
    nats = -logits.log_softmax(-1)
    expected = (nats.exp().reciprocal() * nats).nan_to_num(0.0).sum(-1, keepdim=True)
    return _fewest(logits, (nats - expected).abs(), mass)


def _fewest(logits: Tensor, order: Tensor, mass: float) -> Tensor:
    """Keep symbols in ascending `order` until they have so much probability together."""
    if mass >= 1:
        return logits
    ranked = torch.sort(order, dim=-1, stable=True).indices
    probabilities = logits.softmax(-1).gather(-1, ranked)
    before = probabilities.cumsum(-1) - probabilities  # of those that come first
    before[..., 0] = -1.0
    dropped = torch.zeros_like(logits, dtype=torch.bool).scatter(-1, ranked, before >= mass)
    return logits.masked_fill(dropped, -torch.inf)


def penalised(logits: Tensor, seen: Tensor, penalty: float) -> Tensor:
    """Make what is marked in `seen` [B, V] so many times less likely, beside the rest. (Keskar et
    al. 2019 scale the logit itself, whose zero means nothing.)"""
    return logits - torch.log(torch.tensor(penalty)).item() * seen


def without(logits: Tensor, index: int) -> Tensor:
    """Make one symbol impossible."""
    logits = logits.clone()
    logits[..., index] = -torch.inf
    return logits


def forbidden(logits: Tensor, marked: Tensor) -> tuple[Tensor, int]:
    """Make what is marked [B, V] impossible, but in rows where nothing would be left: their number
    too."""
    left = logits.masked_fill(marked, -torch.inf)
    empty = left.isneginf().all(-1, keepdim=True)
    return torch.where(empty, logits, left), int(empty.sum())


class Chain:
    """The filters of a config, in this order: unknown symbol, repetition penalty, no repeat;
    then, with the temperature applied, top-k, top-p, min-p, typical."""

    def __init__(self, config: SampleConfig, unknown: int | None = None) -> None:
        self._yielded = 0
        self._unknown = unknown
        self._config = config
        self._by_share = [
            (filter_, value)
            for filter_, value in (
                (top_p, config.top_p), (min_p, config.min_p), (typical, config.typical)
            )
            if value is not None and config.temperature > 0
        ]  # fmt: skip
        self.looks_back = config.repetition_penalty != 1 or config.no_repeat is not None
        filters = unknown is not None or config.top_k is not None or bool(self._by_share)
        self.idle = not (self.looks_back or filters)  # so that everything may be drawn

    def taken(self) -> int:
        """How often a filter yielded since this was asked last, because it would have left nothing
        to draw."""
        taken, self._yielded = self._yielded, 0
        return taken

    def __call__(self, logits: Tensor, history: History) -> Tensor:
        """The logits [B, V] of what may be drawn, before the temperature."""
        c = self._config
        if self._unknown is not None:
            logits = without(logits, self._unknown)
        if c.repetition_penalty != 1:
            logits = penalised(logits, history.recent().to(logits.device), c.repetition_penalty)
        if c.no_repeat is not None:
            logits, empty = forbidden(logits, history.repeating().to(logits.device))
            self._yielded += empty
        if c.top_k is not None:
            logits = top_k(logits, c.top_k)
        if self._by_share:
            warm = (logits - logits.amax(-1, keepdim=True)) / c.temperature
            for filter_, value in self._by_share:
                warm = filter_(warm, value)
            logits = logits.masked_fill(warm.isneginf(), -torch.inf)
        return logits
