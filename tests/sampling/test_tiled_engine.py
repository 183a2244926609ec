"""With tiles a text is the same bits alone and among others, however many there are."""

import pytest
import torch

from charnn.config import ModelConfig, SampleConfig
from charnn.model.network import CharNetwork, predicting
from charnn.sampling.engine import select
from charnn.sampling.sampler import Sampler
from charnn.sampling.stopping import StopCriteria
from charnn.sampling.tiled_engine import TILE, TiledEngine
from charnn.text.tokenizer import CharTokenizer
from tests.sampling.engines import KINDS, make_engine, read, tiny_network

TOKENIZER = CharTokenizer("\nabcdef")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("texts", [1, TILE, TILE + 3])
def test_tiles_compute_the_network(kind: str, texts: int) -> None:
    network, indices = tiny_network(kind), torch.randint(7, (5, texts))
    state = torch.randn_like(network.zero_state(texts))
    with predicting(network):
        expected = network(indices, state)
    torch.testing.assert_close(
        read(TiledEngine(make_engine(kind, network)), indices, state), expected
    )


@pytest.mark.parametrize("kind", KINDS)
def test_texts_may_be_selected_and_replaced_across_tiles(kind: str) -> None:
    network, texts = tiny_network(kind), 2 * TILE + 1
    engine = TiledEngine(make_engine(kind, network))
    workspace = engine.start(torch.randn_like(network.zero_state(texts)))
    before = workspace.logits.clone()
    chosen = select(engine, workspace, [TILE, 0, 2 * TILE])
    assert torch.equal(chosen.logits, before[[TILE, 0, 2 * TILE]])
    workspace.replace(3, select(engine, workspace, [TILE + 1]))
    assert torch.equal(workspace.logits[3], before[TILE + 1])
    symbols = torch.zeros(texts, dtype=torch.int64)
    after = engine.step(symbols, workspace)
    assert torch.equal(after[3], after[TILE + 1])


def trained_like(cell: str) -> CharNetwork:
    """Return a network whose predictions are as sharp as a trained one's."""
    torch.manual_seed(1)
    network = CharNetwork(ModelConfig(7, 96, 2, 16, cell=cell)).requires_grad_(False)
    for weight in network.parameters():
        weight.mul_(3.0)
    return network


@pytest.mark.medium
@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_an_exact_sample_is_generated_again_by_its_seed(cell: str, precision: str) -> None:
    sampler = Sampler(trained_like(cell).weights(), TOKENIZER, precision=precision, exact=True)
    config, stop = SampleConfig(length=60, seed=1, top_p=0.95), StopCriteria(("ab", "\n"))
    texts = list(sampler.samples(config, 90, "b", stop, rows=70))
    assert texts == list(sampler.samples(config, 90, "b", stop, rows=3))
    assert texts[30:60] == list(sampler.samples(config, range(30, 60), "b", stop))
    for sample in texts[:3]:
        again = SampleConfig.from_json(config.to_json() | {"seed": sample.seed})
        assert "".join(sampler.stream(again, "b", stop)) == sample.text


@pytest.mark.slow
def test_ten_thousand_exact_texts_are_the_same_in_three_sizes_of_batch() -> None:
    sampler = Sampler(trained_like("lstm").weights(), TOKENIZER, exact=True)
    config = SampleConfig(length=20, seed=1)
    alone, few, many = (list(sampler.samples(config, 10_000, "b", rows=n)) for n in (1, 7, 256))
    assert sum(a == b == c for a, b, c in zip(alone, few, many, strict=True)) == 10_000


def test_without_tiles_the_last_digits_differ_with_the_number_of_texts() -> None:
    """What the tests above hold would not be true otherwise."""
    sampler = Sampler(trained_like("lstm").weights(), TOKENIZER)
    config = SampleConfig(length=60, seed=1)
    nats = [[s.nats for s in sampler.samples(config, 90, "b", rows=n)] for n in (70, 3)]
    assert nats[0] != nats[1]
