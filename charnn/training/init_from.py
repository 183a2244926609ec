"""A start from old weights: a symbol keeps its rows, whichever number it has in the new text."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from charnn.text.tokenizer import Tokenizer

BY_SYMBOL = ("embedding.weight", "head.weight", "head.bias")
_NAMED = 20  # characters in a note


def adapt_weights(
    weights: Mapping[str, Tensor], before: Tokenizer, after: Tokenizer
) -> dict[str, Tensor]:
    """The weights for the vocabulary `after`: what `before` has too keeps its rows, and a symbol
    that is new begins as the average of those that were known."""
    _, old, new = np.intersect1d(before.codes(), after.codes(), return_indices=True)
    result = dict(weights)
    for name in BY_SYMBOL:
        mean = weights[name].mean(0, keepdim=True)
        rows = mean.repeat(after.vocabulary_size, *[1] * (mean.dim() - 1))
        rows[torch.from_numpy(new)] = weights[name][torch.from_numpy(old)]
        result[name] = rows
    return result


def vocabulary_changes(before: Tokenizer, after: Tokenizer) -> list[str]:
    """What is to be said of the symbols that only one of two vocabularies has."""
    added, lost = _only(after, before), _only(before, after)
    notes = []
    if added:
        notes.append(f"new to the weights, and begun as the average of the others: {added}")
    if lost:
        notes.append(f"known to the weights, but not in the text, and lost: {lost}")
    return notes


def _only(one: Tokenizer, other: Tokenizer) -> str:
    codes = np.setdiff1d(one.codes(), other.codes())
    names = " ".join(repr(chr(code)) for code in codes[:_NAMED])
    return f"{names} and {len(codes) - _NAMED:,} more" if len(codes) > _NAMED else names
