"""`charnn info`: what is in a checkpoint?"""

import json
import math
from typing import Any

import click

from charnn.cli.options import json_option, one_checkpoint, open_checkpoint, quiet_option
from charnn.cli.terminal import show
from charnn.runs.folder import read_run_info


@click.command("info", short_help="Tell what is in a checkpoint.")
@click.argument("checkpoint", nargs=-1, metavar="[CHECKPOINT]")
@json_option
@quiet_option
def command(checkpoint: tuple[str, ...], as_json: bool, quiet: bool) -> None:
    """Tell what is in a checkpoint: sizes, settings, figures, and the command that made it.

    CHECKPOINT is a run folder or a .safetensors file; without it, the newest run under
    ./checkpoints.

    \b
    Example:
      charnn info checkpoints/corpus --json
    """
    path = one_checkpoint(checkpoint, quiet)
    loaded = open_checkpoint(path, quiet)
    about: dict[str, Any] = {
        "checkpoint": str(path),
        "model": loaded.model.to_json(),
        "text": loaded.text.to_json(),
        "train": loaded.train.to_json(),
        "vocabulary": loaded.tokenizer.to_json(),
        "corpus": loaded.corpus.to_json(),
        "figures": loaded.figures.to_json(),
        "run": read_run_info(path.parent),
    }
    if as_json:
        click.echo(json.dumps(about, sort_keys=True))
        return
    for name, value in _lines(about):
        show(f"{name:<12} {value}")


def _lines(about: dict[str, Any]) -> list[tuple[str, str]]:
    model, train, corpus, figures = (about[k] for k in ("model", "train", "corpus", "figures"))
    nats = figures.get("val_nats_per_char")
    lines = [
        ("checkpoint", about["checkpoint"]),
        (
            "model",
            f"{model['num_layers']} x {model['hidden_size']} {model['cell']}, embedding "
            f"{model['embedding_size']}, {figures['parameters']:,} parameters",
        ),
        ("vocabulary", f"{model['vocabulary_size']} symbols ({about['vocabulary']['kind']})"),
        (
            "corpus",
            f"{corpus['characters']:,} characters, {corpus['train_characters']:,} of them for "
            f"training, sha256 {corpus['sha256'][:12]}…"
            + (f"; {corpus['records']:,} records" if corpus.get("records") else ""),
        ),
        ("training", f"step {figures['step']:,} of {train['steps']:,}, seed {train['seed']}"),
        (
            "settings",
            f"{train['batch_size']} lanes x {train['seq_len']}, learning rate "
            f"{train['learning_rate']:g} by {train['optimizer']}, weight decay "
            f"{train['weight_decay']:g}, dropout {model['dropout']:g}, clip {train['clip']:g}",
        ),
    ]
    if nats is not None:
        lines.append(
            ("validation", f"{nats:.4f} nats/char, {nats / math.log(2):.4f} bits/char (lanes)")
        )
    run = about["run"]
    if "command" in run:
        lines.append(("command", run["command"]))
    if "started" in run:
        lines.append(("started", run["started"]))
    return lines
