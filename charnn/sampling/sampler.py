"""Generate text with a trained network: one text that streams, many at once, or the likeliest."""

import contextlib
import copy
import itertools
import logging
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from charnn.arguments import text, whole_number
from charnn.config import MAX_WIDTH, SampleConfig
from charnn.errors import SettingError
from charnn.model.weights import Weights
from charnn.sampling import beam
from charnn.sampling.arrays import Array, least, like, log_softmax, take_along, to_numpy
from charnn.sampling.batch import Batch
from charnn.sampling.clamp import Clamp, check_clamps
from charnn.sampling.engines import Engines
from charnn.sampling.filters import FilterChain
from charnn.sampling.generation import Generation
from charnn.sampling.noise import row_seed
from charnn.sampling.prime import start_of_line
from charnn.sampling.record_filter import RecordFilter
from charnn.sampling.sample import Sample, SampleBuilder
from charnn.sampling.stopping import NO_STOP, StopCriteria, StopScanner
from charnn.text.tokenizer import Tokenizer, utf8_decoder

# Shapes: B batch, V vocabulary, K steps.

_LOGGER = logging.getLogger(__name__)

MIN_GRAPHED = 200  # symbols of a text from which on a CUDA graph pays (assumed, not measured)
ROWS = 256  # texts that are generated at once, unless fewer are requested


class Sampler:
    """Generates texts with the weights of a network, which it copies.

    Threads may share a sampler: all state of a text lies in the iterator that a method returns. On
    a CPU a single text needs no torch.

    >>> sampler = Sampler(network.weights(), tokenizer)
    >>> text = "".join(sampler.stream(SampleConfig(length=200, seed=1), "steep"))
    """

    def __init__(
        self,
        weights: Weights,
        tokenizer: Tokenizer,
        *,
        device: str = "cpu",
        precision: str = "fp32",
        records: bool = False,
        clamps: Sequence[Clamp] = (),
        threads: int = 0,
        exact: bool = False,
    ) -> None:
        """With `records` each text is one record, and ends before its newline at the latest.

        `precision` (`PRECISIONS`) trades exactness for speed; `clamps` hold units at a value, also
        while the prime is read; `threads` compute a single text on a CPU, at most 2, and 0 chooses.
        With `exact` a sample's seed always generates it again, alone and among others, on the same
        machine.
        """
        check_clamps(weights.config, clamps)
        self._engines = Engines(weights, device, precision, clamps, threads, exact)
        self._tokenizer = tokenizer
        self._bytes_of_symbols = tokenizer.pieces()
        self._records = records
        self._use_graphs = device.startswith("cuda") and not exact

    def needs_torch(self, texts: int) -> bool:
        """Return True if torch generates so many texts, False if NumPy does."""
        return self._engines.needs_torch(texts)

    @property
    def unit(self) -> str:
        """The unit in which the model's figures are given, "char" or "byte"."""
        return self._tokenizer.unit

    def check_end(self, config: SampleConfig, stop: StopCriteria) -> None:
        """Raise `SettingError` if no text would ever end."""
        if config.length is None and not (stop.stops or self._records):
            raise SettingError("without a `length` or a `stop` no sample ends; give one")

    def stream(
        self, config: SampleConfig, prime: str = "", stop: StopCriteria = NO_STOP
    ) -> Generation[str]:
        """Return the text after `prime` in pieces as they come; each is of whole characters.

        A byte model's text has U+FFFD for what is not UTF-8.
        """
        return self.stream_bytes(config, prime, stop).through(_decoded)

    def stream_bytes(
        self, config: SampleConfig, prime: str = "", stop: StopCriteria = NO_STOP
    ) -> Generation[bytes]:
        """Return the text after `prime` as bytes as they come: exactly those that a byte model
        generates, of other models in UTF-8."""
        chain = self._chain(config)
        return Generation(self._pieces(chain, prime, self._scanner(stop)), chain)

    def samples(
        self,
        config: SampleConfig,
        count: int | range,
        prime: str = "",
        stop: StopCriteria = NO_STOP,
        alternatives: int | None = None,
        rows: int = ROWS,
    ) -> Generation[Sample]:
        """Return `count` texts after `prime` in their order, `rows` of them generated at a time.

        A range selects samples by index; each is independent of the others. When one ends, the next
        starts in its place. With `alternatives` each sample has `choices`: its symbols, each with
        so many of the likeliest symbols in its place.
        """
        if not isinstance(count, range):
            count = range(whole_number("count", count, 0))
        if alternatives is not None:
            alternatives = whole_number("alternatives", alternatives, 0)
        self.check_end(config, stop)
        chain, seed = self._chain(config), _seed(config)
        pieces, scanner = self._bytes_of_symbols, self._scanner(stop)
        builders = (
            SampleBuilder(number, row_seed(seed, number), pieces, config.length, copy.copy(scanner))
            for number in count
        )
        finished = self._finished(chain, builders, min(rows, len(count)), prime, alternatives)
        return Generation(_in_order(finished, count), chain)

    def records(
        self,
        config: SampleConfig,
        wanted: RecordFilter,
        prime: str = "",
        stop: StopCriteria = NO_STOP,
        alternatives: int | None = None,
    ) -> Generation[Sample]:
        """Return the wanted records that start with `prime`, as many as requested if there are."""
        rows = min(ROWS, wanted.counts.requested)
        samples = self.samples(config, wanted.max_tries, prime, stop, alternatives, rows)
        return samples.through(lambda some: wanted.apply(some, prime, self.unit))

    def beam(
        self, config: SampleConfig, width: int, prime: str = "", stop: StopCriteria = NO_STOP
    ) -> list[Sample]:
        """Return the likeliest texts that a beam search of this width finds, the best first.

        Only the length of the config counts. Likeliest is by the fewest nats per symbol, the stop's
        included.
        """
        width = whole_number("width", width, 1, MAX_WIDTH)
        if config.length is None:
            raise SettingError("a beam search needs a finite `length`, such as `length=100`")
        chain = self._chain(SampleConfig(length=0))  # nothing is drawn
        batch = self._batch(chain, prime, [0], grows=True)
        found = beam.search(batch, self._tokenizer, width, config.length, self._criteria(stop))
        return [replace(sample, index=index) for index, sample in enumerate(found)]

    def _pieces(self, chain: FilterChain, prime: str, scanner: StopScanner) -> Iterator[bytes]:
        pieces = self._bytes_of_symbols
        batch = self._batch(chain, prime, [_seed(chain.config)])
        for symbols in itertools.islice(batch.symbols(), chain.config.length):
            if data := scanner.feed(pieces[int(symbols[0])]):
                yield data
            if scanner.met:
                break
        if data := scanner.rest():
            yield data

    def _finished(
        self,
        chain: FilterChain,
        builders: Iterator[SampleBuilder],
        rows: int,
        prime: str,
        alternatives: int | None,
    ) -> Iterator[Sample]:
        """Yield the samples as they end."""
        if not rows or chain.config.length == 0:
            yield from (builder.build() for builder in builders)
            return
        active = [next(builders) for _ in range(rows)]
        batch = self._batch(chain, prime, [builder.seed for builder in active])
        while True:
            symbols, logits = batch.draw_steps()
            _append_steps(active, symbols, logits, alternatives)
            batch.advance(symbols[-1])
            remaining = []
            for row, builder in enumerate(active):
                if builder.ended:
                    yield builder.build()
                    if (following := next(builders, None)) is None:
                        continue
                    active[row] = following
                    batch.restart(row, following.seed)
                remaining.append(row)
            if not remaining:
                return
            if len(remaining) < len(active):
                active = [active[row] for row in remaining]
                batch.select(remaining)

    def _scanner(self, stop: StopCriteria) -> StopScanner:
        return StopScanner(self._criteria(stop), self._tokenizer.bytes_of)

    def _criteria(self, stop: StopCriteria) -> StopCriteria:
        return replace(stop, at_line_end=True) if self._records else stop

    def _chain(self, config: SampleConfig) -> FilterChain:
        return FilterChain(config, self._tokenizer.unknown_index)

    def _batch(
        self, chain: FilterChain, prime: str, seeds: Sequence[int], grows: bool = False
    ) -> Batch:
        prime = text("prime", prime)
        if self._records and "\n" in prime:
            raise SettingError("a record has no newline, so its `prime` cannot have one")
        symbols = self._tokenizer.fold(prime).tolist()
        # Filters do not look back at the start of the line.
        start = start_of_line(self._tokenizer) if self._records or not symbols else []
        many = grows or self._use_graphs or len(seeds) > 1
        engine = self._engines.many() if many else self._engines.one()
        primed = self._engines.read(engine, [*start, *symbols])
        if self._use_graphs and self._graph_pays(chain):
            from charnn.sampling.graphed_batch import GraphedBatch

            try:
                return GraphedBatch(engine, primed, chain, seeds, symbols)
            except RuntimeError as error:
                self._use_graphs = False
                line = str(error).partition("\n")[0][:200]
                _LOGGER.warning("CUDA graphs cannot be used, so sampling is slower: %s", line)
        return Batch(engine, primed, chain, seeds, symbols)

    def _graph_pays(self, chain: FilterChain) -> bool:
        length = chain.config.length
        long = length is None or length >= MIN_GRAPHED
        return long and not (self._engines.clamps or chain.looks_back)


@contextlib.contextmanager
def single_stream_threads() -> Iterator[None]:
    """Let torch use at most two CPU threads within the block, as many as speed up a single text.

    More were not measured. The setting is that of the whole process.
    """
    import torch

    from charnn.device import thread_count

    with thread_count(min(torch.get_num_threads(), 2)):
        yield


def _decoded(pieces: Iterator[bytes]) -> Iterator[str]:
    """Yield the characters of a text as soon as they are complete."""
    decode = utf8_decoder()
    for data in pieces:
        if text := decode(data):
            yield text


def _seed(config: SampleConfig) -> int:
    return secrets.randbits(32) if config.seed is None else config.seed


def _in_order(samples: Iterator[Sample], indices: range) -> Iterator[Sample]:
    """Yield samples in the order of their indices, as soon as all before them have come."""
    waiting, expected = dict[int, Sample](), iter(indices)
    following = next(expected, None)
    for sample in samples:
        waiting[sample.index] = sample
        while following in waiting:
            yield waiting.pop(following)
            following = next(expected, None)


def _append_steps(
    builders: Sequence[SampleBuilder], symbols: Array, logits: Array, alternatives: int | None
) -> None:
    """Append symbols [K, B] to each text up to its end, with their nats by the logits [K, B, V]."""
    nats = -log_softmax(logits)
    drawn = to_numpy(take_along(nats, like(symbols, nats)[..., None]))[..., 0].tolist()
    likeliest: list[list[list[tuple[int, float]] | None]] = [[None] * len(builders)] * len(drawn)
    if alternatives is not None:
        known = to_numpy(nats)
        indices = least(known, min(alternatives, known.shape[-1]))
        values = np.take_along_axis(known, indices, -1)
        likeliest = [
            [list(zip(*pair, strict=True)) for pair in zip(*step, strict=True)]
            for step in zip(indices.tolist(), values.tolist(), strict=True)
        ]
    for step in zip(symbols.tolist(), drawn, likeliest, strict=True):
        for builder, *choice in zip(builders, *step, strict=True):
            if not builder.ended:
                builder.append(*choice)
