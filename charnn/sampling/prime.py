"""The symbol that a model reads before it generates, where there is no prime."""

from charnn.errors import CharnnError
from charnn.text.tokenizer import Tokenizer


def start_of_line(tokenizer: Tokenizer) -> list[int]:
    """Return the symbol to read where there is no prime: a newline, so that the text starts as a
    line does; a space or the first symbol if the vocabulary has none."""
    for character in "\n ":
        try:
            return [int(index) for index in tokenizer.encode(character)]
        except CharnnError:
            continue
    return [0]
