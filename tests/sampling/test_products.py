"""A product of lower precision gives nearly the logits of the network, for each text by itself."""

import pytest
import torch

from charnn.config import ModelConfig
from charnn.errors import SettingError
from charnn.model.network import CharNetwork, predicting
from charnn.sampling.folded_engine import FoldedEngine
from charnn.sampling.products import HalfProduct, Int8Product, check_precision
from tests.sampling.engines import read, tiny_network


def network_of(cell: str) -> CharNetwork:
    torch.manual_seed(1)
    return CharNetwork(ModelConfig(7, hidden_size=64, num_layers=2, embedding_size=5, cell=cell))


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_int8_is_nearly_the_network_and_a_row_does_not_depend_on_the_others(cell: str) -> None:
    network, indices = network_of(cell), torch.randint(7, (30, 4))
    engine = FoldedEngine(network.weights(), product=Int8Product)
    with predicting(network):
        exact, _ = network(indices, network.zero_state(4))
    rough, _ = read(engine, indices, network.zero_state(4))
    torch.testing.assert_close(rough, exact, atol=0.05, rtol=0)
    assert not torch.equal(rough[-1], exact[-1])
    alone, _ = read(engine, indices[:, 2:3], network.zero_state(1))
    torch.testing.assert_close(alone[-1], rough[-1, 2:3], atol=1e-5, rtol=0)


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
@pytest.mark.parametrize("texts", [1, 4])
def test_half_precision_is_nearly_the_network(cell: str, texts: int) -> None:
    network, indices = network_of(cell), torch.randint(7, (30, texts))
    with predicting(network):
        exact, state = network(indices, network.zero_state(texts))
    rough, rough_state = read(
        FoldedEngine(network.weights(), product=HalfProduct), indices, network.zero_state(texts)
    )
    torch.testing.assert_close(rough, exact, atol=0.005, rtol=0)
    torch.testing.assert_close(rough_state, state, atol=0.005, rtol=0)
    assert not torch.equal(rough[-1], exact[-1])


def test_a_machine_without_a_product_is_named_in_the_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingError, match="`fp16` is for a GPU"):
        check_precision("fp16", torch.device("cpu"))
    monkeypatch.setattr("charnn.sampling.products._ENGINES", ())
    with pytest.raises(SettingError, match="leave `int8` out"):
        FoldedEngine(tiny_network("lstm").weights(), product=Int8Product)
