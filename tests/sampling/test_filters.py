"""Each filter equals a slow, literal version of its definition, and keeps the odds of the rest."""

import itertools
import math
import random
import tracemalloc
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from charnn.config import SampleConfig
from charnn.sampling import filters
from charnn.sampling.filters import FilterChain
from charnn.sampling.history import History

Row = list[float]

SHARES = st.floats(0.01, 1)
EXACT = 1e-9  # closer to a limit than this, rounding may decide


def probabilities(row: Row) -> Row:
    total = sum(math.exp(x) for x in row)
    return [math.exp(x) / total for x in row]


def kept(out: torch.Tensor) -> set[int]:
    return set(out.isfinite().nonzero().flatten().tolist())


def fewest(p: Row, order: list[int], mass: float) -> set[int]:
    """Return the first symbols in this order whose probabilities sum to `mass`."""
    some, together = set(), 0.0
    for i in order:
        assume(abs(together - mass) > EXACT)
        if together >= mass:
            break
        some.add(i)
        together += p[i]
    return some


def slow_top_k(row: Row, k: float) -> set[int]:
    return set(sorted(range(len(row)), key=lambda i: -row[i])[: int(k)])


def slow_top_p(row: Row, mass: float) -> set[int]:
    return fewest(probabilities(row), sorted(range(len(row)), key=lambda i: -row[i]), mass)


def slow_min_p(row: Row, share: float) -> set[int]:
    p = probabilities(row)
    assume(all(abs(x / max(p) - share) > EXACT for x in p) or share == 1)
    return {i for i, x in enumerate(p) if x >= share * max(p)}


def slow_typical(row: Row, mass: float) -> set[int]:
    p = probabilities(row)
    entropy = -sum(x * math.log(x) for x in p)
    away = [abs(-math.log(x) - entropy) for x in p]
    ordered = sorted(away)
    equal = {round(x, 2) for x in row}
    assume(len(equal) == len(row))
    assume(all(b - a > EXACT for a, b in itertools.pairwise(ordered)))
    return fewest(p, sorted(range(len(row)), key=lambda i: away[i]), mass)


@pytest.mark.medium
@pytest.mark.parametrize(
    ("fast", "slow"),
    [
        (filters.top_p, slow_top_p),
        (filters.min_p, slow_min_p),
        (filters.typical, slow_typical),
        (
            lambda logits, k: filters.top_k(logits, math.ceil(9 * k)),
            lambda row, k: slow_top_k(row, math.ceil(9 * k)),
        ),
    ],
    ids=["top_p", "min_p", "typical", "top_k"],
)
@given(
    rows=st.integers(2, 9).flatmap(
        lambda n: st.lists(
            st.lists(st.floats(-20, 20).map(lambda x: round(x, 2)), min_size=n, max_size=n),
            min_size=1,
            max_size=4,
        )
    ),
    value=SHARES,
)
def test_a_filter_keeps_what_its_slow_version_keeps(
    fast: Callable[[torch.Tensor, float], torch.Tensor],
    slow: Callable[[Row, float], set[int]],
    rows: list[Row],
    value: float,
) -> None:
    logits = torch.tensor(rows, dtype=torch.float64)
    before = logits.clone()
    out = fast(logits, value)
    assert torch.equal(logits, before)
    for row, out_row, given_ in zip(rows, out, logits, strict=True):
        assert kept(out_row) == slow(row, value)
        assert torch.equal(out_row[out_row.isfinite()], given_[out_row.isfinite()])


@pytest.mark.parametrize("filter_", [filters.top_p, filters.min_p, filters.typical, filters.top_k])
def test_a_filter_computes_alike_with_numpy_and_with_torch(
    filter_: Callable[..., Any],
) -> None:
    logits = np.random.default_rng(1).normal(size=(50, 9)).astype(np.float32)
    logits[:, 3] = -math.inf
    for value in (2, 5) if filter_ is filters.top_k else (0.05, 0.5, 0.9, 1.0):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            ours = filter_(logits, value)
        theirs = filter_(torch.from_numpy(logits), value)
        assert ours.dtype == np.float32
        assert theirs.dtype == torch.float32
        assert np.array_equal(ours, theirs.numpy())


def test_top_k_keeps_exactly_k_among_equals() -> None:
    assert kept(filters.top_k(torch.zeros(1, 5), 2)[0]) == {0, 1}


@pytest.mark.parametrize("filter_", [filters.top_p, filters.min_p, filters.typical])
def test_an_impossible_symbol_stays_impossible(filter_: Callable[..., torch.Tensor]) -> None:
    logits = torch.tensor([[0.0, -math.inf, 1.0, -math.inf]])
    for value in (0.001, 0.5, 1.0):
        out = filter_(logits, value)
        assert out.isfinite().any()
        assert out[0, [1, 3]].isneginf().all()


def test_without_makes_one_symbol_impossible() -> None:
    logits = torch.zeros(1, 3)
    assert filters.without(logits, 1).softmax(-1).tolist() == [[0.5, 0.0, 0.5]]
    assert logits.tolist() == [[0.0, 0.0, 0.0]]


def test_a_penalty_divides_the_odds_of_what_was_seen() -> None:
    seen = torch.tensor([[True, False, False]])
    before, after = (
        x.softmax(-1)[0]
        for x in (torch.zeros(1, 3), filters.penalised(torch.zeros(1, 3), seen, 4.0))
    )
    torch.testing.assert_close(after[0] / after[1], before[0] / before[1] / 4)
    assert after[1] == after[2]


def test_no_repeat_is_relaxed_and_counted_where_nothing_would_be_left() -> None:
    marked = torch.tensor([[True, True], [True, False]])
    out, relaxed = filters.forbidden(torch.zeros(2, 2), marked)
    assert relaxed == 1
    assert out.tolist() == [[0.0, 0.0], [-math.inf, 0.0]]


def chain(logits: Row, prime: list[int] | None = None, **settings: object) -> torch.Tensor:
    config = SampleConfig.from_json(settings)
    history = History(config, len(logits), prime or [])
    history.restart(0)
    return FilterChain(config)(torch.tensor([logits], dtype=torch.float64), history)[0]


LOGITS = [math.log(p) for p in (0.4, 0.3, 0.2, 0.1)]


def test_the_filters_apply_in_the_order_that_the_help_states() -> None:
    # top-p after top-k: of .4 and .3 the first has 4/7 of the probability, which is .55 and more
    assert kept(chain(LOGITS, top_k=2, top_p=0.55, temperature=1.0)) == {0}
    assert kept(chain(LOGITS, top_p=0.55, temperature=1.0)) == {0, 1}
    # and after the temperature, which makes .4 and .3 more alike
    assert kept(chain(LOGITS, top_p=0.39, temperature=1.0)) == {0}
    assert kept(chain(LOGITS, top_p=0.39, temperature=3.0)) == {0, 1}
    # min-p after top-p: the likeliest that is left counts
    assert kept(chain(LOGITS, min_p=0.7, temperature=1.0)) == {0, 1}
    # the repetition penalty is the first
    assert kept(chain(LOGITS, [0], top_k=1, repetition_penalty=2.0)) == {1}


@given(st.lists(st.integers(0, 2), max_size=60), st.integers(1, 9))
def test_exactly_the_symbols_that_would_repeat_a_sequence_are_marked(
    symbols: list[int], n: int
) -> None:
    history = History(SampleConfig(no_repeat=n), 3, symbols)
    history.restart(0)
    before = symbols[len(symbols) - n + 1 :] if len(symbols) >= n - 1 else None
    sequences = [symbols[start : start + n] for start in range(len(symbols) - n + 1)]
    expected = [before is not None and [*before, symbol] in sequences for symbol in range(3)]
    assert history.repeating().tolist() == [expected]


def test_the_memory_for_long_sequences_is_small_and_that_for_an_endless_text_ends() -> None:
    history = History(SampleConfig(no_repeat=5000), 3, [])
    history.restart(0)
    tracemalloc.start()
    rng = random.Random(1)
    for _ in range(12_000):
        history.append([rng.randrange(3)])
    assert tracemalloc.get_traced_memory()[1] < 5_000_000
    tracemalloc.stop()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("charnn.sampling.history.MAX_SEQUENCES", 100)
        for _ in range(1000):
            history.append([rng.randrange(3)])
        (sequences,) = history._sequences
        assert len(sequences._newer) <= 100 >= len(sequences._older)


def test_no_repeat_forbids_symbols_that_would_repeat_a_sequence() -> None:
    assert kept(chain(LOGITS, [0, 1, 2, 0, 1], no_repeat=3)) == {0, 1, 3}
    assert kept(chain(LOGITS, [0, 1, 2, 0, 1], no_repeat=2)) == {0, 1, 3}
    assert kept(chain(LOGITS, [3, 1], no_repeat=1)) == {0, 2}
    assert kept(chain(LOGITS, [], no_repeat=3)) == {0, 1, 2, 3}


def test_the_repetition_penalty_looks_back_as_far_as_its_window() -> None:
    for window, same in ((1, {1, 2, 3}), (2, {2, 3}), (9, {2, 3})):
        out = chain(LOGITS, [0, 1, 0], repetition_penalty=5.0, repetition_window=window)
        assert {i for i in range(4) if out[i] == LOGITS[i]} == same


def test_at_temperature_zero_only_the_order_of_logits_counts() -> None:
    assert int(chain(LOGITS, temperature=0.0, top_p=0.5).argmax()) == 0
