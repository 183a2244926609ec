"""Characters and the symbols that they consist of."""

import numpy as np

from charnn.insight.characters import split_characters
from charnn.text.tokenizer import ByteTokenizer, CharTokenizer


def test_a_character_of_several_bytes_is_several_symbols() -> None:
    data = np.frombuffer("aé\n€".encode() + b"\xff", np.uint8)
    shown, sizes = split_characters(ByteTokenizer(), data)
    assert (shown, sizes.tolist()) == ("aé\n€\ufffd", [1, 2, 1, 3, 1])
    shown, sizes = split_characters(CharTokenizer("ab", unknown=True), np.array([1, 2, 0]))
    assert (shown, sizes.tolist()) == ("b\ufffda", [1, 1, 1])
