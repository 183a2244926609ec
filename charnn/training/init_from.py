"""Start from trained weights with another vocabulary: symbols of both keep what was learned."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from charnn.text.tokenizer import Tokenizer

SYMBOL_WEIGHTS = ("embedding.weight", "head.weight", "head.bias")  # one row per symbol
_MAX_LISTED = 20  # symbols in a note


def adapt_weights(
    weights: Mapping[str, Tensor], before: Tokenizer, after: Tokenizer
) -> dict[str, Tensor]:
    """Return `weights`, trained with the vocabulary of `before`, for the vocabulary of `after`.

    A symbol of both vocabularies keeps its rows; a new symbol gets the mean of all old rows.
    """
    _, old, new = np.intersect1d(before.codes(), after.codes(), return_indices=True)
    result = dict(weights)
    for name in SYMBOL_WEIGHTS:
        mean = weights[name].mean(0, keepdim=True)
        rows = mean.repeat(after.vocabulary_size, *[1] * (mean.dim() - 1))
        rows[torch.from_numpy(new)] = weights[name][torch.from_numpy(old)]
        result[name] = rows
    return result


def vocabulary_changes(before: Tokenizer, after: Tokenizer) -> list[str]:
    """Return notes about the symbols that only one of two vocabularies contains."""
    dropped, added = _only_in(before, after), _only_in(after, before)
    notes = []
    if dropped:
        notes.append(
            "dropped: these characters of the old model do not occur in the new text, so the new "
            f"model cannot read or write them: {dropped}"
        )
    if added:
        notes.append(f"characters new to the model start as the mean of the others: {added}")
    return notes


def _only_in(one: Tokenizer, other: Tokenizer) -> str:
    codes = np.setdiff1d(one.codes(), other.codes())
    listed = " ".join(repr(chr(code)) for code in codes[:_MAX_LISTED])
    rest = len(codes) - _MAX_LISTED
    return f"{listed} and {rest:,} more" if rest > 0 else listed
