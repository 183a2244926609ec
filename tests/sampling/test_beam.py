"""A beam search finds likely texts, the likeliest if the beam is wide enough."""

from dataclasses import replace

import pytest
import torch

from charnn.config import ModelConfig, SampleConfig
from charnn.errors import SettingError
from charnn.model.network import CharNetwork
from charnn.sampling.sampler import Sampler
from charnn.sampling.stopping import StopCriteria
from charnn.text.tokenizer import CharTokenizer

TOKENIZER = CharTokenizer("\nabcdef")
CONFIG = SampleConfig(length=40, seed=5)


@pytest.fixture
def network() -> CharNetwork:
    torch.manual_seed(2)
    return CharNetwork(ModelConfig(7, hidden_size=6, num_layers=2, embedding_size=5)).double()


def test_a_beam_needs_a_length(network: CharNetwork) -> None:
    with pytest.raises(SettingError, match="a finite `length`"):
        Sampler(network.weights(), TOKENIZER).beam(SampleConfig(length=None), 3)


@pytest.mark.parametrize("length", [1, 4])
def test_a_beam_as_wide_as_everything_finds_the_likeliest_text(
    network: CharNetwork, length: int
) -> None:
    best = Sampler(network.weights(), TOKENIZER).beam(replace(CONFIG, length=length), 7**4, "ab")
    indices = torch.cartesian_prod(*[torch.arange(7)] * length).reshape(-1, length).t()
    start = torch.tensor(TOKENIZER.encode("ab"))[:, None].expand(2, indices.shape[1])
    whole = torch.cat((start, indices))
    logits, _ = network(whole, network.zero_state(indices.shape[1]))
    nats = -logits[1:-1].detach().log_softmax(-1).gather(-1, whole[2:, :, None]).sum((0, 2))
    assert best[0].nats == pytest.approx(float(nats.min()))
    assert best[0].text == TOKENIZER.decode(indices[:, int(nats.argmin())].tolist())
    assert [one.nats for one in best] == pytest.approx(sorted(nats.tolist()))


def test_a_beam_of_one_is_greedy_and_a_wider_one_is_no_worse(network: CharNetwork) -> None:
    config, sampler = (
        replace(CONFIG, length=12, temperature=0.0),
        Sampler(network.weights(), TOKENIZER),
    )
    one, *_ = sampler.beam(config, 1, "ab")
    (greedy,) = sampler.samples(config, 1, "ab")
    assert one.text == greedy.text
    assert one.nats == pytest.approx(greedy.nats)
    assert sampler.beam(config, 50, "ab")[0].nats <= one.nats


def test_what_meets_a_stop_leaves_the_beam(network: CharNetwork) -> None:
    found = Sampler(network.weights(), TOKENIZER).beam(
        replace(CONFIG, length=4), 400, "ab", StopCriteria(("c",))
    )
    assert {one.stop for one in found} >= {"stop"}
    assert all("c" not in one.text for one in found)
    rates = [one.nats_per_char for one in found]
    assert rates == sorted(rates)
