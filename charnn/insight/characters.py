"""The characters of a text that a model reads as characters or as bytes."""

import re

import numpy as np
from numpy.typing import NDArray

from charnn.text.tokenizer import REPLACEMENT, ByteTokenizer, Indices, Tokenizer


def split_characters(tokenizer: Tokenizer, indices: Indices) -> tuple[str, NDArray[np.int64]]:
    """Return the text of `indices`, and for each of its characters the number of its symbols.

    A character is 1 symbol, or as many as it has bytes in UTF-8 when the symbols are bytes. A byte
    that is not UTF-8 is a character by itself, U+FFFD.
    """
    if not isinstance(tokenizer, ByteTokenizer):
        text = tokenizer.decode(indices)
        return text, np.ones(len(text), np.int64)
    text = indices.astype(np.uint8).tobytes().decode("utf-8", "surrogateescape")
    sizes = [len(character.encode("utf-8", "surrogateescape")) for character in text]
    text = re.sub("[\udc80-\udcff]", REPLACEMENT, text)
    return text, np.array(sizes, np.int64)
