"""Beam search: the likeliest texts instead of drawn ones."""

import math
from functools import partial

import numpy as np

from charnn.sampling.arrays import least, log_softmax, to_numpy
from charnn.sampling.batch import Batch
from charnn.sampling.sample import Sample, sample_of
from charnn.sampling.stopping import StopCriteria, StopScanner
from charnn.text.tokenizer import Tokenizer


def search(
    batch: Batch, tokenizer: Tokenizer, width: int, length: int, stop: StopCriteria
) -> list[Sample]:
    """Return up to `width` likely texts that follow the single row of `batch`, of `length` symbols
    or up to a stop; the one with the fewest nats per symbol first.

    At each place the `width` likeliest continuations are kept. One that meets a stop is finished.
    The search ends when `width` are finished, when none is left, or at `length`.
    """
    pieces = tokenizer.pieces()
    new_scanner = partial(StopScanner, stop, tokenizer.bytes_of)
    beams: list[tuple[float, list[int]]] = [(0.0, [])]  # nats and symbols
    finished: list[Sample] = []
    for place in range(1, length + 1):
        nats = -log_softmax(to_numpy(batch.logits))
        if tokenizer.unknown_index is not None:
            nats[:, tokenizer.unknown_index] = math.inf
        total = nats + np.array([[before] for before, _ in beams], nats.dtype)
        best = least(total.ravel(), min(width, int(np.isfinite(total).sum())))
        parents, continued = [], []
        for value, number in zip(total.ravel()[best].tolist(), best.tolist(), strict=True):
            parent, symbol = divmod(number, total.shape[1])
            symbols = [*beams[parent][1], symbol]
            if (data := _stopped(pieces, symbols, new_scanner())) is not None:
                finished.append(sample_of(data, value, place, "stop", index=0, seed=None))
            else:
                parents.append(parent)
                continued.append((value, symbols))
        beams = continued
        if not beams or len(finished) >= width:
            break
        if place < length:
            batch.select(parents)
            batch.advance(np.array([symbols[-1] for _, symbols in beams]))
    else:
        ends = [(b"".join(map(pieces.__getitem__, symbols)), nats) for nats, symbols in beams]
        finished += [
            sample_of(data, nats, length, "length", index=0, seed=None) for data, nats in ends
        ]
    return sorted(finished, key=lambda one: one.nats_per_char)[:width]


def _stopped(pieces: list[bytes], symbols: list[int], scanner: StopScanner) -> bytes | None:
    """Return the bytes of the text if its last symbol completed a stop."""
    if scanner.longest < len(symbols):  # only as many symbols as a stop may have
        tail = symbols[len(symbols) - scanner.longest :]
        if not scanner.finds(b"".join(map(pieces.__getitem__, tail))):
            return None
    data = scanner.feed(b"".join(map(pieces.__getitem__, symbols)))
    return data if scanner.met else None
