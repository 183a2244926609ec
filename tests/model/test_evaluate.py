"""Each protocol equals its definition, written as a simple loop."""

import math

import numpy as np
import pytest
import torch

from charnn.config import ModelConfig
from charnn.errors import SettingError, TextError
from charnn.model import evaluate as module
from charnn.model.evaluate import evaluate, lanes_layout
from charnn.model.network import CharNetwork, predicting
from charnn.text.tokenizer import Indices

CONFIG = ModelConfig(vocabulary_size=5, hidden_size=6, num_layers=2, embedding_size=3)


@pytest.fixture
def network() -> CharNetwork:
    torch.manual_seed(1)
    return CharNetwork(CONFIG).double()


def text(symbols: int) -> Indices:
    return np.random.default_rng(0).integers(5, size=symbols, dtype=np.uint8)


def nats(network: CharNetwork, indices: Indices, reset_every: int) -> float:
    """Return the summed nats, one character at a time, with a zero state every so many targets."""
    total = 0.0
    with predicting(network):
        for place in range(len(indices) - 1):
            if place % reset_every == 0:
                state = network.zero_state(1)
            logits, state = network(torch.tensor([[int(indices[place])]]), state)
            total -= torch.log_softmax(logits[0, 0], -1)[int(indices[place + 1])].item()
    return total


def nats_in_one_pass(network: CharNetwork, indices: Indices) -> float:
    """Return the summed nats of a text that is read at once."""
    read = torch.from_numpy(indices.astype(np.int64))
    with predicting(network):
        logits, _ = network(read[:-1, None], network.zero_state(1))
        return -logits[:, 0].log_softmax(-1).gather(1, read[1:, None]).sum().item()


@pytest.mark.parametrize("symbols", [2, 7, 100, 131])
def test_stream_is_one_pass_that_never_resets_the_state(network: CharNetwork, symbols: int) -> None:
    score = evaluate(network, text(symbols), "stream")
    assert score.characters == symbols - 1
    assert score.nats == pytest.approx(nats(network, text(symbols), 10**9), rel=1e-12)


def test_scores_do_not_depend_on_the_size_of_the_pieces(
    network: CharNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = evaluate(network, text(100), "stream").nats
    monkeypatch.setattr(module, "MAX_ACTIVATIONS", 400)
    assert evaluate(network, text(100), "stream").nats == pytest.approx(whole, rel=1e-12)
    lanes = evaluate(network, text(900), "lanes").nats
    monkeypatch.setattr(module, "MAX_ACTIVATIONS", 1 << 24)
    assert evaluate(network, text(900), "lanes").nats == pytest.approx(lanes, rel=1e-12)


@pytest.mark.parametrize("symbols", [2, 16, 17, 18, 200])
def test_window_resets_the_state_at_each_window_and_counts_the_last_one(
    network: CharNetwork, symbols: int
) -> None:
    score = evaluate(network, text(symbols), "window", 16)
    assert score.characters == symbols - 1
    assert score.nats == pytest.approx(nats(network, text(symbols), 16), rel=1e-12)


@pytest.mark.parametrize("symbols", [2, 3, 5, 300, 513, 1000, 20_000, 2_000_000])
def test_lanes_count_each_target_at_most_once_and_stay_in_the_text(symbols: int) -> None:
    layout = lanes_layout(symbols)
    assert layout.lanes in range(1, 65)
    assert layout.length >= 1
    assert layout.warm_up + layout.counted <= symbols - 1
    assert layout.warm_up + layout.counted > symbols - 1 - layout.lanes


def test_a_part_of_the_text_is_spread_evenly_over_all_of_it(network: CharNetwork) -> None:
    indices = text(50_000)
    layout = lanes_layout(5_000)
    apart = (len(indices) - layout.warm_up - layout.length - 1) // (layout.lanes - 1)
    rows = [indices[lane * apart :][: layout.warm_up + layout.length + 1] for lane in range(19)]
    assert layout.lanes == 18
    assert len(rows[-2]) == layout.warm_up + layout.length + 1  # the last lane ends with the text
    assert len(indices) - 17 * apart - len(rows[-2]) < layout.lanes
    expected = sum(nats_in_one_pass(network, row) for row in rows[:18])
    expected -= sum(nats_in_one_pass(network, row[: layout.warm_up + 1]) for row in rows[:18])
    score = evaluate(network, indices, "lanes", symbols=5_000)
    assert score.characters == layout.counted
    assert score.nats == pytest.approx(expected, rel=1e-10)


def test_lanes_are_warmed_up_on_the_characters_before_them(network: CharNetwork) -> None:
    indices = text(2000)
    layout = lanes_layout(2000)
    total = 0.0
    for lane in range(layout.lanes):
        start = lane * layout.length
        rows = indices[start : start + layout.warm_up + layout.length + 1]
        total += nats_in_one_pass(network, rows) - nats_in_one_pass(
            network, rows[: layout.warm_up + 1]
        )
    score = evaluate(network, indices, "lanes")
    assert score.characters == layout.counted
    assert score.nats == pytest.approx(total, rel=1e-10)


def test_evaluation_changes_neither_the_network_nor_the_random_state(network: CharNetwork) -> None:
    before = torch.get_rng_state()
    evaluate(network.train(), text(600), "lanes")
    assert network.training
    assert torch.equal(torch.get_rng_state(), before)


def test_nats_and_bits_differ_by_the_logarithm_of_two(network: CharNetwork) -> None:
    score = evaluate(network, text(50), "stream")
    assert score.nats_per_char == pytest.approx(score.bits_per_char * math.log(2))


def test_texts_and_settings_that_cannot_be_evaluated_are_rejected(network: CharNetwork) -> None:
    with pytest.raises(TextError, match="nothing to predict"):
        evaluate(network, text(1), "stream")
    with pytest.raises(SettingError, match="one of stream, window, lanes"):
        evaluate(network, text(9), "strem")
    with pytest.raises(SettingError, match="`window` must be at least 1, not 0"):
        evaluate(network, text(9), "window", 0)
