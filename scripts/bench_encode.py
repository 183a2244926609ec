"""How fast does a large text become indices, and in how much memory?

Repeats a small text up to the requested size, with every line numbered so that no two are equal,
and opens the result twice, starting from an empty cache. All files are written to a temporary
folder. Prints a Markdown row. `memory`: peak anonymous memory above the level after the imports;
`opened again`: seconds of the second opening, which finds the indices in the cache.

    python scripts/bench_encode.py data/tinyshakespeare.txt
"""

import argparse
import os
import tempfile
import threading
import time
from itertools import count
from pathlib import Path

from charnn.config import TextConfig
from charnn.text.corpus import Corpus, open_corpus

SAMPLE_SECONDS = 0.01


def make_text(path: Path, corpus: Path, size: int) -> None:
    """Write the lines of `corpus`, numbered and repeated, until `path` has `size` bytes."""
    lines, numbers = corpus.read_bytes().splitlines(keepends=True) or [b"\n"], count(1)
    with path.open("wb") as file:
        while file.tell() < size:
            file.writelines(b"%d %s" % (next(numbers), line) for line in lines)


class PeakMemory:
    """Peak anonymous memory of this process; memory-mapped file pages do not count."""

    def __init__(self) -> None:
        self._start = self._peak = anonymous_bytes()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> "PeakMemory":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(SAMPLE_SECONDS):
            self._peak = max(self._peak, anonymous_bytes())

    @property
    def added(self) -> int:
        """Peak minus the level at the start, in bytes."""
        return self._peak - self._start


def anonymous_bytes() -> int:
    """Return the size of this process's anonymous memory (Linux only)."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split("RssAnon:")[1].split()[0])


def timed_open(path: Path) -> tuple[float, Corpus]:
    """Open a corpus; return the seconds that it took, and the corpus."""
    start = time.perf_counter()
    corpus = open_corpus([str(path)], TextConfig())
    return time.perf_counter() - start, corpus


def main() -> None:
    """Parse the options and print the row."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--gigabytes", type=float, default=1.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["CHARNN_CACHE"] = folder
        text = Path(folder, "text.txt")
        make_text(text, options.corpus, int(options.gigabytes * 1e9))
        with PeakMemory() as memory:
            first, _ = timed_open(text)
            second, corpus = timed_open(text)
        size = text.stat().st_size
        print("| bytes | symbols | seconds | MB/s | memory, MB | opened again, s |")
        print("|---|---|---|---|---|---|")
        print(
            f"| {size:,} | {corpus.tokenizer.vocabulary_size:,} | {first:.1f} "
            f"| {size / first / 1e6:.0f} | {memory.added / 1e6:.0f} | {second:.1f} |"
        )


if __name__ == "__main__":
    main()
