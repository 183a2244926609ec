"""How fast does a model of records generate new ones, and what share of its records is new?

Trains on a list with one record per line, like `charnn train LIST --lines --minutes M --seed 1`,
and generates records like `charnn sample --lines -n N --unique --novel --seed 1`, with at most two
threads. Prints a Markdown row; percentages are of all records generated.

    python scripts/bench_records.py /usr/share/dict/american-english --minutes 2
"""

import argparse
import tempfile
import time
from pathlib import Path

import charnn
from charnn.config import SampleConfig
from charnn.sampling.record_filter import RecordFilter, known_records
from charnn.sampling.sampler import Sampler, single_stream_threads


def main() -> None:
    """Parse the options, train, generate, and print the row."""
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
    corpus = trained.corpus
    assert corpus.records is not None
    wanted = RecordFilter(options.n, unique=True, novel=True, is_known=known_records(trained))
    start = time.perf_counter()
    with single_stream_threads():
        sampler = Sampler(loaded.network.weights(), loaded.tokenizer, records=True)
        kept = sum(1 for _ in sampler.records(SampleConfig(seed=1), wanted))
    seconds, counts = time.perf_counter() - start, wanted.counts
    passed = (counts.complete, counts.unique, counts.novel)
    shares = [f"{count / counts.generated:.1%}" for count in passed]
    print(
        "| model | records | nats/char | kept | kept/s "
        "| complete | unique | novel too | mean length |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    print(
        f"| {trained.model.num_layers}x{trained.model.hidden_size} {trained.model.cell} "
        f"| {corpus.records:,} | {trained.figures.val_nats_per_char:.4f} | {kept:,} "
        f"| {kept / seconds:,.0f} | {' | '.join(shares)} "
        f"| {counts.mean_length:.1f}; the list's "
        f"{corpus.train_characters / corpus.records - 1:.1f} |"
    )


if __name__ == "__main__":
    main()
