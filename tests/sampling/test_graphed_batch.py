"""Texts generated several symbols at a time are those generated one by one.

The steps that CUDA would capture run eagerly here.
"""

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from charnn.config import ModelConfig, SampleConfig
from charnn.model.network import CharNetwork
from charnn.sampling import graphed_batch
from charnn.sampling import sampler as sampler_module
from charnn.sampling.batch import Batch
from charnn.sampling.clamp import Clamp
from charnn.sampling.filters import FilterChain
from charnn.sampling.graphed_batch import GraphedBatch
from charnn.sampling.sample import Sample
from charnn.sampling.sampler import Sampler
from charnn.sampling.stopping import StopCriteria
from charnn.text.tokenizer import CharTokenizer
from tests.fake_cuda_graph import fake_cuda_graphs

TOKENIZER = CharTokenizer("\nabcdef")


@pytest.fixture(params=["lstm", "gru", "rnn"])
def network(request: pytest.FixtureRequest) -> CharNetwork:
    torch.manual_seed(2)
    config = ModelConfig(7, hidden_size=6, num_layers=2, embedding_size=5, cell=request.param)
    return CharNetwork(config).double()


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[GraphedBatch]:
    """The graphed batches that were prepared."""
    batches: list[GraphedBatch] = []
    prepare = GraphedBatch._prepare

    def watched(batch: GraphedBatch) -> None:
        batches.append(batch)
        prepare(batch)

    monkeypatch.setattr(sampler_module, "MIN_GRAPHED", 1)
    monkeypatch.setattr(GraphedBatch, "_prepare", watched)
    return batches


def samplers(network: CharNetwork, **named: Any) -> Iterator[Sampler]:
    for use_graphs in (False, True):
        sampler = Sampler(network.weights(), TOKENIZER, **named)
        sampler._use_graphs = use_graphs
        yield sampler


@pytest.mark.parametrize("length", [1, 15, 16, 17, 300])
@pytest.mark.parametrize("settings", [{}, {"top_k": 3}, {"top_p": 0.7, "temperature": 1.4}])
def test_a_stream_is_the_same(
    network: CharNetwork, made: list[GraphedBatch], length: int, settings: dict[str, Any]
) -> None:
    config = SampleConfig(length=length, seed=5, **settings)
    one, several = (
        "".join(w.stream(config, "ab", StopCriteria(("fff",)))) for w in samplers(network)
    )
    assert several == one
    assert len(made) == 1


@pytest.mark.parametrize("rows", [1, 3, 16])
def test_samples_that_end_and_start_within_the_steps_are_the_same(
    network: CharNetwork, made: list[GraphedBatch], rows: int
) -> None:
    config, stop = SampleConfig(length=40, seed=5), StopCriteria(("f",), keep_stop=True)
    one, several = (
        list(w.samples(config, 20, "ab", stop, alternatives=2, rows=rows))
        for w in samplers(network)
    )
    assert rows < 16 or len(made) > 1  # fewer rows at the end need another graph
    for expected, sample in zip(one, several, strict=True):
        assert plain(sample) == plain(expected)
        assert sample.nats == pytest.approx(expected.nats)
        assert [c.symbol for c in sample.choices] == [c.symbol for c in expected.choices]
        for ours, theirs in zip(sample.choices, expected.choices, strict=True):
            assert [symbol for symbol, _ in ours.alternatives] == [
                symbol for symbol, _ in theirs.alternatives
            ]


def plain(sample: Sample) -> tuple[Any, ...]:
    return sample.index, sample.seed, sample.text, sample.symbols, sample.stop


def test_texts_that_cannot_be_graphed_are_generated_all_the_same(
    network: CharNetwork,
    made: list[GraphedBatch],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    one, several = samplers(network)
    config = SampleConfig(length=30, seed=5)
    for changes in ({"no_repeat": 3}, {"repetition_penalty": 1.2}):
        looking = SampleConfig(length=30, seed=5, **changes)
        assert list(several.stream(looking)) == list(one.stream(looking))
    for sampler in samplers(network, clamps=[Clamp(0, 2, 0.5)]):
        list(sampler.stream(config))
    assert not made
    assert not caplog.messages

    def refuse(*_: Any) -> None:
        raise RuntimeError("operation not permitted\nand much more")

    monkeypatch.setattr(GraphedBatch, "_prepare", refuse)
    for _ in range(2):
        assert list(several.stream(config)) == list(one.stream(config))
    assert caplog.messages == [
        "CUDA graphs cannot be used, so sampling is slower: operation not permitted"
    ]


def test_a_graph_does_not_pay_for_short_texts(network: CharNetwork) -> None:
    sampler = list(samplers(network))[1]
    assert not sampler._graph_pays(FilterChain(SampleConfig(length=sampler_module.MIN_GRAPHED - 1)))
    assert sampler._graph_pays(FilterChain(SampleConfig(length=None)))


def test_rows_that_are_dropped_or_restarted_are_those_of_a_plain_batch(
    network: CharNetwork,
) -> None:
    config = SampleConfig(length=300)
    plain, graphed = (
        kind.of_network(network, config, [1, 2], range(5)) for kind in (Batch, GraphedBatch)
    )

    def one_by_one() -> Iterator[Any]:
        for _ in range(graphed_batch.STEPS):
            (indices,), (logits,) = plain.draw_steps()
            yield indices, torch.tensor(logits)
            plain.advance(indices)

    for rows in ([0, 2, 3, 4], [3, 1, 0], [2, 1], [0]):
        for (indices, logits), ours, seen in zip(one_by_one(), *graphed.draw_steps(), strict=True):
            assert ours.tolist() == indices.tolist()
            torch.testing.assert_close(seen, logits, rtol=1e-12, atol=1e-12)
        for batch in (plain, graphed):
            batch.select(rows)
            batch.restart(len(rows) - 1, 77)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("settings", [{}, {"top_k": 3}, {"top_p": 0.7, "temperature": 1.4}])
def test_captured_steps_are_the_eager_steps_and_wait_for_nothing(
    network: CharNetwork,
    made: list[GraphedBatch],
    settings: dict[str, Any],
    precision: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    config = SampleConfig(length=60, seed=5, **settings)
    one, several = samplers(network.float(), precision=precision)
    expected = list(one.samples(config, 12, "ab", rows=8))
    with fake_cuda_graphs() as graphs:
        samples = list(several.samples(config, 12, "ab", rows=8))
    assert [plain(sample) for sample in samples] == [plain(sample) for sample in expected]
    assert not caplog.messages
    assert len(graphs) == 2  # the second of four rows


def test_a_beam_search_uses_no_graph(network: CharNetwork, made: list[GraphedBatch]) -> None:
    config = SampleConfig(length=30)
    one, several = (sampler.beam(config, 3, "ab") for sampler in samplers(network))
    assert several == one
    assert not made


def test_rows_that_can_no_longer_be_captured_continue_step_by_step(
    network: CharNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise RuntimeError("out of memory")

    config = SampleConfig(length=60, seed=5)
    one, several = samplers(network)
    expected = list(one.samples(config, 12, "ab", rows=8))
    samples = several.samples(config, 12, "ab", rows=8)
    with fake_cuda_graphs():
        started = [next(samples)]
        monkeypatch.setattr(graphed_batch, "capture", refuse)
        assert [plain(sample) for sample in started + list(samples)] == [plain(s) for s in expected]
