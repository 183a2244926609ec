"""Filters change what they say and nothing else."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from charnn.sampling import filters

LOGITS = st.lists(st.floats(-20, 20), min_size=2, max_size=9).map(lambda row: torch.tensor([row]))


@given(LOGITS, st.integers(1, 12))
def test_top_k_keeps_k_that_are_no_less_likely_than_the_rest(logits: torch.Tensor, k: int) -> None:
    out = filters.top_k(logits, k)
    kept = out.isfinite()
    assert kept.sum() == min(k, logits.shape[1])
    assert torch.equal(out[kept], logits[kept])
    if not kept.all():
        assert logits[kept].min() >= logits[~kept].max()


def test_filters_leave_their_input_alone() -> None:
    logits = torch.tensor([[1.0, 2.0, 3.0]])
    filters.top_k(logits, 1)
    filters.without(logits, 2)
    assert logits.tolist() == [[1.0, 2.0, 3.0]]


def test_without_makes_one_symbol_impossible() -> None:
    assert filters.without(torch.zeros(1, 3), 1).softmax(-1).tolist() == [[0.5, 0.0, 0.5]]
