"""`charnn plot`: draw the learning curves of runs."""

from pathlib import Path

import click

from charnn.cli.checkpoints import newest_run
from charnn.cli.columns import screen_columns
from charnn.cli.help import Command, option
from charnn.cli.options import quiet_option
from charnn.cli.terminal import escaped, show, show_path, status
from charnn.cli.types import OutPath, Run
from charnn.errors import CheckpointError
from charnn.runs.folder import METRICS, is_run


@click.command("plot", cls=Command)
@click.argument("runs", nargs=-1, metavar="[RUN]...", type=Run())
@option(
    "--out", type=OutPath(), metavar="FILE", group="Output",
    help="Picture to draw, .png or .svg.",
    notes="default: <name of the run>.png, or runs.png for several",
)  # fmt: skip
@option("--force", is_flag=True, group="Output", help="Replace an existing picture.")
@option(
    "--text", "as_text", is_flag=True, group="Output",
    help="Draw the losses in the terminal instead.",
)  # fmt: skip
@quiet_option
def command(runs: tuple[Path, ...], out: Path | None, force: bool, as_text: bool) -> None:
    """Draw the learning curves of one or more runs: training and validation loss in nats
    and bits per character, learning rate, and gradient norm before clipping.

    RUN is a run's name or folder; without it, the newest run. The picture also works in
    black and white: runs differ in line style and shade.

    \b
    Examples:
      charnn plot corpus --out curves.svg
      charnn plot corpus corpus-2 --text
    """
    if as_text and (out is not None or force):
        raise click.UsageError("--text cannot be combined with --out or --force")
    folders = [_folder(path) for path in runs] or [newest_run()]

    from charnn.insight import curves, plot

    picture = Path("runs.png" if len(folders) > 1 else f"{folders[0].resolve().name or 'run'}.png")
    picture = out or picture
    if not as_text:
        plot.check_picture(picture, force, "--text draws in the terminal without it")
    found = [curves.read_curves(folder, name) for folder, name in _named(folders).items()]
    if not as_text:
        plot.draw_curves(picture, found)
        show_path(picture)
        return
    status("nats/char by step; line: training (running mean), o: validation")
    for line in curves.as_text(found, min(64, screen_columns() - 10)):
        show(line)


def _folder(path: Path) -> Path:
    """Return the run folder that a path names: the folder itself, or that of a checkpoint file.

    A run that has just begun has metrics but no checkpoint yet.
    """
    folder = path.parent if path.suffix == ".safetensors" else path
    if not (is_run(folder) or (folder / METRICS).exists()):
        raise CheckpointError(f"{path}: not a run folder; `charnn runs` lists the runs")
    return folder


def _named(folders: list[Path]) -> dict[Path, str]:
    """Return the folders without duplicates, each with its name, or its path if names clash."""
    names = [folder.resolve().name for folder in dict.fromkeys(folders)]
    return {
        folder: escaped(name if names.count(name) == 1 else str(folder))
        for folder, name in zip(dict.fromkeys(folders), names, strict=True)
    }
