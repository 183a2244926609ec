"""Texts written several symbols at a time are the texts written symbol by symbol.

What is recorded on CUDA runs here as it is.
"""

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from charnn.config import ModelConfig, SampleConfig
from charnn.model.network import CharNetwork
from charnn.sampling import graphed_batch, sampler
from charnn.sampling.batch import Batch
from charnn.sampling.clamp import Clamp
from charnn.sampling.graphed_batch import GraphedBatch
from charnn.sampling.products import FullProduct, HalfProduct, Product
from charnn.sampling.sampler import Sampler
from charnn.sampling.stopping import Sample, StopCriteria
from charnn.text.tokenizer import CharTokenizer
from tests.fake_cuda_graph import recordings

TOKENIZER = CharTokenizer("\nabcdef")


@pytest.fixture(params=["lstm", "gru", "rnn"])
def network(request: pytest.FixtureRequest) -> CharNetwork:
    torch.manual_seed(2)
    config = ModelConfig(7, hidden_size=6, num_layers=2, embedding_size=5, cell=request.param)
    return CharNetwork(config).double()


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[GraphedBatch]:
    """The batches that were made to be replayed."""
    batches: list[GraphedBatch] = []
    record = GraphedBatch._record

    def watched(batch: GraphedBatch) -> None:
        batches.append(batch)
        record(batch)

    monkeypatch.setattr(sampler, "WORTH", 1)
    monkeypatch.setattr(GraphedBatch, "_record", watched)
    return batches


def writers(network: CharNetwork, **named: Any) -> Iterator[Sampler]:
    for replays in (False, True):
        writer = Sampler(network, TOKENIZER, **named)
        writer._replays = replays
        yield writer


@pytest.mark.parametrize("length", [1, 15, 16, 17, 300])
@pytest.mark.parametrize("settings", [{}, {"top_k": 3}, {"top_p": 0.7, "temperature": 1.4}])
def test_a_stream_is_the_same(
    network: CharNetwork, made: list[GraphedBatch], length: int, settings: dict[str, Any]
) -> None:
    config = SampleConfig(length=length, seed=5, **settings)
    one, several = (
        "".join(w.stream(config, "ab", StopCriteria(("fff",)))) for w in writers(network)
    )
    assert several == one
    assert len(made) == 1


@pytest.mark.parametrize("rows", [1, 3, 16])
def test_samples_that_end_and_begin_within_a_turn_are_the_same(
    network: CharNetwork, made: list[GraphedBatch], rows: int
) -> None:
    config, ending = SampleConfig(length=40, seed=5), StopCriteria(("f",), keep=True)
    one, several = (
        list(w.samples(config, 20, "ab", ending, best=2, rows=rows)) for w in writers(network)
    )
    assert rows < 16 or len(made) > 1  # fewer rows at the end are another recording
    for expected, sample in zip(one, several, strict=True):
        assert plain(sample) == plain(expected)
        assert sample.nats == pytest.approx(expected.nats)
        assert [c.symbol for c in sample.choices] == [c.symbol for c in expected.choices]
        for ours, theirs in zip(sample.choices, expected.choices, strict=True):
            assert [symbol for symbol, _ in ours.best] == [symbol for symbol, _ in theirs.best]


def plain(sample: Sample) -> tuple[Any, ...]:
    return sample.index, sample.seed, sample.text, sample.symbols, sample.stop


def test_what_cannot_be_replayed_is_written_all_the_same(
    network: CharNetwork, made: list[GraphedBatch], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, several = writers(network)
    config = SampleConfig(length=30, seed=5)
    for changes in ({"no_repeat": 3}, {"repetition_penalty": 1.2}):
        looking = SampleConfig(length=30, seed=5, **changes)
        assert list(several.stream(looking)) == list(one.stream(looking))
    for writer in writers(network, clamps=[Clamp(0, 2, 0.5)]):
        list(writer.stream(config))
    assert not made
    assert not several.warning

    def refuse(*_: Any) -> None:
        raise RuntimeError("operation not permitted\nand much more")

    monkeypatch.setattr(GraphedBatch, "_record", refuse)
    for _ in range(2):
        assert list(several.stream(config)) == list(one.stream(config))
    assert several.warning.endswith("slower: operation not permitted")


def test_short_texts_are_not_worth_a_recording(network: CharNetwork) -> None:
    writer = list(writers(network))[1]
    assert not writer._worth_a_recording(SampleConfig(length=graphed_batch.WORTH - 1))
    assert writer._worth_a_recording(SampleConfig(length=None))


def test_rows_that_are_left_out_or_begin_anew_are_those_of_a_plain_batch(
    network: CharNetwork,
) -> None:
    config = SampleConfig(length=300)
    plain, replayed = (kind(network, config, [1, 2], range(5)) for kind in (Batch, GraphedBatch))

    def one_by_one() -> Iterator[Any]:
        for _ in range(graphed_batch.STEPS):
            (indices,), (logits,) = plain.turn()
            yield indices, logits.clone()
            plain.advance(indices)

    for rows in ([0, 2, 3, 4], [3, 1, 0], [2, 1], [0]):
        for (indices, logits), ours, seen in zip(one_by_one(), *replayed.turn(), strict=True):
            assert ours.tolist() == indices.tolist()
            torch.testing.assert_close(seen, logits, rtol=1e-12, atol=1e-12)
        for batch in (plain, replayed):
            batch.keep(rows)
            batch.begin(len(rows) - 1, 77)


@pytest.mark.parametrize("product", [FullProduct, HalfProduct])
@pytest.mark.parametrize("settings", [{}, {"top_k": 3}, {"top_p": 0.7, "temperature": 1.4}])
def test_recorded_steps_are_the_steps_and_wait_for_nothing(
    network: CharNetwork,
    made: list[GraphedBatch],
    settings: dict[str, Any],
    product: type[Product],
) -> None:
    config = SampleConfig(length=60, seed=5, **settings)
    one, several = writers(network.float(), product=product)
    expected = list(one.samples(config, 12, "ab", rows=8))
    with recordings() as graphs:
        samples = list(several.samples(config, 12, "ab", rows=8))
    assert [plain(sample) for sample in samples] == [plain(sample) for sample in expected]
    assert not several.warning
    assert len(graphs) == 2  # the second of four rows


def test_a_beam_is_never_replayed(network: CharNetwork, made: list[GraphedBatch]) -> None:
    config = SampleConfig(length=30)
    one, several = (writer.beam(config, 3, "ab") for writer in writers(network))
    assert several == one
    assert not made


def test_rows_that_can_no_longer_be_recorded_go_on_step_by_step(
    network: CharNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise RuntimeError("out of memory")

    config = SampleConfig(length=60, seed=5)
    one, several = writers(network)
    expected = list(one.samples(config, 12, "ab", rows=8))
    drafts = several.samples(config, 12, "ab", rows=8)
    with recordings():
        begun = [next(drafts)]
        monkeypatch.setattr(graphed_batch, "capture", refuse)
        assert [plain(sample) for sample in begun + list(drafts)] == [plain(s) for s in expected]
