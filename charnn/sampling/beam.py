"""Beam search: the likeliest texts instead of drawn ones."""

import math

import numpy as np
import torch

from charnn.sampling.batch import Batch
from charnn.sampling.stopping import Sample, StopCriteria, StopScanner
from charnn.text.tokenizer import Tokenizer


def search(
    batch: Batch, tokenizer: Tokenizer, width: int, length: int, ending: StopCriteria
) -> list[Sample]:
    """The likeliest texts of `length` symbols, or up to a stop, that follow the one row of `batch`;
    those first that have fewest nats per symbol.

    At each place the `width` likeliest beginnings go on. One that meets a stop has ended, and the
    search ends when `width` have, or when none is left.
    """
    beams: list[tuple[float, list[int]]] = [(0.0, [])]
    found: list[Sample] = []
    for place in range(1, length + 1):
        nats = -batch.logits.log_softmax(-1)
        if tokenizer.unknown_index is not None:
            nats[:, tokenizer.unknown_index] = math.inf
        total = nats + torch.tensor([[before] for before, _ in beams]).to(nats)
        best = total.flatten().topk(min(width, int(total.isfinite().sum())), largest=False)
        parents, going = [], []
        for value, number in zip(best.values.tolist(), best.indices.tolist(), strict=True):
            parent, symbol = divmod(number, total.shape[1])
            symbols = [*beams[parent][1], symbol]
            if text := _ended(tokenizer, symbols, ending):
                found.append(Sample(0, None, text[0], value, place, "stop"))
            else:
                parents.append(parent)
                going.append((value, symbols))
        beams = going
        if not beams or len(found) >= width:
            break
        if place < length:
            batch.keep(parents)
            batch.advance(np.array([symbols[-1] for _, symbols in beams]))
    else:
        ends = [(tokenizer.decode(symbols), nats) for nats, symbols in beams]
        found += [Sample(0, None, text, nats, length, "length") for text, nats in ends]
    return sorted(found, key=lambda one: one.nats_per_char)[:width]


def _ended(tokenizer: Tokenizer, symbols: list[int], ending: StopCriteria) -> tuple[str, ...]:
    """The text of the symbols if the last of them completed a stop."""
    stops = (*ending.stops, "\n") if ending.line else ending.stops
    longest = max((len(stop.encode("utf-8", "surrogateescape")) for stop in stops), default=0)
    tail = tokenizer.decode(symbols[len(symbols) - longest :]) if longest < len(symbols) else ""
    if longest < len(symbols) and not any(stop in tail for stop in stops):
        return ()
    passing = StopScanner(ending)
    text = passing.feed(tokenizer.decode(symbols))
    return (text,) if passing.met else ()
