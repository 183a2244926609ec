"""`charnn runs`: which runs are there?"""

from datetime import datetime

import click

from charnn.cli.options import quiet_option, tell
from charnn.errors import CharnnError
from charnn.folder import RUNS, best_of, find_runs


@click.command("runs", short_help="List the runs under ./checkpoints.")
@quiet_option
def command(quiet: bool) -> None:
    """List the runs under ./checkpoints, newest first, a line each.

    \b
    Example:
      charnn runs
    """
    runs = find_runs()
    if not runs:
        tell(f"no run under ./{RUNS}; begin with `charnn train TEXT`", quiet)
        return

    from charnn import checkpoint

    width = max(len(str(folder)) for folder in runs)
    for folder in runs:
        path = best_of(folder)
        changed = datetime.fromtimestamp(path.stat().st_mtime).strftime("%Y-%m-%d %H:%M")
        try:
            loaded = checkpoint.load(path)
        except CharnnError as error:
            click.echo(f"{folder!s:<{width}}  {changed}  {error}")
            continue
        nats = loaded.figures.get("val_nats_per_char")
        model = loaded.model
        size = f"{model.num_layers} x {model.hidden_size} {model.cell}"
        figure = "not validated" if nats is None else f"{nats:.4f} nats/char"
        step = loaded.figures["step"]
        click.echo(f"{folder!s:<{width}}  {changed}  {size:<13}  step {step:>9,}  {figure}")
