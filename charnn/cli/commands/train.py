"""`charnn train`: train a model on a text."""

import math
import shlex
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from charnn.cli.checkpoints import named_run, no_runs
from charnn.cli.help import Command, option
from charnn.cli.options import AUTO, device_option, flag, quiet_option, settings
from charnn.cli.terminal import set_quiet, settings_as_options, show
from charnn.cli.types import MOST, OutPath, Real, TextFile, Whole
from charnn.cli.types import Run as RunType
from charnn.config import (
    DEFAULT_MINUTES,
    MAX_THREADS,
    ModelConfig,
    TextConfig,
    TrainConfig,
    ValidationConfig,
)
from charnn.errors import SettingError, text_named_by
from charnn.runs.find import find_run, find_runs, runs_of, shown
from charnn.runs.folder import RUNS, exists, is_run, is_state, read_run_info
from charnn.words import listed

if TYPE_CHECKING:
    import torch

    from charnn.runs.resume import ResumeRequest
    from charnn.runs.start import DryRun, RunRequest
    from charnn.training.distributed import World
    from charnn.training.plan import Budget

MODEL = ("cell", "hidden_size", "num_layers", "embedding_size", "dropout")
TRAIN = (
    "learning_rate", "batch_size", "seq_len", "optimizer", "weight_decay", "clip", "precision",
    "deterministic", "max_rollbacks",
)  # fmt: skip
VALIDATION = ("val_every", "patience")
TEXT = (
    "lines",
    "tokenizer",
    "encoding",
    "encoding_errors",
    "min_count",
    "keep_newlines",
    "val_fraction",
)
BUDGET = ("minutes", "epochs", "steps")
ALLOWED_ON_RESUME = (
    *BUDGET, "corpus", "val", "out", "resume", "device", "save_every", "keep", "patience",
    "force", "threads",
)  # fmt: skip
NOT_WITH_BYTES = ("encoding", "encoding_errors", "min_count")
NOT_WITH_WEIGHTS = ("cell", "hidden_size", "num_layers", "embedding_size", "tokenizer")


@click.command("train", cls=Command)
@click.argument("corpus", nargs=-1, metavar="[CORPUS]...", type=TextFile())
@option(
    "--minutes", type=Real(above=0, high=MOST), metavar="MINUTES", group="Budget",
    help="Time to train.", notes=f"default: {DEFAULT_MINUTES:g}",
)  # fmt: skip
@option(
    "--epochs", type=Real(above=0, high=MOST), metavar="X", group="Budget",
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
    "--out", type=OutPath(), metavar="FOLDER", group="Run",
    help="Run folder.", notes="default: checkpoints/<name>",
)  # fmt: skip
@option(
    "--resume", is_flag=True, group="Run",
    help="Continue the run in --out, or of CORPUS. CORPUS is a run's name, or a text, whose newest "
    "run continues. Give a larger total budget to extend it.",
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
    "--save-every", type=Real(0, MOST), metavar="MINUTES", group="Run", rare=True,
    help="Time between two saves of the newest state.",
    notes="default: 1, or more where saving is slow",
)  # fmt: skip
@option(
    "--keep", type=Whole(0), metavar="N", default=0, group="Run", rare=True,
    help="Keep the newest N saves too, each in a file named after its step. To go back to one, "
    "name it with --out and --resume.",
)  # fmt: skip
@option(
    "--force", is_flag=True, group="Run", rare=True,
    help="Start even if the memory may not be enough.",
)  # fmt: skip
@device_option
@option(
    "--threads", type=Whole(1, MAX_THREADS), metavar="N", group="General", rare=True,
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
        raise click.UsageError("give only one of --minutes, --epochs and --steps")
    if options["resume"]:
        if options["val"] and not options["corpus"]:
            raise click.UsageError("--val on a resumed run needs the CORPUS too")
        ignored = [name for name in options if name not in ALLOWED_ON_RESUME]
        _refuse(
            context, ignored, "a resumed run keeps its settings; leave it out or start a new run"
        )
    if options["tokenizer"] == "byte":
        _refuse(context, NOT_WITH_BYTES, "for characters; leave it out with --tokenizer byte")
    if options["init_from"]:
        _refuse(context, NOT_WITH_WEIGHTS, "with --init-from it is that run's; leave it out")

    from charnn.text.sources import is_pipe
    from charnn.training.distributed import join_world, world_from_environment

    several = world_from_environment().size > 1
    if several and any(map(is_pipe, (*options["corpus"], *options["val"]))):
        raise click.UsageError(
            "several processes cannot share standard input or a pipe; name a file"
        )
    with join_world(options["device"]) as (world, device):
        code = _train(options, device, world)  # a function, so that no run outlives the world
    context.exit(code)


def _refuse(context: click.Context, names: Iterable[str], why: str) -> None:
    """Refuse settings that were typed and would silently be ignored."""
    typed = [
        flag(name)
        for name in names
        if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
    ]
    if typed:
        raise click.UsageError(f"{', '.join(typed)}: {why}")


def _train(options: dict[str, Any], device: "torch.device", world: "World") -> int:
    """Train or resume, and return the exit code."""
    if not world.is_main:
        set_quiet()
    if options["resume"]:
        from charnn.runs.resume import resume_run

        resumed = _resume_request(options)
        running = resume_run(resumed, device, world)
        place = f"--out {shlex.quote(str(resumed.folder))} --resume"
        val = "--val FILE " if read_run_info(resumed.folder).get("val") else ""
        advice = f"`charnn train TEXT {val}{place}`"
    else:
        from charnn.runs.start import dry_run, start_run

        request = _run_request(options)
        if options["dry_run"]:
            _show_dry_run(dry_run(request, device, world), request, device)
            return 0
        running, advice = start_run(request, device, world), ""

    from charnn.cli.progress import follow
    from charnn.cli.signals import EXIT

    EXIT.started("stopped before training began")  # from here on there is a folder to remove
    with text_named_by(advice), running as run:
        return follow(run)


def _run_request(options: dict[str, Any]) -> "RunRequest":
    from charnn.runs.start import RunRequest
    from charnn.training.plan import PlanRequest

    given = {
        name: options[name]
        for name in (*MODEL, *TRAIN, *VALIDATION)
        if options[name] not in (None, AUTO) and options[name] is not False
    }
    plan = PlanRequest(
        _budget(options, DEFAULT_MINUTES), given, options["seed"], options["threads"] or 0,
        options["force"],
    )  # fmt: skip
    return RunRequest(
        plan,
        options["corpus"],
        options["val"],
        TextConfig(**{name: options[name] for name in TEXT}),
        options["out"],
        options["init_from"],
        _seconds(options["save_every"]),
        shlex.join(["charnn", *sys.argv[1:]]),
        options["keep"],
    )


def _run_to_resume(options: dict[str, Any]) -> tuple[Path, tuple[str, ...]]:
    """Return the run folder, and the corpus if it was given."""
    corpus, out = options["corpus"], options["out"]
    if out is not None:
        return named_run(str(out)), corpus
    path = Path(corpus[0]) if len(corpus) == 1 else None
    if path is not None and (not exists(path) or is_run(path) or is_state(path)):
        run = find_run(corpus[0])
        if exists(run):  # the run's name, not a text
            return run, ()
    runs = find_runs()
    if not runs:
        raise no_runs(listed(corpus), "run")
    if corpus and not (runs := runs_of(corpus)):
        raise _no_run_of(corpus)
    return runs[0], corpus


def _no_run_of(corpus: tuple[str, ...]) -> SettingError:
    """Return the error that no run was trained on the texts, or that these are no texts."""
    from charnn.text.sources import find_sources

    find_sources(
        corpus, TextConfig(tokenizer="byte"), set(), pipe_bytes=1
    )  # raises if there is none
    named = shown(listed(corpus))
    return SettingError(
        f"no run of {named} under ./{RUNS}; name its run with `out`, or start one without `resume`"
    )


def _resume_request(options: dict[str, Any]) -> "ResumeRequest":
    from charnn.runs.resume import ResumeRequest

    folder, corpus = _run_to_resume(options)
    extended = any(options[name] is not None for name in BUDGET)
    return ResumeRequest(
        folder,
        corpus,
        options["val"],
        _budget(options, None) if extended else None,
        options["patience"],
        _seconds(options["save_every"]),
        options["threads"] or 0,
        options["force"],
        options["keep"],
    )


def _budget(options: dict[str, Any], default_minutes: float | None) -> "Budget":
    from charnn.training.plan import Budget

    limits = {name: options[name] for name in BUDGET}
    if all(value is None for value in limits.values()):
        limits["minutes"] = default_minutes
    return Budget(**limits)


def _show_dry_run(found: "DryRun", request: "RunRequest", device: "torch.device") -> None:
    """Print what would be trained, on stdout because here it is the product."""
    from charnn.cli.main import options_by_setting
    from charnn.cli.progress import duration
    from charnn.training.memory import format_bytes

    free = found.memory_available
    of = f" of {format_bytes(free)} that are free" if math.isfinite(free) else ""
    if request.plan.budget.minutes is not None:
        time = f"{duration(60 * request.plan.budget.minutes)} at most, as requested"
    elif found.seconds is None:
        time = f"not measured; {settings_as_options(found.advice, options_by_setting)}"
    else:
        time = f"about {duration(found.seconds)} on {device}, without validations"
    plan = found.plan
    for name, value in (
        ("plan", plan.why),
        ("parameters", f"{found.parameters:,}"),
        ("memory", f"about {format_bytes(found.memory_needed)}{of}"),
        ("time", time),
        *(pair for c in (plan.model, plan.train, plan.validation) for pair in c.to_json().items()),
    ):
        show(f"{name:<16} {value}")


def _seconds(minutes: float | None) -> float | None:
    return None if minutes is None else 60 * minutes
