"""`charnn runs`: list the runs under ./checkpoints."""

import json
import sys
import textwrap
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from charnn.cli.checkpoints import run_argument
from charnn.cli.columns import columns, padded, screen_columns
from charnn.cli.help import Command
from charnn.cli.options import json_option, quiet_option
from charnn.cli.terminal import escaped, show, status
from charnn.errors import CharnnError
from charnn.files import explained
from charnn.runs.find import find_runs
from charnn.runs.folder import BEST, LAST, RUNS, best_checkpoint

FACTS = (
    "checkpoint", "saved", "cell", "num_layers", "hidden_size", "step", "steps", "unit",
    "nats_per_unit", "on_sample", "bytes_per_char", "problem",
)  # fmt: skip


@click.command("runs", cls=Command)
@json_option
@quiet_option
def command(as_json: bool) -> None:
    """List the runs under ./checkpoints, newest first.

    Each line shows when the run was last saved, its model, how far it has come and its
    best validation loss: ~ marks one that was measured on a sample of the validation
    text. Other commands take a run by its name.

    \b
    Example:
      charnn runs
    """
    runs = [_facts(folder) for folder in find_runs()]
    if as_json:
        click.echo(json.dumps(runs))
        return
    if not runs:
        status(f"no runs under ./{RUNS}; start with `charnn train TEXT`")
        return
    names, facts = [escaped(run["run"]) for run in runs], [_line(run) for run in runs]
    width, across = max(map(columns, names)), screen_columns()
    fits = not sys.stdout.isatty() or width + 2 + max(map(columns, facts)) <= across
    for name, line in zip(names, facts, strict=True):
        if fits:
            show(f"{padded(name, width)}  {line}")
            continue
        show(name)
        for part in textwrap.wrap(" ".join(line.split()), across - 2):
            show(f"  {part}")


def _facts(folder: Path) -> dict[str, Any]:
    """Return what is known of a run; see docs/formats.md."""
    from charnn import checkpoint

    facts: dict[str, Any] = {"run": str(folder)} | dict.fromkeys(FACTS)
    try:
        path = best_checkpoint(folder)
        with explained(f"looking at {path}", "is it being deleted?"):
            saved = path.stat().st_mtime
        best = checkpoint.load(path, weights=False)
        last = folder / LAST
        newest = checkpoint.load(last, weights=False) if last.exists() else best
    except CharnnError as error:
        return facts | {"problem": _problem(folder, error)}
    lost = path == last and newest.run is not None and newest.run.validations.best_step > 0
    return facts | {
        "problem": f"{BEST} is missing" if lost else None,
        "checkpoint": str(path),
        "saved": saved,
        "cell": best.model.cell,
        "num_layers": best.model.num_layers,
        "hidden_size": best.model.hidden_size,
        "step": newest.figures.step,
        "steps": newest.train.steps,
        "unit": best.tokenizer.unit,
        "nats_per_unit": best.figures.nats_per_char,
        "on_sample": best.figures.full_val_nats_per_char is None,
        "bytes_per_char": best.corpus.bytes_per_char,
    }


def _problem(folder: Path, error: CharnnError) -> str:
    """Return what is wrong with a run, for its row: without its path and the advice."""
    text = str(error).removeprefix(f"{folder}/")
    return text.rpartition("; ")[0] or text


def _date(seconds: float) -> str:
    """Return a time for a row; a file can have one that no calendar knows."""
    try:
        return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M")
    except (ValueError, OverflowError, OSError):
        return "without a date  "


def _line(run: dict[str, Any]) -> str:
    """Return when the run was saved, its model, how far it has come and how good it is."""
    if run["checkpoint"] is None:
        return str(run["problem"])
    size = f"{run['num_layers']} x {run['hidden_size']} {run['cell']}"
    steps = f"{run['step']:,}/{run['steps']:,}"
    return f"{_date(run['saved'])}  {size:<13}  step {steps:>17}  {_figure(run)}"


def _figure(run: dict[str, Any]) -> str:
    """Return how good a run's best model is, or why that is not known."""
    if run["problem"] is not None:
        return f"best missing; `charnn check {run_argument(Path(run['run']))}`"
    nats, per_char = run["nats_per_unit"], run["bytes_per_char"]
    if nats is None:
        return "not validated"
    mark = "~" if run["on_sample"] else ""
    per_unit = f"{mark}{nats:.4f} nats/{run['unit']}"
    return per_unit if per_char is None else f"{per_unit} ({mark}{nats * per_char:.4f} nats/char)"
