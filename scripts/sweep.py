"""Which sizes and settings learn a text best?

Calls `charnn.train` once for each combination of the values and appends one JSON line per run to
the `--out` file. Combinations that are already in the file are skipped, so running the same command
continues a sweep that was stopped. Settings without values are chosen by charnn. Runs are compared
by `first`, their loss on the first four fifths of the validation part; the last fifth is only
reported (scripts/judge.py). The final table is sorted with the best run first. `--plot` draws one
panel for each setting that has several values.

    python scripts/sweep.py data/tinyshakespeare.txt --minutes 3 hidden_size=256,384 dropout=0,.1
    python scripts/sweep.py data/tinyshakespeare.txt --characters 20000 --minutes 3
"""

import argparse
import itertools
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from judge import Text


def parse_setting(setting: str) -> tuple[str, Any]:
    """Return the name and the value of NAME=VALUE; a value that is not JSON is a string."""
    name, _, value = setting.partition("=")
    try:
        return name, json.loads(value if value[:1] != "." else f"0{value}")
    except ValueError:
        return name, value


def check_settings(parser: argparse.ArgumentParser, settings: list[str]) -> None:
    """Exit with a usage error if a setting has no value or is an option of the script."""
    for setting in settings:
        name, _, value = setting.partition("=")
        if not value or name in ("seed", "minutes", "epochs", "steps", "val", "out"):
            parser.error(f"{setting} is not a setting; use NAME=VALUE, or the option --{name}")


def combinations(settings: list[str]) -> Iterator[dict[str, Any]]:
    """Return all combinations of one value for each NAME=VALUE,VALUE,…"""
    choices = [
        [parse_setting(f"{name}={value}") for value in values.split(",")]
        for name, _, values in (setting.partition("=") for setting in settings)
    ]
    return (dict(chosen) for chosen in itertools.product(*choices))


def read_runs(path: Path) -> list[dict[str, Any]]:
    """Return the runs in the file, and remove an incomplete last line from it."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    if text and not text.endswith("\n"):
        text = text[: text.rfind("\n") + 1]
        path.write_text(text, encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def table(runs: list[dict[str, Any]]) -> str:
    """Return the runs as a Markdown table, best first."""
    rows = [
        "| settings | model | epochs read | first | held out | seconds |",
        "|---|---|---|---|---|---|",
    ]
    for run in sorted(runs, key=lambda run: run["first"]):
        settings = " ".join(f"{k}={v}" for k, v in run["asked"].items())
        m, t = run["model"], run["train"]
        epochs = t["steps"] * t["batch_size"] * t["seq_len"] / run["characters"]
        model = f"{m['num_layers']}x{m['hidden_size']} {m['cell']}, dropout {m['dropout']:g}"
        rows.append(
            f"| {settings} | {model} | {epochs:.3g} | {run['first']:.4f} | {run['held_out']:.4f} "
            f"| {run['seconds']:.0f} |"
        )
    return "\n".join(rows)


def plot(runs: list[dict[str, Any]], path: Path) -> None:
    """Draw the loss over each setting with several values, a line per choice of the others."""
    from matplotlib import pyplot as plt

    names = sorted({name for run in runs for name in run["asked"]})
    varied = [n for n in names if len({str(run["asked"].get(n)) for run in runs}) > 1]
    figure, panels = plt.subplots(1, max(1, len(varied)), sharey=True, squeeze=False)
    for name, panel in zip(varied, panels[0], strict=False):
        lines: dict[str, list[tuple[Any, float]]] = {}
        for run in runs:
            others = {k: v for k, v in run["asked"].items() if k != name}
            lines.setdefault(str(others), []).append((run["asked"][name], run["first"]))
        for points in lines.values():
            panel.plot(*zip(*sorted(points), strict=True), marker="o", color="0.3")
        panel.set_xlabel(name)
    panels[0][0].set_ylabel("nats per character, first four fifths of the validation part")
    figure.set_size_inches(4 * len(panels[0]), 4)
    figure.savefig(path, bbox_inches="tight")


def main() -> None:
    """Parse the options, train the missing combinations, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpus", type=Path)
    parser.add_argument("settings", nargs="*", metavar="NAME=VALUE[,VALUE]...")
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--epochs", type=float)
    parser.add_argument("--steps", type=int)
    parser.add_argument(
        "--characters", type=int, help="use only the first N characters", metavar="N"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--out", type=Path, default=Path("sweep.jsonl"))
    parser.add_argument("--plot", type=Path, help="PNG or SVG file to draw (needs matplotlib)")
    options = parser.parse_intermixed_args()
    check_settings(parser, options.settings)
    text = Text(options.corpus, options.characters)
    limits = {k: v for k in ("minutes", "epochs", "steps") if (v := getattr(options, k))}
    about = {"corpus": options.corpus.name, "characters": len(text.train)}
    wanted = list[dict[str, Any]]()
    for settings, seed in itertools.product(combinations(options.settings), options.seeds):
        wanted.append(about | {"asked": limits | settings | {"seed": seed}})
    for run in wanted:
        if any(run.items() <= done.items() for done in read_runs(options.out)):
            continue
        judged = asdict(text.judge(**run["asked"]))
        del judged["metrics"]
        with options.out.open("a", encoding="utf-8") as file:
            print(json.dumps(run | judged), file=file)
        print(f"{run['asked']}: {judged['first']:.4f}", flush=True)
    runs = [d for d in read_runs(options.out) if any(run.items() <= d.items() for run in wanted)]
    print(table(runs))
    if options.plot:
        plot(runs, options.plot)


if __name__ == "__main__":
    main()
