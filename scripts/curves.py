"""How does the validation loss fall with the minutes of training?

Draws the metrics files written by `bench_learn.py --curves FOLDER` into one SVG, one line per file.
Files that differ only in the seed have the same line style. Needs matplotlib.

    python scripts/curves.py curves/*.jsonl --out docs/learning.svg
"""

import argparse
import itertools
import json
from pathlib import Path

from matplotlib import pyplot as plt
from matplotlib.ticker import LogLocator, NullFormatter

STYLES = itertools.cycle(["-", "--", ":", "-."])  # distinguishable in black and white


def validations(path: Path) -> tuple[list[float], list[float]]:
    """Return the minutes since the first line, and the validation loss in nats per character."""
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    found = [line for line in lines if "val_nats_per_char" in line]
    minutes = [(line["time"] - lines[0]["time"]) / 60 for line in found]
    return minutes, [line["val_nats_per_char"] for line in found]


def main() -> None:
    """Parse the options and draw the curves."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("metrics", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, default=Path("learning.svg"))
    options = parser.parse_args()
    plt.rcParams["svg.hashsalt"] = "charnn"  # equal data give equal bytes
    figure, panel = plt.subplots(figsize=(6, 3.5))
    styles: dict[str, str] = {}
    for path in sorted(options.metrics):
        label = path.stem.rpartition(" seed ")[0]
        first = label not in styles
        style = styles.setdefault(label, next(STYLES) if first else "")
        minutes, nats = validations(path)
        panel.plot(minutes, nats, style, color="black", lw=1, label=label if first else None)
    panel.set(xscale="log", xlabel="minutes of training", ylabel="validation, nats per character")
    panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    panel.xaxis.set_major_formatter(lambda minutes, _: f"{minutes:g}")
    panel.xaxis.set_minor_formatter(NullFormatter())
    panel.legend(frameon=False)
    panel.spines[["top", "right"]].set_visible(False)
    figure.savefig(options.out, bbox_inches="tight", metadata={"Date": None})


if __name__ == "__main__":
    main()
