"""What is drawn follows the model, the seed and the filters."""

import itertools
from dataclasses import replace

import pytest
import torch

from charnn.config import ModelConfig, SampleConfig
from charnn.model.network import CharNetwork
from charnn.sampling.generate import generate, noises, pick, start_of_line, stream
from charnn.text.tokenizer import ByteTokenizer, CharTokenizer

TOKENIZER = CharTokenizer("\nabcdef")
CONFIG = SampleConfig(length=40, seed=5)


@pytest.fixture
def network() -> CharNetwork:
    torch.manual_seed(2)
    return CharNetwork(ModelConfig(7, hidden_size=6, num_layers=2, embedding_size=5)).double()


def sample(network: CharNetwork, config: SampleConfig = CONFIG, prime: str = "ab") -> str:
    return "".join(stream(network, TOKENIZER, config, prime))


def test_the_same_seed_writes_the_same_text_and_another_does_not(network: CharNetwork) -> None:
    assert sample(network) == sample(network)
    assert sample(network) != sample(network, replace(CONFIG, seed=0))
    assert sample(network, replace(CONFIG, seed=0)) == sample(network, replace(CONFIG, seed=0))


def test_a_longer_text_begins_with_the_shorter_one(network: CharNetwork) -> None:
    longer = sample(network, replace(CONFIG, length=700))
    assert len(longer) == 700
    assert longer.startswith(sample(network))


def test_a_row_does_not_depend_on_how_many_rows_there_are(network: CharNetwork) -> None:
    three = torch.stack(list(generate(network, TOKENIZER, CONFIG, [1, 2], rows=3)))
    one = torch.stack(list(generate(network, TOKENIZER, CONFIG, [1, 2], rows=1)))
    assert torch.equal(three[:, :1], one)
    assert not torch.equal(three[:, 0], three[:, 1])


def test_greedy_takes_the_likeliest_next_character_each_time(network: CharNetwork) -> None:
    text = "ab"
    for _ in range(12):
        logits, _ = network(torch.tensor(TOKENIZER.encode(text))[:, None], network.zero_state(1))
        text += TOKENIZER.decode([int(logits[-1, 0].argmax())])
    assert sample(network, replace(CONFIG, length=12, temperature=0.0)) == text[2:]
    assert sample(network, replace(CONFIG, length=12, top_k=1)) == text[2:]


def test_without_a_prime_a_text_begins_as_after_a_newline(network: CharNetwork) -> None:
    assert sample(network, prime="") == sample(network, prime="\n")
    assert start_of_line(CharTokenizer(" ab")) == [0]
    assert start_of_line(CharTokenizer("xyz")) == [0]
    assert start_of_line(ByteTokenizer()) == [10]


def test_the_unknown_symbol_is_never_written() -> None:
    torch.manual_seed(2)
    tokenizer = CharTokenizer("ab", unknown=True)
    network = CharNetwork(ModelConfig(3, hidden_size=4, num_layers=1, embedding_size=5))
    with torch.no_grad():
        network.head.bias[2] = 50.0
    text = "".join(stream(network, tokenizer, replace(CONFIG, length=300), "a"))
    assert set(text) == {"a", "b"}


def test_bytes_come_out_as_whole_characters() -> None:
    decode = ByteTokenizer().decoder()
    pieces = [decode(byte) for byte in "aä€𝄞".encode()]
    assert pieces == ["a", "", "ä", "", "", "€", "", "", "", "𝄞"]


@pytest.mark.parametrize("value", [0.5, 1.0, 2.0])
def test_drawn_frequencies_are_the_probabilities(value: float) -> None:
    logits = torch.tensor([0.5, 0.25, 0.0, 0.125, 0.125]).log()
    noise = torch.cat(list(itertools.islice(noises(3, torch.zeros(4, 5)), 25_000)))  # 100,000 draws
    drawn = pick(logits.expand(100_000, -1), value, noise)
    counts = torch.bincount(drawn, minlength=5)
    expected = 100_000 * torch.softmax(logits / value, -1)
    assert counts[2] == 0
    possible = expected > 0
    chi_square = ((counts - expected).square() / expected)[possible].sum()
    assert chi_square < 16.3  # the 0.1 % point for three degrees of freedom; the seed is fixed


def test_rows_and_seeds_have_noise_of_their_own() -> None:
    ours = torch.stack(list(itertools.islice(noises(3, torch.zeros(2, 5)), 600)))
    other = torch.stack(list(itertools.islice(noises(4, torch.zeros(2, 5)), 600)))
    streams = torch.stack([ours[:, 0], ours[:, 1], other[:, 0], other[:, 1]]).flatten(1)
    correlation = torch.corrcoef(streams) - torch.eye(4)
    assert correlation.abs().max() < 0.1


def test_sampling_a_training_network_does_not_drop_out() -> None:
    torch.manual_seed(2)
    config = ModelConfig(7, hidden_size=6, num_layers=2, embedding_size=5, dropout=0.5)
    network = CharNetwork(config).train()
    before = torch.get_rng_state()
    assert sample(network) == sample(network)
    assert network.training
    assert torch.equal(torch.get_rng_state(), before)
