"""Filters of what may be drawn: pure functions from logits [B, V] to logits [B, V].

They take the arrays of NumPy or of torch.

A filter makes symbols impossible (-inf) and leaves at least one possible. Filters by probability
use the softmax of the logits they are given, so their order matters; it is that of `FilterChain`.
"""

import math

import numpy as np

from charnn.config import SampleConfig
from charnn.sampling.arrays import Array, like, log_softmax, module_of, take_along
from charnn.sampling.history import History

# Shapes: B batch, V vocabulary.

_MIN_TEMPERATURE = 1e-37  # below, float32 would divide by 0


def top_k(logits: Array, k: int) -> Array:
    """Keep the `k` likeliest symbols, exactly `k` even where some are equally likely."""
    _, ranks = _ranked(-logits)
    return _masked(logits, ranks >= k)


def top_p(logits: Array, mass: float) -> Array:
    """Keep the fewest likeliest symbols whose probabilities sum to `mass` or more (Holtzman et al.
    2020)."""
    return _fewest(logits, -logits, mass)


def min_p(logits: Array, share: float) -> Array:
    """Keep the symbols at least `share` times as likely as the likeliest (Nguyen et al. 2024)."""
    xp = module_of(logits)
    odds = xp.exp(logits - xp.amax(logits, axis=-1, keepdims=True))  # the likeliest has exactly 1
    return _masked(logits, odds < share)


def typical(logits: Array, mass: float) -> Array:
    """Keep the fewest symbols whose probabilities sum to `mass` or more, in order of how near their
    surprise is to the expected one (Meister et al. 2023)."""
    xp, nats = module_of(logits), -log_softmax(logits)
    finite = xp.where(nats == math.inf, 0.0, nats)
    expected = (xp.exp(-nats) * finite).sum(axis=-1, keepdims=True)
    return _fewest(logits, abs(nats - expected), mass)


def _fewest(logits: Array, order: Array, mass: float) -> Array:
    """Keep symbols in ascending `order` until their probabilities sum to `mass`."""
    if mass >= 1:
        return logits
    ranked, ranks = _ranked(order)
    probabilities = take_along(module_of(logits).exp(log_softmax(logits)), ranked)
    before = probabilities.cumsum(axis=-1) - probabilities  # the sum of those that come first
    before[..., 0] = -1.0
    return _masked(logits, take_along(before, ranks) >= mass)


def _ranked(order: Array) -> tuple[Array, Array]:
    """Return the indices in ascending order, and the place of each index in it; what is equal keeps
    its order."""
    xp = module_of(order)
    ranked = xp.argsort(order, axis=-1, stable=True)
    return ranked, xp.argsort(ranked, axis=-1, stable=True)


def _masked(logits: Array, marked: Array) -> Array:
    """Make the marked symbols impossible."""
    return module_of(logits).where(marked, -math.inf, logits)


def penalised(logits: Array, seen: Array, penalty: float) -> Array:
    """Make the symbols marked in `seen` [B, V] `penalty` times less likely, relative to the rest.

    Keskar et al. 2019 scale the logit itself, which depends on where its arbitrary zero lies.
    """
    return module_of(logits).where(seen, logits - math.log(penalty), logits)


def without(logits: Array, index: int) -> Array:
    """Make one symbol impossible."""
    logits = logits + 0.0  # a copy
    logits[..., index] = -math.inf
    return logits


def forbidden(logits: Array, marked: Array) -> tuple[Array, int]:
    """Make the symbols marked [B, V] impossible, except in rows where none would be left.

    Return the number of these rows too.
    """
    allowed = _masked(logits, marked)
    empty = (allowed == -math.inf).all(axis=-1, keepdims=True)
    return module_of(logits).where(empty, logits, allowed), int(empty.sum())


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

    def __call__(self, logits: Array, history: History) -> Array:
        """Return the logits [B, V] with impossible symbols at -inf; the temperature is not applied
        to the others."""
        c = self.config
        if self._unknown is not None:
            logits = without(logits, self._unknown)
        if c.repetition_penalty != 1:
            logits = penalised(logits, like(history.recent(), logits), c.repetition_penalty)
        if c.no_repeat is not None:
            logits, relaxed = forbidden(logits, like(history.repeating(), logits))
            self.relaxed += relaxed
        if c.top_k is not None:
            logits = top_k(logits, c.top_k)
        if self._by_probability:
            best = module_of(logits).amax(logits, axis=-1, keepdims=True)
            with np.errstate(over="ignore"):  # at a low temperature to -inf, which is right
                warm = (logits - best) / max(c.temperature, _MIN_TEMPERATURE)
            for filter_, value in self._by_probability:
                warm = filter_(warm, value)
            logits = _masked(logits, warm == -math.inf)
        return logits
