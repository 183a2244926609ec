"""How fast does a model of records write new ones, and how many of what it writes are new?

Trains on a list, a record a line, as `charnn train LIST --lines --minutes M --seed 1` does, and
writes records as `charnn sample --lines -n N --unique --novel --seed 1` does, on two threads at
most. Prints a Markdown row; the shares are of the records written.

    python scripts/bench_records.py /usr/share/dict/american-english --minutes 2
"""

import argparse
import tempfile
import time
from pathlib import Path

import charnn
from charnn.cli.records import TRIES, RecordFilter
from charnn.config import SampleConfig
from charnn.sampling.sampler import Sampler, single_stream_threads


def main() -> None:
    """Parse the options, train, write, and print the row."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("list", type=Path)
    parser.add_argument("--minutes", type=float, default=2)
    parser.add_argument("-n", type=int, default=10_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "run")
        path = charnn.train(options.list, out=out, minutes=options.minutes, seed=1, lines=True)
        loaded = charnn.load(path)
    trained = loaded.checkpoint
    corpus, known, codes_of = trained.corpus, trained.known, loaded.tokenizer.codes_of
    assert corpus.records is not None
    assert known is not None
    wanted = RecordFilter(
        options.n, unique=True, novel=True, is_known=lambda record: known.has(codes_of(record))
    )
    start = time.perf_counter()
    with single_stream_threads():
        writer = Sampler(loaded.network, loaded.tokenizer, records=True)
        samples = writer.samples(SampleConfig(seed=1), TRIES * options.n)
        kept = sum(1 for _ in wanted.among(samples, ""))
    seconds, counts = time.perf_counter() - start, wanted.counts
    shares = [f"{counts[name] / counts['written']:.1%}" for name in ("whole", "unique", "novel")]
    print("| model | records | nats/char | kept | kept/s | whole | unique | novel too | length |")
    print("|---|---|---|---|---|---|---|---|---|")
    print(
        f"| {trained.model.num_layers}x{trained.model.hidden_size} {trained.model.cell} "
        f"| {corpus.records:,} | {trained.figures.val_nats_per_char:.4f} | {kept:,} "
        f"| {kept / seconds:,.0f} | {' | '.join(shares)} "
        f"| {counts['characters'] / counts['written']:.1f}; the list's "
        f"{corpus.train_characters / corpus.records - 1:.1f} |"
    )


if __name__ == "__main__":
    main()
