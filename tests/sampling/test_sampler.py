"""Texts follow the model, the seed and the filters, whatever else is generated beside them."""

import itertools
import math
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch

from charnn.config import ModelConfig, SampleConfig
from charnn.model.network import CharNetwork
from charnn.sampling.batch import Batch
from charnn.sampling.prime import start_of_line
from charnn.sampling.sample import Sample
from charnn.sampling.sampler import Sampler
from charnn.sampling.stopping import StopCriteria
from charnn.text.tokenizer import ByteTokenizer, CharTokenizer

TOKENIZER = CharTokenizer("\nabcdef")
CONFIG = SampleConfig(length=40, seed=5)


@pytest.fixture
def network() -> CharNetwork:
    torch.manual_seed(2)
    return CharNetwork(ModelConfig(7, hidden_size=6, num_layers=2, embedding_size=5)).double()


def sample(network: CharNetwork, config: SampleConfig = CONFIG, prime: str = "ab") -> str:
    return "".join(Sampler(network.weights(), TOKENIZER).stream(config, prime))


def test_a_seed_fixes_the_text(network: CharNetwork) -> None:
    assert sample(network) == sample(network)
    assert sample(network) != sample(network, replace(CONFIG, seed=0))
    assert sample(network, replace(CONFIG, seed=0)) == sample(network, replace(CONFIG, seed=0))


def test_a_longer_text_begins_with_the_shorter_one(network: CharNetwork) -> None:
    longer = sample(network, replace(CONFIG, length=700))
    assert len(longer) == 700
    assert longer.startswith(sample(network))


def samples(network: CharNetwork, count: int, rows: int = 256, **changes: object) -> list[Sample]:
    stop_criteria = StopCriteria(("f",), keep_stop=True)
    sampler = Sampler(network.weights(), TOKENIZER)
    return list(sampler.samples(replace(CONFIG, **changes), count, "ab", stop_criteria, rows=rows))  # type: ignore[arg-type]


def test_a_sample_does_not_depend_on_how_many_are_generated_at_once(network: CharNetwork) -> None:
    many = samples(network, 40)
    assert [sample.index for sample in many] == list(range(40))
    for rows in (1, 3, 39):
        assert texts(samples(network, 40, rows)) == texts(many)
    assert texts(samples(network, 7)) == texts(many)[:7]
    assert len(set(texts(many))) > 20


def texts(some: list[Sample]) -> list[str]:
    return [sample.text for sample in some]


def test_in_float32_nearly_all_samples_are_equal_at_any_batch_size(network: CharNetwork) -> None:
    network.float()
    one, many = (texts(samples(network, 300, rows)) for rows in (1, 300))
    assert sum(a == b for a, b in zip(one, many, strict=True)) >= 299


def test_the_seed_of_a_sample_generates_it_again(network: CharNetwork) -> None:
    for sample in samples(network, 5):
        again = samples(network, 1, seed=sample.seed)[0]
        assert again.text == sample.text
        assert again.nats == pytest.approx(sample.nats)
        streamed = Sampler(network.weights(), TOKENIZER).stream(
            replace(CONFIG, seed=sample.seed), "ab", StopCriteria(("f",), keep_stop=True)
        )
        assert "".join(streamed) == sample.text


def test_a_text_ends_before_a_stop_or_after_it(network: CharNetwork) -> None:
    plain = sample(network)
    stop = plain[10:12]
    sampler, end = Sampler(network.weights(), TOKENIZER), plain.index(stop)
    for keep, expected in ((False, plain[:end]), (True, plain[: end + 2])):
        stop_criteria = StopCriteria((stop, "\n\n\n\n"), keep)
        assert "".join(sampler.stream(CONFIG, "ab", stop_criteria)) == expected
        (one,) = sampler.samples(CONFIG, 1, "ab", stop_criteria)
        assert (one.text, one.stop, one.symbols) == (expected, "stop", end + 2)
    (one,) = sampler.samples(CONFIG, 1, "ab", StopCriteria(("\n\n\n\n",)))
    assert (one.text, one.stop) == (plain, "length")


def test_an_endless_text_continues_until_a_stop(network: CharNetwork) -> None:
    endless = Sampler(network.weights(), TOKENIZER).stream(
        replace(CONFIG, length=None), "ab", StopCriteria(("fff",))
    )
    longest = "".join(itertools.islice(endless, 3000))
    assert longest.startswith(sample(network).split("fff")[0])
    assert "fff" not in longest


def test_nats_and_alternatives_are_those_of_the_model(network: CharNetwork) -> None:
    (one,) = Sampler(network.weights(), TOKENIZER).samples(
        replace(CONFIG, top_k=2), 1, "ab", alternatives=3
    )
    indices = torch.tensor(TOKENIZER.encode("ab" + one.text))
    logits, _ = network(indices[:, None], network.zero_state(1))
    nats = -logits[1:-1, 0].detach().log_softmax(-1)
    expected = nats.gather(-1, indices[2:, None]).squeeze(-1)
    assert one.nats == pytest.approx(float(expected.sum()))
    assert one.nats_per_char == pytest.approx(float(expected.mean()))
    for choice, index, row in zip(one.choices, indices[2:], nats, strict=True):
        assert choice.symbol == index
        assert choice.nats == pytest.approx(float(row[index]))
        assert [n for _, n in choice.alternatives] == pytest.approx(sorted(row.tolist())[:3])
        assert [float(row[symbol]) for symbol, _ in choice.alternatives] == pytest.approx(
            sorted(row.tolist())[:3]
        )


def test_texts_of_length_zero_are_empty(network: CharNetwork) -> None:
    none = samples(network, 3, length=0)
    assert [(one.text, one.nats_per_char) for one in none] == [("", math.inf)] * 3
    assert sample(network, replace(CONFIG, length=0)) == ""


def test_a_relaxed_filter_is_counted_per_call(network: CharNetwork) -> None:
    sampler = Sampler(network.weights(), TOKENIZER)
    streamed = sampler.stream(replace(CONFIG, no_repeat=1, length=20), "ab")
    text = "".join(streamed)
    assert len(text) == 20
    assert len(set(text[:5])) == 5
    assert streamed.relaxed == 15  # of seven symbols two are the prime's, five are new


def test_no_repeat_lets_no_sequence_come_twice(network: CharNetwork) -> None:
    text = "ab" + sample(network, replace(CONFIG, no_repeat=3, length=100))
    triples = [text[i : i + 3] for i in range(100)]
    assert len(set(triples)) == len(triples)


def test_greedy_takes_the_likeliest_next_character_each_time(network: CharNetwork) -> None:
    text = "ab"
    for _ in range(12):
        logits, _ = network(torch.tensor(TOKENIZER.encode(text))[:, None], network.zero_state(1))
        text += TOKENIZER.decode([int(logits[-1, 0].argmax())])
    assert sample(network, replace(CONFIG, length=12, temperature=0.0)) == text[2:]
    assert sample(network, replace(CONFIG, length=12, top_k=1)) == text[2:]


def test_without_a_prime_a_text_starts_as_after_a_newline(network: CharNetwork) -> None:
    assert sample(network, prime="") == sample(network, prime="\n")
    assert start_of_line(CharTokenizer(" ab")) == [0]
    assert start_of_line(CharTokenizer("xyz")) == [0]
    assert start_of_line(ByteTokenizer()) == [10]


def test_the_unknown_symbol_is_never_drawn() -> None:
    torch.manual_seed(2)
    tokenizer = CharTokenizer("ab", unknown=True)
    network = CharNetwork(ModelConfig(3, hidden_size=4, num_layers=1, embedding_size=5))
    with torch.no_grad():
        network.head.bias[2] = 50.0
    text = "".join(Sampler(network.weights(), tokenizer).stream(replace(CONFIG, length=300), "a"))
    assert set(text) == {"a", "b"}


@pytest.mark.medium
@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"temperature": 0.5}, [16, 4, 0, 1, 1]),
        ({"temperature": 1.0}, [4, 2, 0, 1, 1]),
        ({"temperature": 2.0}, [2, 2**0.5, 0, 1, 1]),
        ({"temperature": 1.0, "top_k": 2}, [4, 2, 0, 0, 0]),
        ({"temperature": 1.0, "top_p": 0.8, "repetition_penalty": 2.0}, [4, 1, 0, 1, 0]),
        ({"temperature": 0.5, "min_p": 0.2}, [16, 4, 0, 0, 0]),
    ],
)
def test_drawn_frequencies_are_the_probabilities(
    settings: dict[str, float], expected: list[float]
) -> None:
    """The network always gives the same logits, and has read the second symbol."""
    network = CharNetwork(ModelConfig(5, hidden_size=1, num_layers=1, embedding_size=1))
    with torch.no_grad():
        network.head.weight.zero_()
        network.head.bias.copy_(torch.tensor([0.5, 0.25, 0.0, 0.125, 0.125]).log())
    config = SampleConfig(repetition_window=1, **settings)  # type: ignore[arg-type]
    counts, rounds = np.zeros(5), 8
    for first in range(rounds):
        batch = Batch.of_network(network, config, [1], range(4000 * first, 4000 * (first + 1)))
        counts += np.bincount(batch.draw(), minlength=5)
    share = np.array(expected) / sum(expected)
    assert counts[share == 0].sum() == 0
    wanted = 4000 * rounds * share
    chi_square = sum((counts - wanted)[share > 0] ** 2 / wanted[share > 0])
    assert chi_square < 16.3  # the 0.1 % point for three degrees of freedom; the seeds are fixed


def test_sampling_a_training_network_does_not_drop_out() -> None:
    torch.manual_seed(2)
    config = ModelConfig(7, hidden_size=6, num_layers=2, embedding_size=5, dropout=0.5)
    network = CharNetwork(config).train()
    before = torch.get_rng_state()
    assert sample(network) == sample(network)
    assert network.training
    assert torch.equal(torch.get_rng_state(), before)


@pytest.fixture
def quick_switches() -> Iterator[None]:
    """Let threads alternate often."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


@pytest.mark.medium
@pytest.mark.usefixtures("quick_switches")
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_threads_that_share_a_sampler_generate_the_texts_of_one_thread(cell: str) -> None:
    torch.manual_seed(2)
    network = CharNetwork(ModelConfig(7, 16, 2, 5, cell, dropout=0.5)).train()
    sampler = Sampler(network.weights(), TOKENIZER)

    def streamed(seed: int) -> tuple[str, int]:
        config = replace(CONFIG, seed=seed, no_repeat=2 if seed % 3 else None)
        generation = sampler.stream(config, "ab")
        return "".join(generation), generation.relaxed

    def batch(seed: int) -> list[str]:
        count = 1 + seed % 7
        return texts(list(sampler.samples(replace(CONFIG, seed=seed), count, "ab", rows=4)))

    count = 200 if cell == "lstm" else 40
    for generate, number in ((streamed, count), (batch, 12)):  # 12 batches are 46 texts
        expected = [generate(seed) for seed in range(number)]
        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(generate, range(number))) == expected


def test_a_new_sampler_may_be_used_first_by_several_threads(network: CharNetwork) -> None:
    for _ in range(5):
        sampler = Sampler(network.weights(), TOKENIZER)
        with ThreadPoolExecutor(8) as pool:
            made = list(pool.map(lambda _: "".join(sampler.stream(CONFIG, "ab")), range(8)))  # noqa: B023
        assert set(made) == {sample(network)}


@pytest.mark.parametrize("device", ["cpu", "cpu:0"])
def test_double_precision_and_a_long_prime_are_read_by_the_network(
    network: CharNetwork, device: str
) -> None:
    prime = "abc" * 2000
    for some in (network.double(), network.float()):
        sampler = Sampler(some.weights(), TOKENIZER, device=device)
        assert len("".join(sampler.stream(CONFIG, prime))) == CONFIG.length
        assert len(list(sampler.samples(CONFIG, 2, prime))) == 2


def test_later_training_changes_no_text_of_a_sampler(network: CharNetwork) -> None:
    sampler = Sampler(network.weights(), TOKENIZER)
    other = Sampler(network.weights(), TOKENIZER)
    expected = list(other.samples(CONFIG, 2, "ab"))
    "".join(sampler.stream(CONFIG, "ab"))
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(1.0)
    assert list(sampler.samples(CONFIG, 2, "ab")) == expected


@pytest.mark.parametrize("settings", [{"top_p": 0.5}, {"min_p": 0.1}, {"typical": 0.5}])
def test_the_lowest_temperature_warns_of_nothing(
    network: CharNetwork, settings: dict[str, float]
) -> None:
    config = SampleConfig.from_json({"length": 20, "seed": 1, "temperature": 1e-300} | settings)
    coldest = SampleConfig(length=20, seed=1, temperature=0)
    sampler = Sampler(network.weights(), TOKENIZER)
    assert "".join(sampler.stream(config)) == "".join(sampler.stream(coldest))
