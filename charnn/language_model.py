"""A trained model in Python: generate text, score it, look inside."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Unpack, cast

from charnn import arguments
from charnn.arguments import choice, flag
from charnn.checkpoint import Checkpoint
from charnn.config import SampleConfig
from charnn.device import pick_device
from charnn.errors import SettingError, text_named_by
from charnn.insight.gradients import Reach, measure_reach
from charnn.insight.properties import PROPERTIES, Property
from charnn.insight.trace import Trace, trace_text
from charnn.insight.units import UnitSearch, find_units, text_to_search
from charnn.model.evaluate import Score, evaluate
from charnn.model.weights import Weights
from charnn.runs.evaluation_text import evaluation_text
from charnn.sampling.clamp import Clamp
from charnn.sampling.engines import PRECISIONS
from charnn.sampling.folded_engine import SteppedNetwork
from charnn.sampling.generation import Generation
from charnn.sampling.products import check_precision
from charnn.sampling.record_filter import RecordCounts, RecordFilter, known_records
from charnn.sampling.sample import Sample
from charnn.sampling.sampler import Sampler
from charnn.sampling.stopping import StopCriteria
from charnn.sampling.validator import Validator
from charnn.settings import SampleSettings
from charnn.text.records import Text, indices_of, records_of
from charnn.torch_modes import default_torch_modes

Stop = str | bytes | Sequence[str | bytes]


class RecordSamples(Generation[Sample]):
    """The wanted records as they are generated, and the `counts` of all that were."""

    def __init__(self, samples: Generation[Sample], counts: RecordCounts) -> None:
        super().__init__(samples, samples.chain)
        self.counts = counts


class LanguageModel:
    """A trained model, as `charnn.load` returns it. Threads may share it."""

    @default_torch_modes()
    def __init__(
        self,
        checkpoint: Checkpoint,
        device: str = "auto",
        *,
        precision: str = "fp32",
        exact: bool = False,
        clamps: Sequence[Clamp] = (),
        folder: Path | None = None,
    ) -> None:
        choice("precision", precision, PRECISIONS)
        self.checkpoint = checkpoint
        self.tokenizer = checkpoint.tokenizer
        where = pick_device(device)
        check_precision(precision, where)
        self.network = checkpoint.network(where)
        self.folder = folder
        self._device, self._precision, self._clamps = device, precision, tuple(clamps)
        self._exact = exact
        self._sampler = Sampler(
            Weights(checkpoint.model, checkpoint.weights), self.tokenizer, device=str(where),
            precision=precision, records=checkpoint.text.lines, clamps=clamps,
            exact=flag("exact", exact),
        )  # fmt: skip

    def __repr__(self) -> str:
        model, figures = self.checkpoint.model, self.checkpoint.figures
        nats = figures.nats_per_char
        loss = "" if nats is None else f", {nats:.4f} nats/{self.tokenizer.unit}"
        return (
            f"<LanguageModel {model.num_layers}x{model.hidden_size} {model.cell}, "
            f"{model.vocabulary_size} symbols, {figures.parameters:,} parameters{loss}>"
        )

    def stream(
        self, prime: str = "", *, stop: Stop = (), **settings: Unpack[SampleSettings]
    ) -> Generation[str]:
        """Yield the text after `prime` piece by piece, up to one of the texts of `stop`.

        The settings are those of `SampleSettings`, such as `length`, `temperature` and `seed`.

        Example:
            >>> model = charnn.load("checkpoints/corpus")
            >>> for piece in model.stream("st", length=20, stop="\\n"):
            ...     print(piece, end="", flush=True)  # doctest: +SKIP
        """
        return self._sampler.stream(SampleConfig.from_json(settings), prime, _criteria(stop))

    def stream_bytes(
        self, prime: str = "", *, stop: Stop = (), **settings: Unpack[SampleSettings]
    ) -> Generation[bytes]:
        """Yield the text after `prime` as bytes: those that a byte model generates, as they are.

        `stream` has U+FFFD for what is not UTF-8. The bytes of a whole text are `Sample.data`.

        Example:
            >>> model = charnn.load("checkpoints/corpus")
            >>> data = b"".join(model.stream_bytes("st", length=20, seed=1))
            >>> data.decode() == model.sample("st", length=20, seed=1)
            True
        """
        return self._sampler.stream_bytes(SampleConfig.from_json(settings), prime, _criteria(stop))

    def sample(
        self, prime: str = "", *, stop: Stop = (), **settings: Unpack[SampleSettings]
    ) -> str:
        """Return the text after `prime`, without the prime.

        Example:
            >>> model = charnn.load("checkpoints/corpus")
            >>> text = model.sample("st", length=20, temperature=0.7, seed=1)
            >>> len(text)
            20
        """
        config, criteria = SampleConfig.from_json(settings), _criteria(stop)
        self._sampler.check_end(config, criteria)
        return "".join(self._sampler.stream(config, prime, criteria))

    def samples(
        self,
        count: int,
        prime: str = "",
        *,
        stop: Stop = (),
        alternatives: int | None = None,
        **settings: Unpack[SampleSettings],
    ) -> Generation[Sample]:
        """Yield `count` texts after `prime` in their order, many generated at once.

        The `seed` of a sample, given to `sample`, generates its text again: nearly always, and
        always if the model was loaded with `exact=True`. With `alternatives` each sample has
        `choices`: for every symbol its nats and so many likely alternatives.

        Example:
            >>> model = charnn.load("checkpoints/corpus")
            >>> samples = list(model.samples(3, "st", length=20, seed=1))
            >>> samples[2].text == model.sample("st", length=20, seed=samples[2].seed)
            True
        """
        config = SampleConfig.from_json(settings)
        return self._sampler.samples(config, count, prime, _criteria(stop), alternatives)

    def records(
        self,
        count: int,
        prime: str = "",
        *,
        unique: bool = False,
        novel: bool = False,
        keep: str | re.Pattern[str] | None = None,
        validator: str | Validator | None = None,
        max_tries: int | None = None,
        **settings: Unpack[SampleSettings],
    ) -> RecordSamples:
        """Yield `count` records that are wanted, of a model that was trained with `lines=True`.

        Args:
            unique: no record twice.
            novel: no record of the training or validation list; a Bloom filter in the checkpoint
                knows them.
            keep: a regular expression that must be found in the record.
            validator: a function of a list of records that returns a bool for each, or a command
                that reads a record per line and prints 1 or 0 for each.
            max_tries: records to generate at most; 20 for each requested one if left out.

        Fewer than `count` come if `max_tries` are used up; `counts` of the result tells.

        Example:
            >>> names = charnn.load("checkpoints/names")
            >>> found = names.records(5, unique=True, keep="^.{2,}$", seed=1)
            >>> len([sample.text for sample in found]), found.counts.requested
            (5, 5)
        """
        if not self.checkpoint.text.lines:
            raise SettingError("this model was not trained on records; train one with `lines=True`")
        wanted = RecordFilter(
            count, unique=unique, novel=novel, keep=keep, validator=validator,
            is_known=known_records(self.checkpoint), max_tries=max_tries,
        )  # fmt: skip
        samples = self._sampler.records(SampleConfig.from_json(settings), wanted, prime)
        return RecordSamples(samples, wanted.counts)

    @default_torch_modes()
    def beam(self, width: int, prime: str = "", *, length: int, stop: Stop = ()) -> list[Sample]:
        """Return the likeliest texts after `prime` that a beam search of that width finds, the
        best first.

        Example:
            >>> model = charnn.load("checkpoints/corpus")
            >>> best, *others = model.beam(4, "st", length=10)
        """
        return self._sampler.beam(SampleConfig(length=length), width, prime, _criteria(stop))

    @default_torch_modes()
    def score(self, text: str, protocol: str = "stream", window: int = 256) -> Score:
        """Return how well the model predicts `text`, which needs two characters or more.

        A model of records predicts whole lines. `protocol` is "stream" (one pass), "window" (cold
        windows of `window` characters), or "lanes" (up to 64 places in parallel, as validations
        during training read their text: fast, and close to "stream").

        Example:
            >>> model = charnn.load("checkpoints/corpus")
            >>> score = model.score("a test")
            >>> score.characters
            5
        """
        network = self.network
        if self._clamps:
            network = SteppedNetwork(network, clamps=self._clamps)
        return evaluate(network, self._read(text), protocol, window)

    @default_torch_modes()
    def inspect(self, text: str) -> Trace:
        """Return the gates and states [T, L, H] after each symbol of `text`, and the logits.

        Example:
            >>> model = charnn.load("checkpoints/corpus")
            >>> trace = model.inspect("steep")
            >>> trace.values["forget"].shape[0]
            5
        """
        self._refuse_clamps("inspect")
        return trace_text(self.network, self.tokenizer, text, self.checkpoint.text.lines)

    @default_torch_modes()
    def find_units(
        self,
        text: str | None = None,
        properties: Mapping[str, Property] | None = None,
        best: int = 3,
    ) -> UnitSearch:
        """Return the units that track each property best, ranked on one half of the text and
        checked on the other.

        Without `properties` all of `charnn.PROPERTIES` are tracked; without `text` the validation
        part of the run's own corpus is read.

        Example:
            >>> model = charnn.load("checkpoints/corpus")
            >>> search = model.find_units(properties={"space": charnn.PROPERTIES["space"]}, best=1)
            >>> [found.property for found in search.properties]
            ['space']
        """
        self._refuse_clamps("find_units")
        with text_named_by('`text="…"`'):
            read = text_to_search(self.checkpoint, self._run_folder(text), text)
        tracked = PROPERTIES if properties is None else properties
        return find_units(self.network, self.tokenizer, read, tracked, best)

    @default_torch_modes()
    def gradients(
        self, text: str | None = None, *, distance: int = 200, positions: int = 256
    ) -> Reach:
        """Return how strongly the loss depends on the state up to `distance` characters before, at
        `positions` places of a text.

        Without `text` the validation part of the run's own corpus is read.

        Example:
            >>> model = charnn.load("checkpoints/corpus")
            >>> reach = model.gradients(distance=20, positions=4)
            >>> reach.positions
            4
        """
        self._refuse_clamps("gradients")
        if text is None:
            with text_named_by('`text="…"`'):
                read = evaluation_text(self.checkpoint, self._run_folder(text)).text
        else:
            read = self._read(text)
        return measure_reach(self.network, read, distance, positions)

    def with_clamps(self, *clamps: Clamp) -> "LanguageModel":
        """Return the model with units held at a value while it reads, generates and scores.

        Clamps that it has already stay. `inspect`, `find_units` and `gradients` are for a model
        without clamps.

        Example:
            >>> model = charnn.load("checkpoints/corpus")
            >>> held = model.with_clamps(charnn.Clamp(layer=0, unit=3, value=1.0))
            >>> text = held.sample("st", length=20, seed=1)
        """
        return LanguageModel(
            self.checkpoint, self._device, precision=self._precision, exact=self._exact,
            clamps=(*self._clamps, *clamps), folder=self.folder,
        )  # fmt: skip

    def _refuse_clamps(self, method: str) -> None:
        if self._clamps:
            raise SettingError(f"{method} shows a model without clamps; load it again for that")

    def _read(self, text: str) -> Text:
        """Return the indices of a text; of a model of records those of its lines."""
        read = self.tokenizer.fold(arguments.text("text", text))
        newline = self.tokenizer.newline_index
        if not self.checkpoint.text.lines or newline is None:
            return read
        return records_of(indices_of(read), newline)

    def _run_folder(self, text: str | None) -> Path:
        if text is None and self.folder is None:
            raise SettingError("this model has no run folder to take a text from; give `text`")
        return self.folder or Path()


def _criteria(stop: Stop) -> StopCriteria:
    """Return what ends a text: one text or several."""
    if isinstance(stop, str | bytes) or not isinstance(stop, Iterable):
        return StopCriteria((cast(str, stop),))  # an unusable one is refused there
    return StopCriteria(tuple(stop))
