"""A model becomes text: one that streams, or many that are written at once."""

import contextlib
import itertools
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from charnn.config import SampleConfig
from charnn.device import thread_count
from charnn.errors import CharnnError, SettingError
from charnn.model.network import CharNetwork
from charnn.sampling import beam
from charnn.sampling.batch import AnyStepper, Batch, row_seed, stepper_of
from charnn.sampling.clamp import Clamp, check_clamps
from charnn.sampling.filters import Chain
from charnn.sampling.graphed_batch import WORTH, GraphedBatch
from charnn.sampling.products import FullProduct, Product
from charnn.sampling.stepper import Array
from charnn.sampling.stopping import OpenSample, Sample, StopCriteria, StopScanner
from charnn.text.tokenizer import Tokenizer

ROWS = 256  # texts that are written at once, unless fewer are wanted
NO_STOP = StopCriteria()


class Sampler:
    """A model that writes; its weights are folded once. With `records` each text is one, and ends
    before its line end at the latest. `clamps` hold units, while the prime is read too."""

    def __init__(
        self,
        network: CharNetwork,
        tokenizer: Tokenizer,
        *,
        product: type[Product] = FullProduct,
        records: bool = False,
        clamps: Sequence[Clamp] = (),
    ) -> None:
        check_clamps(network.config, clamps)
        self.yielded = 0  # times that a filter would have left nothing to draw, and yielded
        self._network = network
        self._tokenizer = tokenizer
        self._product = product
        self._steppers: dict[bool, AnyStepper] = {}
        self._records = records
        self._clamps = clamps
        self._replays = network.head.weight.is_cuda
        self.warning = ""  # what made it slower than it might be

    def stream(
        self, config: SampleConfig, prime: str = "", ending: StopCriteria = NO_STOP
    ) -> Iterator[str]:
        """The text after `prime`, in pieces as they come; a piece never holds half a character."""
        decode, stops = self._tokenizer.decoder(), StopScanner(self._ending(ending))
        batch = self._batch(config, prime, [_seed(config)])
        for indices in itertools.islice(batch.symbols(), config.length):
            self.yielded += batch.chain.taken()
            if text := stops.feed(decode(int(indices[0]))):
                yield text
            if stops.met:
                break
        if text := stops.rest():
            yield text

    def samples(
        self,
        config: SampleConfig,
        count: int,
        prime: str = "",
        ending: StopCriteria = NO_STOP,
        best: int | None = None,
        rows: int = ROWS,
    ) -> Iterator[Sample]:
        """Write `count` texts, `rows` at a time, in their order; when one ends, another begins.

        With `best` each has its `choices`, with so many alternatives.
        """
        seed, waiting, coming = _seed(config), dict[int, Sample](), 0
        ending = self._ending(ending)
        drafts = (
            OpenSample(number, row_seed(seed, number), self._tokenizer, config.length, ending)
            for number in range(count)
        )
        for draft in self._written(config, drafts, min(rows, count), prime, best):
            waiting[draft.index] = draft.sample()
            while coming in waiting:
                yield waiting.pop(coming)
                coming += 1

    def beam(
        self, config: SampleConfig, width: int, prime: str = "", ending: StopCriteria = NO_STOP
    ) -> list[Sample]:
        """The likeliest texts that a search finds (`charnn.sampling.beam.search`), by the model's
        own probabilities: of the config only the length counts."""
        assert config.length is not None
        batch = self._batch(SampleConfig(length=0), prime, [0])  # which nothing is drawn from
        ending = self._ending(ending)
        found = beam.search(batch, self._tokenizer, width, config.length, ending)
        return [replace(sample, index=index) for index, sample in enumerate(found)]

    def _written(
        self,
        config: SampleConfig,
        drafts: Iterator[OpenSample],
        rows: int,
        prime: str,
        best: int | None,
    ) -> Iterator[OpenSample]:
        """The drafts as they end."""
        if config.length == 0:
            yield from drafts
            return
        going = [next(drafts) for _ in range(rows)]
        batch = self._batch(config, prime, [draft.seed for draft in going])
        while going:
            indices, logits = batch.turn()
            self.yielded += batch.chain.taken()
            _append(going, logits, indices, best)
            batch.advance(indices[-1])
            left = []
            for row, draft in enumerate(going):
                if draft.ended:
                    yield draft
                    if (another := next(drafts, None)) is None:
                        continue
                    going[row] = another
                    batch.begin(row, another.seed)
                left.append(row)
            if len(left) < len(going):
                going = [going[row] for row in left]
                batch.keep(left)

    def _ending(self, ending: StopCriteria) -> StopCriteria:
        return replace(ending, line=True) if self._records else ending

    def _batch(self, config: SampleConfig, prime: str, seeds: Sequence[int]) -> Batch:
        tokenizer = self._tokenizer
        read = tokenizer.encode(prime).tolist()
        if self._records and "\n" in prime:
            raise SettingError("a record has no line end, and its prime has none")
        start = start_of_line(tokenizer) if self._records or not read else []
        unknown = tokenizer.unknown_index
        many = len(seeds) > 1
        if many not in self._steppers:  # each has a copy of the weights
            self._steppers[many] = stepper_of(self._network, len(seeds), self._product)
            self._steppers[many].hold(self._clamps)
        arguments = self._network, config, read, seeds, unknown, self._steppers[many], start
        if self._replays and self._worth_a_recording(config):
            try:
                return GraphedBatch(*arguments)
            except RuntimeError as error:
                self._replays = False
                line = str(error).partition("\n")[0][:200]
                self.warning = f"CUDA cannot replay steps, and makes each anew, slower: {line}"
        return Batch(*arguments)

    def _worth_a_recording(self, config: SampleConfig) -> bool:
        long = config.length is None or config.length >= WORTH
        return long and not (self._clamps or Chain(config).looks_back)


def stream(
    network: CharNetwork, tokenizer: Tokenizer, config: SampleConfig, prime: str = ""
) -> Iterator[str]:
    """`Sampler.stream` of a network that writes once."""
    return Sampler(network, tokenizer).stream(config, prime)


@contextlib.contextmanager
def single_stream_threads() -> Iterator[None]:
    """Two threads at most within the block; what more would bring was not measured."""
    with thread_count(min(torch.get_num_threads(), 2)):
        yield


def start_of_line(tokenizer: Tokenizer) -> list[int]:
    """What is read before the first character when there is no prime: the end of a line."""
    for character in "\n ":
        try:
            return [int(index) for index in tokenizer.encode(character)]
        except CharnnError:
            continue
    return [0]


def _seed(config: SampleConfig) -> int:
    return secrets.randbits(32) if config.seed is None else config.seed


def _append(drafts: Sequence[OpenSample], logits: Tensor, indices: Array, best: int | None) -> None:
    """Give each draft its symbols [K, B] up to its end, with the nats that the model has for them,
    by their logits [K, B, V]."""
    nats = -logits.log_softmax(-1)
    symbols = torch.as_tensor(indices, device=nats.device)
    drawn = nats.gather(-1, symbols[..., None]).squeeze(-1).tolist()
    likeliest: list[list[list[tuple[int, float]] | None]] = [[None] * len(drafts)] * len(drawn)
    if best is not None:
        values, symbols = nats.topk(min(best, nats.shape[-1]), largest=False)
        likeliest = [
            [list(zip(*pair, strict=True)) for pair in zip(*step, strict=True)]
            for step in zip(symbols.tolist(), values.tolist(), strict=True)
        ]
    for step in zip(indices.tolist(), drawn, likeliest, strict=True):
        for draft, *choice in zip(drafts, *step, strict=True):
            if not draft.ended:
                draft.append(*choice)
