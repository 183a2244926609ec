"""Which inputs, that no test has tried so far, break a promise?

Runs the tests that draw their inputs again and again, each time with another random seed, for some
minutes. An input that makes a test fail is made as small as possible and kept in the folder that
`--corpus` names; the next round, and the next call with that folder, tries it first. Prints a line
for each round, and what failed. Ends with 1 if anything did.

    python scripts/fuzz.py --minutes 10 --corpus fuzz-corpus
"""

import argparse
import os
import re
import secrets
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
TESTS = [
    "tests/attack/test_checkpoint_files.py",  # checkpoints
    "tests/attack/test_other_files.py",  # run.json, metrics.jsonl, texts, options
    "tests/text",  # texts, encodings, tokenizers, records
]
SUMMARY = re.compile(r"^(?:FAILED|ERROR) .*|^\d+ (?:passed|failed).*", re.MULTILINE)


def run_round(corpus: Path, tests: list[str], seconds: float) -> tuple[bool, str]:
    """Run the tests once, at most so long; return whether they held, and what they printed."""
    seed = secrets.randbits(32)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not gpu"]
    try:
        done = subprocess.run(
            [*command, f"--hypothesis-seed={seed}", *tests],
            cwd=ROOT,
            env={**os.environ, "CHARNN_FUZZ_CORPUS": str(corpus)},
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds,
        )
    except subprocess.TimeoutExpired:
        return True, f"seed {seed}: stopped, because the time is up"
    summary = "\n".join(SUMMARY.findall(done.stdout))
    held = done.returncode == 0
    return held, f"seed {seed}: {summary}" + ("" if held else f"\n{done.stdout}{done.stderr}")


def main() -> None:
    """Parse the options, and run rounds until the time is up; exit with 1 if a test failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--corpus", type=Path, required=True, help="folder of failing inputs")
    parser.add_argument("tests", nargs="*", default=TESTS, help="test files or folders")
    options = parser.parse_args()
    corpus = options.corpus.resolve()
    corpus.mkdir(parents=True, exist_ok=True)
    end, failed = time.monotonic() + 60 * options.minutes, 0
    while (left := end - time.monotonic()) > 0:
        held, text = run_round(corpus, options.tests, left)
        failed += not held
        print(text, flush=True)
    print(f"{failed} rounds failed; their inputs are in {options.corpus}" if failed else "all held")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
