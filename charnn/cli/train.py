"""`charnn train`: a text becomes a model."""

import functools
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from charnn.cli.options import device_option, quiet_option, settings, tell
from charnn.config import DEFAULT_MINUTES, ModelConfig, TextConfig, TrainConfig
from charnn.errors import SettingError
from charnn.folder import LAST, find_runs, free_folder, run_name, runs_called

if TYPE_CHECKING:
    from charnn.training.run import Run

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
@click.option(
    "--resume",
    is_flag=True,
    help="Go on with a run, with its settings: --out, or the newest of CORPUS.",
)
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
        if options["val"] and not options["corpus"]:
            raise click.UsageError("--val on a resumed run needs the CORPUS too")
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
    unit = "bytes" if text.tokenizer == "byte" else "characters"
    say(
        f"text: {len(corpus.train):,} {unit} to train on, {len(corpus.validation):,} to validate; "
        f"{corpus.tokenizer.vocabulary_size:,} symbols"
    )
    if budget["minutes"] is not None:
        say(f"timing this machine ({device}) for a few seconds")
    folder = options["out"] or free_folder(run_name(options["corpus"]))
    run, why = begin(
        corpus,
        text,
        folder,
        budget,
        given,
        options["seed"],
        device,
        shlex.join(["charnn", *sys.argv[1:]]),
    )
    lanes, usual = run.batches.batch_size, lanes_and_window(len(corpus.train))[0]
    if lanes < (asked := options["batch_size"] or usual):
        room = f"{lanes} lane{'s' * (lanes > 1)} of {run.batches.seq_len}"
        say(f"note: the text has room for {room} characters, not for {asked}")
    if options["seed"] is None:
        say(f"seed: {run.train.seed}")
    say(f"plan: {why}")
    say(f"run: {folder}")
    return run


def _resumed(options: dict[str, Any]) -> "Run":
    from charnn import checkpoint
    from charnn.device import pick_device
    from charnn.training.origin import reopen_corpus, update_about
    from charnn.training.run import Run

    named = options["corpus"]
    runs = [] if options["out"] else runs_called(run_name(named)) if named else find_runs()
    if not runs and not options["out"]:
        raise SettingError("no such run under ./checkpoints to go on with; name one with --out")
    folder = options["out"] or runs[0]
    if not (folder / LAST).exists():
        raise SettingError(
            f"{folder}: no {LAST} in it to go on from; begin again with another --out"
        )
    last = checkpoint.load(folder / LAST)
    corpus = reopen_corpus(folder, last, options["corpus"], options["val"])
    if options["corpus"]:
        update_about(folder, corpus)
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
