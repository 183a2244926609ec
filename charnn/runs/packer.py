"""Makes the checkpoints of a run."""

import functools
from dataclasses import dataclass

from charnn.checkpoint import Checkpoint
from charnn.config import TextConfig, TrainConfig
from charnn.facts import CorpusFacts, Figures
from charnn.model.network import CharNetwork
from charnn.text.bloom import BloomFilter
from charnn.text.corpus import Corpus
from charnn.text.records import Records


@dataclass(frozen=True)
class Packer:
    """Puts a network and the facts about its text together; what stays the same is made once."""

    corpus: Corpus
    text: TextConfig

    def pack(self, network: CharNetwork, train: TrainConfig, figures: Figures) -> Checkpoint:
        """Return the checkpoint of a network, whose weights it shares."""
        return Checkpoint(
            network.config, self.text, train, self.corpus.tokenizer, self._facts, figures,
            network.weights().arrays, known=self._known,
        )  # fmt: skip

    @functools.cached_property
    def _facts(self) -> CorpusFacts:
        corpus, known = self.corpus, self._known
        records = corpus.train.count if isinstance(corpus.train, Records) else None
        return CorpusFacts(
            corpus.sha256, len(corpus.indices), corpus.split, records,
            None if known is None else known.count, corpus.record_rules, corpus.bytes_per_char,
        )  # fmt: skip

    @functools.cached_property
    def _known(self) -> BloomFilter | None:
        """All records that the run was given, if its text is one of records: those to train on
        and those to validate, none of which is new to the user."""
        given = self.corpus.whole
        if not isinstance(given, Records):
            return None
        return BloomFilter.from_records(given, self.corpus.tokenizer.codes())
