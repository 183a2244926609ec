"""`charnn info`: show what is in a checkpoint."""

import json
from typing import TYPE_CHECKING, Any

import click

from charnn.cli.checkpoints import one_checkpoint, open_checkpoint
from charnn.cli.figures import measured_on
from charnn.cli.help import Command
from charnn.cli.options import json_option, quiet_option
from charnn.cli.terminal import show
from charnn.cli.types import Checkpoint
from charnn.runs.folder import read_run_info
from charnn.words import loss, plural

if TYPE_CHECKING:
    from charnn.text.tokenizer import Tokenizer


@click.command("info", cls=Command)
@click.argument("checkpoint", nargs=-1, metavar="[CHECKPOINT]", type=Checkpoint())
@json_option
@quiet_option
def command(checkpoint: tuple[str, ...], as_json: bool) -> None:
    """Show what is in a checkpoint: sizes, settings, results, and the command that made it.

    CHECKPOINT is a run's name, a run folder or a .safetensors file; without it, the
    newest run.

    \b
    Examples:
      charnn info corpus
      charnn info checkpoints/corpus/last.safetensors --json
    """
    path = one_checkpoint(checkpoint)
    loaded = open_checkpoint(path)
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
    for name, value in _lines(about, loaded.tokenizer):
        show(f"{name:<12} {value}")


def _lines(about: dict[str, Any], tokenizer: "Tokenizer") -> list[tuple[str, str]]:
    """Return the most important of it as names and texts."""
    model, train, corpus, figures = (about[k] for k in ("model", "train", "corpus", "figures"))
    full = figures.get("full_val_nats_per_char")
    nats = figures.get("val_nats_per_char") if full is None else full
    lines = [
        ("checkpoint", about["checkpoint"]),
        (
            "model",
            f"{model['num_layers']} x {model['hidden_size']} {model['cell']}, embedding "
            f"{model['embedding_size']}, {figures['parameters']:,} parameters",
        ),
        ("vocabulary", f"{model['vocabulary_size']:,} symbols ({about['vocabulary']['kind']})"),
        (
            "corpus",
            f"{plural(corpus['characters'], tokenizer.noun)}, {corpus['train_characters']:,} of "
            f"them for training, sha256 {corpus['sha256'][:12]}…"
            + (f"; {plural(corpus['records'], 'record')}" if corpus.get("records") else ""),
        ),
        ("training", f"step {figures['step']:,} of {train['steps']:,}, seed {train['seed']}"),
        (
            "settings",
            f"batch size {train['batch_size']}, sequence length {train['seq_len']}, learning rate "
            f"{train['learning_rate']:g}, optimizer {train['optimizer']}, weight decay "
            f"{train['weight_decay']:g}, dropout {model['dropout']:g}, clip {train['clip']:g}",
        ),
    ]
    if nats is not None:
        lines.append(
            (
                "validation",
                f"{loss(nats, tokenizer.unit, corpus['bytes_per_char'])} "
                f"{measured_on(full is not None, about['text']['lines'])}"
                + ("" if about["text"]["lines"] else "; `charnn eval` reads it in one pass"),
            )
        )
    run = about["run"]
    if "command" in run:
        lines.append(("command", run["command"]))
    if "started" in run:
        lines.append(("started", run["started"]))
    return lines
