"""The batched, streaming generator: a model becomes text."""

import contextlib
import secrets
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

GREEDY_BELOW = 1e-6  # where 1 / temperature is about to overflow, nothing else is drawn
_PIECE = 1024  # symbols of a prime that are read at once
_BLOCK = 64  # places that random numbers are drawn for at once


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
    seed = secrets.randbits(32) if config.seed is None else config.seed
    noise = noises(seed, logits)
    for _ in range(config.length):
        indices = pick(_filtered(logits, config, tokenizer), config.temperature, next(noise))
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
    """Two threads at most within the block; what more would bring was not measured."""
    before = torch.get_num_threads()
    torch.set_num_threads(min(before, 2))
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
    indices = torch.tensor(prime, dtype=torch.int64, device=network.head.weight.device)
    state = network.zero_state(1)
    with predicting(network):
        for piece in indices[:, None].split(_PIECE):
            logits, state = network(piece, state)
    return logits[-1].expand(rows, -1), state.repeat(1, rows, 1, 1)


def _filtered(logits: Tensor, config: SampleConfig, tokenizer: Tokenizer) -> Tensor:
    if tokenizer.unknown_index is not None:
        logits = filters.without(logits, tokenizer.unknown_index)
    return logits if config.top_k is None else filters.top_k(logits, config.top_k)


def pick(logits: Tensor, temperature: float, noise: Tensor) -> Tensor:
    """The drawn symbols [B], given `noises`; at temperature 0 the likeliest ones."""
    if temperature < GREEDY_BELOW:
        return logits.argmax(-1)
    return torch.add(noise, logits, alpha=1 / temperature).argmax(-1)


def noises(seed: int, logits: Tensor) -> Iterator[Tensor]:
    """Without end, what to add to logits [B, V] such as these so that their largest is a fair draw.

    Gumbel noise (Maddison et al. 2014): the argmax of logits + noise is distributed as the softmax
    of the logits, which takes two operations a character. Row i's generator is keyed by the seed
    and i, so that a row does not depend on how many there are.
    """
    rows, vocabulary_size = logits.shape
    generators = [np.random.Generator(np.random.Philox(key=[seed, row])) for row in range(rows)]
    shape = (_BLOCK, vocabulary_size)
    while True:
        waits = [g.standard_exponential(shape, np.float32) for g in generators]
        # an exponential number can be 0; its noise would be infinite
        noise = -np.log(np.maximum(np.stack(waits, 1), np.finfo(np.float32).tiny))
        yield from torch.from_numpy(noise).to(logits).unbind()
