"""A trained model in Python: generate text, score it, look inside."""

from collections.abc import Iterator, Sequence
from typing import Unpack

from charnn.checkpoint import Checkpoint
from charnn.config import SampleConfig
from charnn.device import pick_device
from charnn.errors import SettingError
from charnn.model.evaluate import Score, evaluate
from charnn.sampling.products import FullProduct, HalfProduct, Int8Product, Product
from charnn.sampling.sampler import Sampler
from charnn.sampling.stopping import Sample, StopCriteria
from charnn.settings import SampleSettings
from charnn.text.records import Records, Text, indices_of, split_records

PRODUCTS: dict[str, type[Product]] = {
    "fp32": FullProduct, "int8": Int8Product, "fp16": HalfProduct,
}  # fmt: skip


class LanguageModel:
    """A trained model. Threads may share it."""

    def __init__(
        self, loaded: Checkpoint, device: str = "auto", *, precision: str = "fp32"
    ) -> None:
        if precision not in PRODUCTS:
            raise SettingError(f"precision {precision!r} is none of {', '.join(PRODUCTS)}")
        self.checkpoint = loaded
        self.tokenizer = loaded.tokenizer
        self.network = loaded.network(pick_device(device))
        self._sampler = Sampler(
            self.network, self.tokenizer, product=PRODUCTS[precision], records=loaded.text.lines
        )

    def __repr__(self) -> str:
        model, figures = self.checkpoint.model, self.checkpoint.figures
        nats = figures.val_nats_per_char
        loss = "" if nats is None else f", {nats:.4f} nats/char"
        return (
            f"<LanguageModel {model.num_layers}x{model.hidden_size} {model.cell}, "
            f"{model.vocabulary_size} symbols, {figures.parameters:,} parameters{loss}>"
        )

    def stream(
        self, prime: str = "", *, stop: str | Sequence[str] = (), **settings: Unpack[SampleSettings]
    ) -> Iterator[str]:
        """Yield the text after `prime` as it is generated, up to one of the texts of `stop`.

        `settings` are those of `SampleConfig`, such as `length`, `temperature`, `top_p`, `seed`.
        """
        return self._sampler.stream(SampleConfig.from_json(settings), prime, _criteria(stop))

    def sample(
        self, prime: str = "", *, stop: str | Sequence[str] = (), **settings: Unpack[SampleSettings]
    ) -> str:
        """Return the text after `prime`, such as `sample("steep", length=200, seed=1)`."""
        return "".join(self.stream(prime, stop=stop, **settings))

    def samples(
        self,
        count: int,
        prime: str = "",
        *,
        stop: str | Sequence[str] = (),
        best: int | None = None,
        **settings: Unpack[SampleSettings],
    ) -> Iterator[Sample]:
        """Yield `count` texts after `prime`, many generated at once, in their order.

        A sample's `seed`, given to `sample`, generates its text again. With `best` each sample has
        `choices`: for every symbol its nats and so many alternatives.
        """
        config = SampleConfig.from_json(settings)
        return self._sampler.samples(config, count, prime, _criteria(stop), best)

    def beam(
        self, width: int, prime: str = "", *, length: int, stop: str | Sequence[str] = ()
    ) -> list[Sample]:
        """Return the likeliest texts after `prime` that a beam search of that width finds, the
        best first."""
        return self._sampler.beam(SampleConfig(length=length), width, prime, _criteria(stop))

    def score(self, text: str, protocol: str = "stream", window: int = 256) -> Score:
        """Return how well the model predicts `text`, which needs two characters or more.

        A model of records predicts whole lines.
        """
        read: Text = self.tokenizer.fold(text)
        newline = self.tokenizer.newline_index
        if self.checkpoint.text.lines and newline is not None:
            indices, _ = split_records([indices_of(read)], newline, self.tokenizer.codes(), 0)
            read = Records(indices, newline)
        return evaluate(self.network, read, protocol, window)


def _criteria(stop: str | Sequence[str]) -> StopCriteria:
    """Return what ends a text: one text or several."""
    stops = (stop,) if isinstance(stop, str) else tuple(stop)
    if "" in stops:
        raise SettingError("an empty `stop` would end every text before it begins")
    return StopCriteria(stops)
