"""A byte model's text is the bytes that it generated; characters are only how they are shown."""

from dataclasses import replace

import pytest
import torch

from charnn.config import ModelConfig, SampleConfig
from charnn.errors import VocabularyError
from charnn.model.network import CharNetwork, layer_weights
from charnn.sampling.sampler import Sampler
from charnn.sampling.stopping import StopCriteria
from charnn.text.tokenizer import ByteTokenizer, CharTokenizer

CONFIG = SampleConfig(length=300, seed=5, temperature=1.0)


@pytest.fixture
def sampler() -> Sampler:
    torch.manual_seed(2)
    network = CharNetwork(ModelConfig(256, hidden_size=6, num_layers=1, embedding_size=5))
    return Sampler(network.weights(), ByteTokenizer())


def writing(text: bytes) -> Sampler:
    """Return a sampler whose likeliest text after a newline is `text` and then newlines."""
    symbols = [10, *text]
    assert len(set(symbols)) == len(symbols)
    network = CharNetwork(ModelConfig(256, hidden_size=256, num_layers=1, embedding_size=256))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        network.embedding.weight.copy_(torch.eye(256))
        weight, _, bias, _ = layer_weights(network.layers[0])
        write, forget, candidate, show = (slice(n * 256, (n + 1) * 256) for n in range(4))
        weight[candidate] = 9 * torch.eye(256)  # each unit is on after one symbol only
        bias[write], bias[forget], bias[show] = 9.0, -99.0, 9.0
        for before, after in zip(symbols, [*text, 10], strict=True):
            network.head.weight[after, before] = 50.0
    return Sampler(network.weights(), ByteTokenizer())


def test_the_bytes_of_all_ways_to_generate_a_text_are_the_same(sampler: Sampler) -> None:
    (sample,) = sampler.samples(CONFIG, 1)
    streamed = b"".join(sampler.stream_bytes(CONFIG))
    assert sample.data == streamed
    assert len(streamed) == sample.symbols == CONFIG.length
    with pytest.raises(UnicodeDecodeError):  # else this test says little
        streamed.decode()
    assert "".join(sampler.stream(CONFIG)) == sample.text
    assert streamed.decode(errors="replace").startswith(sample.text)


@pytest.mark.parametrize(
    ("text", "shown"), [("aé€𝄞".encode(), "aé€𝄞"), (b"a\xe2\x82", "a"), (b"a\xff\xfeb", "a��b")]
)
def test_text_is_shown_alike_however_it_is_generated(text: bytes, shown: str) -> None:
    sampler = writing(text)
    config = SampleConfig(length=len(text), temperature=0.0, seed=1)
    (drawn,), found = sampler.samples(config, 1), sampler.beam(config, 3)[0]
    assert [drawn.data, found.data] == [text, text]
    assert [drawn.text, found.text, "".join(sampler.stream(config))] == [shown] * 3


@pytest.mark.parametrize(
    "stop", [b"\xe9", "\udce9", "é", b"\x82", "€", b"\xff\xfe", "\udcff\udcfe"]
)
def test_a_stop_is_met_wherever_its_bytes_are(stop: str | bytes) -> None:
    text = b"ab\xe9c" + "éd€".encode() + b"\xff\xfe"
    stop_bytes = stop if isinstance(stop, bytes) else ByteTokenizer().bytes_of(stop)
    sampler, end = writing(text), text.index(stop_bytes)
    config = SampleConfig(length=len(text), temperature=0.0, seed=1)
    for keep in (False, True):
        criteria, expected = StopCriteria((stop,), keep), text[: end + keep * len(stop_bytes)]
        (drawn,) = sampler.samples(config, 1, stop=criteria)
        found = min(sampler.beam(config, 3, stop=criteria), key=lambda one: one.nats)
        assert [drawn.data, found.data] == [expected] * 2
        assert b"".join(sampler.stream_bytes(config, stop=criteria)) == expected
        assert drawn.stop == "stop"


def test_a_stop_of_a_character_model_is_never_met_within_a_character() -> None:
    torch.manual_seed(2)
    network = CharNetwork(ModelConfig(2, hidden_size=4, num_layers=1, embedding_size=3))
    sampler = Sampler(network.weights(), CharTokenizer("\né"))
    config = replace(CONFIG, length=50)
    plain = "".join(sampler.stream(config))
    assert plain == "".join(sampler.stream(config, stop=StopCriteria(("\udca9", "\udcc3"))))


@pytest.mark.parametrize("text", ["\ud800", "a\udfff"])
def test_half_of_a_surrogate_pair_is_refused_in_one_line(sampler: Sampler, text: str) -> None:
    with pytest.raises(VocabularyError, match="half of a surrogate pair"):
        next(sampler.stream(CONFIG, text))
    with pytest.raises(VocabularyError, match="half of a surrogate pair"):
        sampler.stream(CONFIG, stop=StopCriteria((text,)))
