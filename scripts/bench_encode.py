"""How fast does a large text become indices, and in how much memory?

Makes a text of the asked size from a small one (every line numbered, so that it does not simply
repeat) and opens it twice with an empty cache; everything it writes is in a temporary folder.
Prints a Markdown row. `memory`: the most anonymous memory above what importing took; `again`: the
seconds of the second opening, which finds the indices in the cache.

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
    """Write the lines of `corpus` again and again, numbered, until there are `size` bytes."""
    lines, numbers = corpus.read_bytes().splitlines(keepends=True) or [b"\n"], count(1)
    with path.open("wb") as file:
        while file.tell() < size:
            file.writelines(b"%d %s" % (next(numbers), line) for line in lines)


class Memory:
    """Watches this process's anonymous memory; mapped pages of files do not count."""

    def __init__(self) -> None:
        self._begin = self.most = anonymous()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> "Memory":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(SAMPLE_SECONDS):
            self.most = max(self.most, anonymous())

    @property
    def added(self) -> int:
        """The most bytes there were above those at the beginning."""
        return self.most - self._begin


def anonymous() -> int:
    """Bytes of this process's anonymous memory (Linux)."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split("RssAnon:")[1].split()[0])


def timed(path: Path) -> tuple[float, Corpus]:
    """Seconds that opening takes, and what was opened."""
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
        with Memory() as memory:
            first, _ = timed(text)
            again, corpus = timed(text)
        size = text.stat().st_size
        print("| bytes | symbols | seconds | MB/s | memory, MB | again, s |")
        print("|---|---|---|---|---|---|")
        print(
            f"| {size:,} | {corpus.tokenizer.vocabulary_size:,} | {first:.1f} "
            f"| {size / first / 1e6:.0f} | {memory.added / 1e6:.0f} | {again:.1f} |"
        )


if __name__ == "__main__":
    main()
