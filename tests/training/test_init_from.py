"""Trained weights are adapted to another vocabulary."""

import torch

from charnn.config import ModelConfig
from charnn.model.network import CharNetwork, predicting
from charnn.text.tokenizer import CharTokenizer, Tokenizer
from charnn.training.init_from import adapt_weights, vocabulary_changes

BEFORE, AFTER = CharTokenizer("abcxz"), CharTokenizer("Qabz", unknown=True)


def network(tokenizer: Tokenizer) -> CharNetwork:
    torch.manual_seed(1)
    config = ModelConfig(tokenizer.vocabulary_size, hidden_size=6, num_layers=2, embedding_size=5)
    return CharNetwork(config).double()


def test_probabilities_among_the_symbols_of_both_vocabularies_stay() -> None:
    old, new = network(BEFORE), network(AFTER)
    new.load_state_dict(adapt_weights(old.state_dict(), BEFORE, AFTER))
    text, both = "abzzab", "abz"
    shares = []
    for tokenizer, net in ((BEFORE, old), (AFTER, new)):
        with predicting(net):
            logits, _ = net(torch.tensor(tokenizer.encode(text))[:, None], net.zero_state(1))
        shares.append(logits[..., torch.tensor(tokenizer.encode(both))].softmax(-1))
    torch.testing.assert_close(*shares)


def test_a_new_symbol_starts_as_the_mean_of_the_known_ones() -> None:
    weights = network(BEFORE).state_dict()
    after = adapt_weights(weights, BEFORE, AFTER)
    for name in ("embedding.weight", "head.weight", "head.bias"):
        for row in (after[name][0], after[name][-1]):  # Q and the unknown symbol
            torch.testing.assert_close(row, weights[name].mean(0))


def test_the_same_vocabulary_changes_nothing() -> None:
    weights = network(AFTER).state_dict()
    after = adapt_weights(weights, AFTER, AFTER)
    assert weights.keys() == after.keys()
    assert all(torch.equal(weights[name], after[name]) for name in weights)
    assert vocabulary_changes(AFTER, AFTER) == []


def test_a_note_lists_at_most_twenty_symbols() -> None:
    many = CharTokenizer("".join(map(chr, range(0x100, 0x120))))
    dropped, added = vocabulary_changes(BEFORE, many)
    assert added.endswith(
        "'Ā' 'ā' 'Ă' 'ă' 'Ą' 'ą' 'Ć' 'ć' 'Ĉ' 'ĉ' 'Ċ' 'ċ' 'Č' 'č' 'Ď' 'ď' 'Đ' 'đ' "
        "'Ē' 'ē' and 12 more"
    )
    assert dropped.startswith("dropped: these characters of the old model do not occur in the new")
    assert dropped.endswith(": 'a' 'b' 'c' 'x' 'z'")
