"""Beam search: the likeliest texts instead of drawn ones."""

import math

import torch

from charnn.sampling.batch import Batch
from charnn.sampling.texts import Ending, Sample, Stops
from charnn.text.tokenizer import Tokenizer


def search(
    batch: Batch, tokenizer: Tokenizer, width: int, length: int, ending: Ending
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
            stops = Stops(ending)
            text = stops.feed(tokenizer.decode(symbols))
            if stops.met:
                found.append(Sample(0, None, text, value, place, "stop"))
            else:
                parents.append(parent)
                going.append((value, symbols))
        beams = going
        if not beams or len(found) >= width:
            break
        if place < length:
            batch.keep(parents)
            batch.advance(torch.tensor([symbols[-1] for _, symbols in beams]).to(best.indices))
    else:
        ends = [(tokenizer.decode(symbols), nats) for nats, symbols in beams]
        found += [Sample(0, None, text, nats, length, "length") for text, nats in ends]
    return sorted(found, key=lambda one: one.nats_per_char)[:width]
