"""`charnn runs`: list the runs under ./checkpoints."""

from datetime import datetime
from pathlib import Path

import click

from charnn.cli.help import Command
from charnn.cli.options import quiet_option
from charnn.cli.terminal import show, status
from charnn.errors import CharnnError
from charnn.files import explained
from charnn.runs.find import find_runs
from charnn.runs.folder import LAST, RUNS, best_checkpoint


@click.command("runs", cls=Command)
@quiet_option
def command() -> None:
    """List the runs under ./checkpoints, newest first.

    Each line shows when the run was last saved, its model, how far it has come and its
    best validation loss. Other commands take a run by its name.

    \b
    Example:
      charnn runs
    """
    runs = find_runs()
    if not runs:
        status(f"no runs under ./{RUNS}; start with `charnn train TEXT`")
        return

    width = max(len(str(folder)) for folder in runs)
    for folder in runs:
        try:
            line = _line(folder)
        except CharnnError as error:
            line = _problem(folder, error)
        show(f"{folder!s:<{width}}  {line}")


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


def _line(folder: Path) -> str:
    """Return when the run was saved, its model, how far it has come and how good it is."""
    from charnn import checkpoint

    path = best_checkpoint(folder)
    with explained(f"looking at {path}", "is it being deleted?"):
        changed = _date(path.stat().st_mtime)
    best = checkpoint.load(path, weights=False)
    last = folder / LAST
    newest = checkpoint.load(last, weights=False) if last.exists() else best
    model, nats = best.model, best.figures.nats_per_char
    size = f"{model.num_layers} x {model.hidden_size} {model.cell}"
    steps = f"{newest.figures.step:,}/{newest.train.steps:,}"
    figure = "not validated" if nats is None else f"{nats:.4f} nats/{best.tokenizer.unit}"
    if nats is not None and (per_char := best.corpus.bytes_per_char) is not None:
        figure += f" ({nats * per_char:.4f} nats/char)"
    return f"{changed}  {size:<13}  step {steps:>17}  {figure}"
