"""Beam search: the likeliest texts instead of drawn ones."""

import math

import numpy as np
import torch

from charnn.sampling.batch import Batch
from charnn.sampling.sample import Sample
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
    beams: list[tuple[float, list[int]]] = [(0.0, [])]  # nats and symbols
    finished: list[Sample] = []
    for place in range(1, length + 1):
        nats = -batch.logits.log_softmax(-1)
        if tokenizer.unknown_index is not None:
            nats[:, tokenizer.unknown_index] = math.inf
        total = nats + torch.tensor([[before] for before, _ in beams]).to(nats)
        best = total.flatten().topk(min(width, int(total.isfinite().sum())), largest=False)
        parents, continued = [], []
        for value, number in zip(best.values.tolist(), best.indices.tolist(), strict=True):
            parent, symbol = divmod(number, total.shape[1])
            symbols = [*beams[parent][1], symbol]
            if (text := _stopped_text(tokenizer, symbols, stop)) is not None:
                finished.append(Sample(0, None, text, value, place, "stop"))
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
        ends = [(tokenizer.decode(symbols), nats) for nats, symbols in beams]
        finished += [Sample(0, None, text, nats, length, "length") for text, nats in ends]
    return sorted(finished, key=lambda one: one.nats_per_char)[:width]


def _stopped_text(tokenizer: Tokenizer, symbols: list[int], stop: StopCriteria) -> str | None:
    """Return the text of the symbols if the last of them completed a stop."""
    longest = max((len(text.encode("utf-8", "surrogateescape")) for text in stop.texts), default=0)
    if longest < len(symbols):  # decode only as many symbols as a stop may have
        tail = tokenizer.decode(symbols[len(symbols) - longest :])
        if not any(text in tail for text in stop.texts):
            return None
    scanner = StopScanner(stop)
    text = scanner.feed(tokenizer.decode(symbols))
    return text if scanner.met else None
