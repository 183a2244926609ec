"""What is drawn follows the model, the seed and the filters."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from charnn.config import ModelConfig, SampleConfig
from charnn.model.network import CharNetwork
from charnn.sampling.generate import draw, generate, start_of_line, stream
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


@given(st.lists(st.floats(-30, 30), min_size=1, max_size=8), st.integers(0, 2**23 - 1))
def test_draws_stay_among_the_possible_symbols(row: list[float], number: int) -> None:
    logits = torch.tensor([[*row, -math.inf, -math.inf]])
    assert draw(logits, torch.tensor([number / 2**23])).item() < len(row)


def test_drawn_frequencies_are_the_probabilities() -> None:
    probabilities = torch.tensor([0.5, 0.25, 0.0, 0.125, 0.125])
    uniform = (torch.arange(8192) + 0.5) / 8192
    drawn = draw(probabilities.log().expand(8192, -1), uniform)
    counts = torch.bincount(drawn, minlength=5) / 8192
    torch.testing.assert_close(counts, probabilities, atol=1e-3, rtol=0)


def test_sampling_a_training_network_does_not_drop_out() -> None:
    torch.manual_seed(2)
    config = ModelConfig(7, hidden_size=6, num_layers=2, embedding_size=5, dropout=0.5)
    network = CharNetwork(config).train()
    before = torch.get_rng_state()
    assert sample(network) == sample(network)
    assert network.training
    assert torch.equal(torch.get_rng_state(), before)
