"""`charnn train`: a text becomes a model."""

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from charnn.cli.options import device_option, quiet_option, settings, tell
from charnn.config import ModelConfig, TextConfig, TrainConfig
from charnn.errors import SettingError
from charnn.folder import LAST, find_runs, free_folder

if TYPE_CHECKING:
    from charnn.training.run import Run

DEFAULT_MINUTES = 5.0
MODEL = ("cell", "hidden_size", "num_layers", "embedding_size", "dropout")
TRAIN = ("seq_len", "batch_size", "learning_rate", "clip", "patience")
TEXT = ("tokenizer", "encoding", "min_count", "keep_newlines", "val_fraction")
ALLOWED_ON_RESUME = ("corpus", "val", "out", "resume", "device", "quiet")


@click.command("train", short_help="Train a model on a text.")
@click.argument("corpus", nargs=-1, metavar="[CORPUS]...")
@click.option(
    "--minutes", type=click.FloatRange(min=0, min_open=True), help="Time to train.  [default: 5]"
)
@click.option(
    "--epochs", type=click.FloatRange(min=0, min_open=True), help="Readings of the text, instead."
)
@settings(TrainConfig, "steps")
@click.option(
    "--out", type=click.Path(path_type=Path), help="Run folder.  [default: checkpoints/<name>]"
)
@click.option("--resume", is_flag=True, help="Go on with the run in --out, with its settings.")
@click.option("--val", multiple=True, metavar="FILE", help="Validate on this text instead.")
@settings(ModelConfig, *MODEL, chosen="chosen")
@settings(TrainConfig, *TRAIN, chosen="chosen")
@settings(TrainConfig, "seed", chosen="drawn")
@settings(TextConfig, *TEXT)
@device_option
@quiet_option
@click.pass_context
def command(context: click.Context, /, **options: Any) -> None:
    """Train a model on a text, and keep its best and its last state in a run folder.

    CORPUS is one or several files, folders, globs, `-` for stdin; .gz, .bz2 and .xz are unpacked.
    Without it the model learns Python's language reference, which every Python carries. What is
    marked [chosen] follows from the text, the machine and the budget.

    \b
    Example:
      charnn train corpus.txt --minutes 5
      charnn train --out checkpoints/corpus --resume
    """
    from charnn.cli.story import follow

    if options["resume"]:
        _refuse_changes(context)
        run = _resumed(options)
    else:
        run = _begun(options)
    if run.finished:
        tell(f"{run.folder}: finished already, after {run.state.step:,} steps", options["quiet"])
    follow(run, options["quiet"])


def _begun(options: dict[str, Any]) -> "Run":
    given = {name: options[name] for name in (*MODEL, *TRAIN) if options[name] is not None}
    budget = {name: options[name] for name in ("minutes", "epochs", "steps")}
    if all(value is None for value in budget.values()):
        budget["minutes"] = DEFAULT_MINUTES
    if sum(value is not None for value in budget.values()) > 1:
        raise click.UsageError("give one of --minutes, --epochs and --steps")
    if options["out"] is not None and options["out"].exists():
        raise SettingError(
            f"{options['out']}: exists already; --resume goes on with it, another --out begins anew"
        )
    text = TextConfig(**{name: options[name] for name in TEXT})

    from charnn.api import begin
    from charnn.cli.story import tell_notes
    from charnn.device import pick_device
    from charnn.text.corpus import open_corpus
    from charnn.training.plan import lanes_and_window

    say = functools.partial(tell, quiet=options["quiet"])
    device = pick_device(options["device"])
    corpus = open_corpus(options["corpus"], text, val=options["val"])
    tell_notes(corpus, options["quiet"])
    say(
        f"text: {len(corpus.indices):,} characters, the last {len(corpus.validation):,} of them "
        f"validate; {corpus.tokenizer.vocabulary_size:,} symbols"
    )
    if budget["minutes"] is not None:
        say(f"timing this machine ({device}) for a few seconds")
    folder = options["out"] or free_folder(_name(options["corpus"]))
    run, why = begin(corpus, text, folder, budget, given, options["seed"], device)
    lanes, asked = (
        run.batches.batch_size,
        options["batch_size"] or lanes_and_window(len(corpus.train))[0],
    )
    if lanes < asked:
        say(f"note: the text has room for {lanes} lanes of {run.batches.seq_len}, not {asked}")
    if options["seed"] is None:
        say(f"seed: {run.train.seed}")
    say(f"plan: {why}")
    say(f"run: {folder}")
    return run


def _resumed(options: dict[str, Any]) -> "Run":
    from charnn import checkpoint
    from charnn.device import pick_device
    from charnn.training.origin import reopen_corpus
    from charnn.training.run import Run

    folder = options["out"] or next(iter(find_runs()), None)
    if folder is None:
        raise SettingError("no run under ./checkpoints to go on with; name one with --out")
    if not (folder / LAST).exists():
        raise SettingError(
            f"{folder}: no {LAST} in it to go on from; begin again with another --out"
        )
    last = checkpoint.load(folder / LAST)
    corpus = reopen_corpus(folder, last, options["corpus"], options["val"])
    run = Run.resume(folder, last, corpus, pick_device(options["device"]))
    tell(f"run: {folder}, from step {run.state.step:,} of {run.train.steps:,}", options["quiet"])
    return run


def _refuse_changes(context: click.Context) -> None:
    """A resumed run keeps its settings; one that was typed would silently be ignored."""
    typed = [
        "--" + name.replace("_", "-")
        for name in context.params
        if name not in ALLOWED_ON_RESUME
        and context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
    ]
    if typed:
        raise click.UsageError(
            f"{', '.join(typed)}: a resumed run keeps its settings; leave it out or begin a new run"
        )


def _name(corpus: tuple[str, ...]) -> str:
    name = Path(corpus[0]).name.split(".")[0] if corpus else "demo"
    return "text" if name in ("", "-") or any(c in name for c in "*?[") else name
