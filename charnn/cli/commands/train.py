"""`charnn train`: a text becomes a model."""

import contextlib
import functools
import math
import shlex
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from charnn.cli.checkpoints import open_checkpoint
from charnn.cli.help import Command, option
from charnn.cli.options import AUTO, device_option, quiet_option, settings
from charnn.cli.terminal import status
from charnn.cli.types import Run as RunType
from charnn.cli.types import TextFile
from charnn.config import DEFAULT_MINUTES, ModelConfig, TextConfig, TrainConfig, ValidationConfig
from charnn.errors import SettingError
from charnn.runs.folder import find_runs, run_name, runs_named, unused_folder

if TYPE_CHECKING:
    import torch

    from charnn.runs.run import Run
    from charnn.text.corpus import Corpus
    from charnn.training.distributed import World
    from charnn.training.plan import Budget, Plan

MODEL = ("cell", "hidden_size", "num_layers", "embedding_size", "dropout")
TRAIN = (
    "learning_rate", "batch_size", "seq_len", "optimizer", "weight_decay", "clip", "precision",
    "deterministic", "max_rollbacks",
)  # fmt: skip
VALIDATION = ("val_every", "patience")
TEXT = ("lines", "tokenizer", "encoding", "min_count", "keep_newlines", "val_fraction")
BUDGET = ("minutes", "epochs", "steps")
ALLOWED_ON_RESUME = (
    *BUDGET, "corpus", "val", "out", "resume", "device", "quiet", "save_every", "patience",
    "force", "threads",
)  # fmt: skip
NOT_WITH_WEIGHTS = ("cell", "hidden_size", "num_layers", "embedding_size", "tokenizer")


@click.command("train", cls=Command)
@click.argument("corpus", nargs=-1, metavar="[CORPUS]...", type=TextFile())
@option(
    "--minutes", type=click.FloatRange(min=0, min_open=True), metavar="MINUTES", group="Budget",
    help="Time to train.", notes=f"default: {DEFAULT_MINUTES:g}",
)  # fmt: skip
@option(
    "--epochs", type=click.FloatRange(min=0, min_open=True), metavar="X", group="Budget",
    help="Passes over the text, instead of --minutes.",
)  # fmt: skip
@settings(TrainConfig, "steps", group="Budget")
@settings(TextConfig, *TEXT[:1], group="Text")
@option(
    "--val", multiple=True, metavar="FILE", type=TextFile(), group="Text",
    help="Validate on this text, not on the end of CORPUS. Repeatable.",
)  # fmt: skip
@settings(TextConfig, *TEXT[1:], group="Text", rare=True)
@settings(ModelConfig, *MODEL[:3], group="Model", chosen=AUTO)
@settings(ModelConfig, *MODEL[3:], group="Model", rare=True, chosen=AUTO)
@settings(TrainConfig, *TRAIN[:3], group="Training", chosen=AUTO)
@settings(TrainConfig, "seed", group="Training", chosen="random")
@settings(TrainConfig, *TRAIN[3:], group="Training", rare=True, chosen=AUTO)
@settings(ValidationConfig, *VALIDATION, group="Training", rare=True, chosen=AUTO)
@option(
    "--out", type=click.Path(path_type=Path), metavar="FOLDER", group="Run",
    help="Run folder.", notes="default: checkpoints/<name>",
)  # fmt: skip
@option(
    "--resume", is_flag=True, group="Run",
    help="Continue the run in --out, or the newest of CORPUS. It keeps its settings. Give a larger "
    "total budget to extend it.",
)  # fmt: skip
@option(
    "--init-from", metavar="RUN", type=RunType(), group="Run",
    help="Start with the weights and sizes of this run. Characters that both vocabularies have "
    "keep their embeddings.",
)  # fmt: skip
@option(
    "--dry-run", is_flag=True, group="Run",
    help="Print the plan, its memory and its time, and exit.",
)  # fmt: skip
@option(
    "--save-every", type=click.FloatRange(min=0), metavar="MINUTES", group="Run", rare=True,
    help="Time between two saves of the newest state.",
    notes="default: 1, or more where saving is slow",
)  # fmt: skip
@option(
    "--force", is_flag=True, group="Run", rare=True,
    help="Start even if the memory may not be enough.",
)  # fmt: skip
@device_option
@option(
    "--threads", type=click.IntRange(min=1, max=1024), metavar="N", group="General", rare=True,
    help="CPU threads. A resumed run keeps its number.",
    notes="default: all, or 1 where that is faster",
)  # fmt: skip
@quiet_option
@click.pass_context
def command(context: click.Context, /, **options: Any) -> None:
    """Train a model on a text, and keep its best and its newest state.

    CORPUS is files, folders or globs, or - for stdin; without it, Python's language
    reference. Options marked [default: auto] are chosen from the text, the machine
    and the budget.

    \b
    Examples:
      charnn train corpus.txt --minutes 5
      charnn train names.txt --lines             # learn a list, a name per line
      charnn train --resume                      # continue the newest run
      charnn train more.txt --init-from corpus   # start from a trained model

    \f
    Files that end in .gz, .bz2 or .xz are unpacked. Several files are joined in order,
    with a newline between them. The run folder is checkpoints/<name>, named after the
    first file; it holds best.safetensors, last.safetensors, metrics.jsonl and run.json.
    The path of the best checkpoint is printed on stdout.

    At SIGINT (Ctrl-C), SIGTERM or SIGHUP the run is saved after its current step, and
    --resume continues it exactly where it stopped. At a second signal it exits at once.
    """
    if sum(options[name] is not None for name in BUDGET) > 1:
        raise click.UsageError("give one of --minutes, --epochs and --steps")
    if options["resume"]:
        if options["val"] and not options["corpus"]:
            raise click.UsageError("--val on a resumed run needs the CORPUS too")
        _refuse(context, [name for name in options if name not in ALLOWED_ON_RESUME], _KEEPS)
    if options["init_from"]:
        _refuse(context, NOT_WITH_WEIGHTS, "with --init-from it is that run's; leave it out")

    from charnn.device import idle_card, pick_device
    from charnn.training.distributed import local_device, process_group, world_from_environment

    world = world_from_environment()
    if world.size > 1 and "-" in (*options["corpus"], *options["val"]):
        raise click.UsageError("several processes cannot share standard input; name a file")
    options["quiet"] |= not world.is_main
    device = pick_device(local_device(options["device"]))
    if options["device"] == "auto" and (note := idle_card()):
        status(f"note: {note}", options["quiet"])
    with process_group(world, device):
        code = _trained(options, device, world)
    context.exit(code)


def _trained(options: dict[str, Any], device: "torch.device", world: "World") -> int:
    """The exit code. A function of its own, so that nothing of the run outlives the world."""
    from charnn.cli.progress import follow

    with (_resumed if options["resume"] else _begun)(options, device, world) as run:
        if run is None:
            return 0
        if run.finished:
            status(
                f"{run.folder}: finished already, after {run.state.step:,} steps", options["quiet"]
            )
        return follow(run, options["quiet"])


_KEEPS = "a resumed run keeps its settings; leave it out or begin a new run"


def _refuse(context: click.Context, names: Iterable[str], why: str) -> None:
    """A setting that was typed and would silently be ignored."""
    typed = [
        "--" + name.replace("_", "-")
        for name in names
        if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
    ]
    if typed:
        raise click.UsageError(f"{', '.join(typed)}: {why}")


@contextlib.contextmanager
def _begun(
    options: dict[str, Any], device: "torch.device", world: "World"
) -> Iterator["Run | None"]:
    """A new run; None where it was only asked what it would be."""
    given = {
        name: options[name]
        for name in (*MODEL, *TRAIN, *VALIDATION)
        if options[name] not in (None, AUTO) and options[name] is not False
    }
    text = TextConfig(**{name: options[name] for name in TEXT})
    limits = {name: options[name] for name in BUDGET}
    if all(value is None for value in limits.values()):
        limits["minutes"] = DEFAULT_MINUTES

    from charnn.cli.progress import tell_plan
    from charnn.runs.start import (
        begin,
        check_same_text,
        create_run_folder,
        plan_run,
        refuse_existing,
    )
    from charnn.training.init_from import vocabulary_changes
    from charnn.training.plan import Budget

    if options["out"] is not None:
        refuse_existing(options["out"])
    say = functools.partial(status, quiet=options["quiet"])
    budget = Budget(**limits)
    trained = options["init_from"] and open_checkpoint(options["init_from"])
    text = text if trained is None else replace(text, tokenizer=trained.text.tokenizer)
    corpus = world.local_main_first(lambda: _corpus(options, text))
    check_same_text(corpus, world)
    for note in [] if trained is None else vocabulary_changes(trained.tokenizer, corpus.tokenizer):
        say(f"note: {note}")
    if budget.minutes is not None:
        say(f"timing this machine ({device}) for a few seconds")
        if world.size > 1:
            say("note: what the processes send each other is not timed; it adds to the minutes")
    force = options["force"] or (options["dry_run"] and budget.minutes is None)
    plan = functools.partial(
        plan_run, corpus, budget, given, options["seed"], device, trained, force, world,
        options["threads"] or 0,
    )  # fmt: skip
    if options["dry_run"]:
        chosen = plan()
        if world.is_main:
            _tell_dry_run(chosen, budget, corpus, device, world.size)
        yield None
        return
    folder = world.broadcast(lambda: options["out"] or unused_folder(run_name(options["corpus"])))
    with create_run_folder(folder, world):
        chosen = plan()
        command, every = shlex.join(["charnn", *sys.argv[1:]]), _seconds(options["save_every"])
        run = begin(folder, corpus, text, chosen, budget, device, command, every, trained, world)
        tell_plan(run, chosen, options["batch_size"], options["seed"] is None, options["quiet"])
        yield run


def _corpus(options: dict[str, Any], text: TextConfig) -> "Corpus":
    """The text to learn."""
    from charnn.cli.progress import tell_notes
    from charnn.text.corpus import open_corpus
    from charnn.text.records import Records

    corpus = open_corpus(options["corpus"], text, val=options["val"])
    tell_notes(corpus, options["quiet"])
    unit = "bytes" if text.tokenizer == "byte" else "characters"
    sizes = [len(part) for part in (corpus.train, corpus.validation)]
    if isinstance(corpus.train, Records) and isinstance(corpus.validation, Records):
        unit = "records"
        sizes = [corpus.train.count, corpus.validation.count]
    status(
        f"text: {sizes[0]:,} {unit} to train on, {sizes[1]:,} to validate; "
        f"{corpus.tokenizer.vocabulary_size:,} symbols",
        options["quiet"],
    )
    return corpus


def _tell_dry_run(
    plan: "Plan", budget: "Budget", corpus: "Corpus", device: "torch.device", processes: int
) -> None:
    """On stdout, because here it is the product."""
    from charnn.cli.progress import spoken
    from charnn.runs.start import memory_of_one
    from charnn.training.memory import advice, estimate, parameters, readable
    from charnn.training.speed import SpeedTest

    share = replace(plan.train, batch_size=max(1, plan.train.batch_size // processes))
    needed, there = estimate(plan.model, share, device.type == "cpu"), memory_of_one(device)
    of = f" of {readable(there)} that are free" if math.isfinite(there) else ""
    if budget.minutes is not None:
        time = f"{spoken(60 * budget.minutes)} at most, as asked"
    elif needed > there:
        time = f"not measured; {advice(plan.model, plan.train)}"
    else:
        speed_test = SpeedTest(corpus.train, device, processes)
        speed = speed_test.measure(plan.model, plan.train, 1.0)
        time = f"about {spoken(plan.train.steps * speed.step)} on {device}, validations aside"
    for name, value in (
        ("plan", plan.why),
        ("parameters", f"{parameters(plan.model):,}"),
        ("memory", f"about {readable(needed)}{of}"),
        ("time", time),
        *(pair for c in (plan.model, plan.train, plan.validation) for pair in c.to_json().items()),
    ):
        click.echo(f"{name:<16} {value}")


@contextlib.contextmanager
def _resumed(options: dict[str, Any], device: "torch.device", world: "World") -> Iterator["Run"]:
    from charnn.runs.start import resumed
    from charnn.training.plan import Budget

    named = options["corpus"]
    runs = [] if options["out"] else runs_named(run_name(named)) if named else find_runs()
    if not runs and not options["out"]:
        raise SettingError("no such run under ./checkpoints to go on with; name one with --out")
    limits = {name: options[name] for name in BUDGET}
    with resumed(
        options["out"] or runs[0],
        device,
        texts=named,
        val=options["val"],
        budget=Budget(**limits) if any(limits.values()) else None,
        patience=options["patience"],
        save_every=_seconds(options["save_every"]),
        force=options["force"],
        world=world,
        threads=options["threads"] or 0,
    ) as (run, notes):
        for note in notes:
            status(f"note: {note}", options["quiet"])
        steps = f"from step {run.state.step:,} of {run.train.steps:,}"
        status(f"run: {run.folder}, {steps}", options["quiet"])
        yield run


def _seconds(minutes: float | None) -> float | None:
    return None if minutes is None else 60 * minutes
