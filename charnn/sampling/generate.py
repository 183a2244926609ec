"""The batched, streaming generator: a model becomes text."""

import contextlib
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from charnn.config import SampleConfig
from charnn.errors import CharnnError
from charnn.model.network import CharNetwork, predicting
from charnn.sampling import filters
from charnn.sampling.stepper import Stepper
from charnn.text.tokenizer import Tokenizer

_BLOCK = 256  # uniform numbers drawn at once for each row


def generate(
    network: CharNetwork,
    tokenizer: Tokenizer,
    config: SampleConfig,
    prime: Sequence[int] = (),
    rows: int = 1,
    stepper: Stepper | None = None,
) -> Iterator[Tensor]:
    """Yield `config.length` times the next symbol of each of `rows` texts that begin with `prime`.

    Row i's random numbers depend on the seed, i and the place in the text, not on the other rows.
    `stepper` saves folding the weights again for a network that was sampled from before.
    """
    stepper = stepper or Stepper(network)
    logits, state = _read_prime(network, prime or start_of_line(tokenizer), rows)
    for uniform in _uniforms(config, rows):
        indices = draw(_filtered(logits, config, tokenizer), uniform.to(logits))
        yield indices
        logits = stepper.step(indices, state)


def stream(
    network: CharNetwork, tokenizer: Tokenizer, config: SampleConfig, prime: str = ""
) -> Iterator[str]:
    """The text after `prime`, in pieces as they come; a piece never holds half a character."""
    decode = tokenizer.decoder()
    for indices in generate(network, tokenizer, config, tokenizer.encode(prime).tolist()):
        if text := decode(int(indices)):
            yield text


@contextlib.contextmanager
def single_stream_threads() -> Iterator[None]:
    """One thread within the block: a step of a single text is too short to share out."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def start_of_line(tokenizer: Tokenizer) -> list[int]:
    """What is read before the first character when there is no prime: the end of a line."""
    for character in "\n ":
        try:
            return [int(index) for index in tokenizer.encode(character)]
        except CharnnError:
            continue
    return [0]


def _read_prime(network: CharNetwork, prime: Sequence[int], rows: int) -> tuple[Tensor, Tensor]:
    """Logits [B, V] and state after the prime, read once for all rows."""
    device = network.head.weight.device
    with predicting(network):
        indices = torch.tensor(prime, dtype=torch.int64, device=device)
        logits, state = network(indices[:, None], network.zero_state(1))
        return logits[-1].expand(rows, -1), state.repeat(1, 1, rows, 1)


def _filtered(logits: Tensor, config: SampleConfig, tokenizer: Tokenizer) -> Tensor:
    if tokenizer.unknown_index is not None:
        logits = filters.without(logits, tokenizer.unknown_index)
    logits = filters.temperature(logits, config.temperature)
    return logits if config.top_k is None else filters.top_k(logits, config.top_k)


def draw(logits: Tensor, uniform: Tensor) -> Tensor:
    """The symbols [B] that uniform numbers [B] in [0, 1) fall on: where the cumulated
    probabilities of `logits` [B, V] first exceed them."""
    cumulated = torch.softmax(logits, -1).cumsum(-1)
    # Scaled by the sum: rounding may leave it under 1, and a number beyond it would fall outside.
    return torch.searchsorted(cumulated, uniform[:, None] * cumulated[:, -1:], right=True)[:, 0]


def _uniforms(config: SampleConfig, rows: int) -> Iterator[Tensor]:
    """For each place a uniform number per row; counter-based, keyed by seed and row."""
    seed = 0 if config.seed is None else config.seed
    generators = [np.random.Generator(np.random.Philox(key=[seed, row])) for row in range(rows)]
    for start in range(0, config.length, _BLOCK):
        # 23 bits: u times a float32 sum then stays below that sum whatever the rounding
        whole = np.stack([g.integers(1 << 23, size=_BLOCK) for g in generators], axis=1)
        yield from torch.from_numpy((whole / (1 << 23)).astype(np.float32))[: config.length - start]
