"""`charnn gradients`: measure how far back learning reaches."""

import json
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from charnn.cli.bar import progress_bar
from charnn.cli.checkpoints import names_checkpoint, open_checkpoint, run_argument, split_checkpoint
from charnn.cli.help import Command, option
from charnn.cli.options import (
    device_option,
    encoding_options,
    flag,
    json_option,
    quiet_option,
    settings,
)
from charnn.cli.terminal import LOGGER, show, status
from charnn.cli.types import MOST, Checkpoint, OutPath, Real, Whole
from charnn.config import TextConfig, TrainConfig
from charnn.errors import UnreadableTextError, text_named_by
from charnn.runs.find import find_runs
from charnn.runs.folder import METRICS
from charnn.words import plural

if TYPE_CHECKING:
    import torch

    from charnn.insight.compare import Trial
    from charnn.insight.gradients import Clipping, Reach
    from charnn.text.corpus import Corpus

COMPARE_MINUTES = 1.0


@click.command("gradients", cls=Command)
@click.argument("arguments", nargs=-1, metavar="[CHECKPOINT] [TEXT]...", type=Checkpoint())
@option(
    "--distance", type=Whole(1), default=200, metavar="N", group="Measure",
    help="Characters to look back.",
)  # fmt: skip
@option(
    "--positions", type=Whole(1), default=256, metavar="N", group="Measure",
    help="Positions in the text to look back from.",
)  # fmt: skip
@option(
    "--compare", is_flag=True, group="Compare cells",
    help="Train and measure a small RNN, GRU and LSTM.",
)  # fmt: skip
@option(
    "--minutes", type=Real(above=0, high=MOST), metavar="MINUTES",
    group="Compare cells", help="Time to train each.", notes=f"default: {COMPARE_MINUTES:g}",
)  # fmt: skip
@settings(TrainConfig, "seed", group="Compare cells", chosen="random")
@encoding_options
@option(
    "--plot", "picture", type=OutPath(), metavar="FILE", group="Output",
    help="Draw the result too, as a .png or .svg.",
)  # fmt: skip
@option("--force", is_flag=True, group="Output", rare=True, help="Replace an existing picture.")
@json_option
@device_option
@quiet_option
def command(arguments: tuple[str, ...], picture: Path | None, force: bool, **options: Any) -> None:
    """Measure how far back in the text learning reaches.

    CHECKPOINT is a run's name, a run folder or a .safetensors file; without it, the
    newest run. TEXT is files, folders or globs; without it, the validation part of the
    run's own text.

    \b
    Examples:
      charnn gradients corpus --plot reach.png
      charnn gradients --compare corpus.txt --minutes 1

    \f
    For many positions in the text, this measures how strongly the loss at a character
    depends on the recurrent state some characters earlier, as the norm of the gradient.
    Where it has vanished, nothing can be learned from what lies further back. The
    median of all positions is shown.

    --compare needs no checkpoint. Without a text and without a run, the small models
    learn Python's language reference.
    """
    if not options["compare"] and (options["minutes"] or options["seed"] is not None):
        raise click.UsageError("--minutes and --seed need --compare")
    if options["compare"] and options["skip_unknown"]:
        raise click.UsageError("--compare cannot be combined with --skip-unknown")
    if force and picture is None:
        raise click.UsageError("--force needs --plot")
    if picture is not None:
        from charnn.insight.plot import check_picture

        check_picture(picture, force)
    (_compare if options["compare"] else _measure)(arguments, picture, options)


def _measure(arguments: tuple[str, ...], picture: Path | None, options: dict[str, Any]) -> None:
    """Measure one model and print the result."""
    path, texts = split_checkpoint(arguments)

    from charnn.device import pick_device
    from charnn.insight.gradients import Clipping, as_text, measure_reach
    from charnn.insight.plot import draw_reach
    from charnn.runs.evaluation_text import evaluation_text
    from charnn.runs.metrics import read_metrics

    loaded = open_checkpoint(path)
    with text_named_by(f"`charnn gradients {run_argument(path)} TEXT`"):
        chosen = evaluation_text(
            loaded, path.parent, texts, options["encoding"], options["encoding_errors"],
            options["skip_unknown"],
        )  # fmt: skip
    for note in chosen.notes:
        LOGGER.warning(note)
    network = loaded.network(pick_device(options["device"]))
    reach = measure_reach(network, chosen.text, options["distance"], options["positions"])
    metrics = read_metrics(path.parent / METRICS)
    clipping = Clipping.from_metrics(metrics, loaded.train.clip) if metrics.steps else None
    window = plural(loaded.train.seq_len, "character")
    status(f"gradients were truncated after {window} in training "
         "(--seq-len)")  # fmt: skip
    _note_not_finite(reach)
    if picture is not None:
        draw_reach(picture, reach)
        status(f"picture: {picture}")
    if options["as_json"]:
        result = {"checkpoint": str(path), **reach.to_json()}
        click.echo(json.dumps(result | {"clipping": clipping and clipping.to_json()}))
        return
    for line in (_summary(reach, loaded.tokenizer.unit), "", *as_text(reach)):
        show(line)
    if clipping is not None:
        show("")
        show(_clipping_summary(clipping))


def _compare(arguments: tuple[str, ...], picture: Path | None, options: dict[str, Any]) -> None:
    """Train and measure a model with each kind of cell, and print a table."""
    from charnn.device import pick_device
    from charnn.insight.gradients import FADED, VANISHED
    from charnn.insight.plot import draw_trials
    from charnn.model.cells import CELLS

    corpus = _corpus(arguments, options)
    device = pick_device(options["device"])
    if options["seed"] is None:
        options["seed"] = secrets.randbits(32)
        status(f"seed: {options['seed']}")
    trials = [_run_trial(cell, corpus, device, options) for cell in CELLS]
    LOGGER.warning(
        "an LSTM starts with open forget gates (bias 1), which helps it to reach far even untrained"
    )
    if picture is not None:
        draw_trials(picture, trials)
        status(f"picture: {picture}")
    if options["as_json"]:
        click.echo(json.dumps({
            "sources": corpus.sources, "seed": options["seed"],
            "trials": [trial.to_json() for trial in trials],
        }))  # fmt: skip
        return
    show(f"{'':6}{'distance to 1 %':^20}{'to 0.01 %':^20}{'validation':>10}")
    columns = (
        "untrained",
        "trained",
        "untrained",
        "trained",
        f"nats/{corpus.tokenizer.unit}",
        "steps",
    )
    show(f"{'cell':6}" + "".join(f"{name:>10}" for name in columns))
    for t in trials:
        reaches = [
            _distance(reach, share) for share in (FADED, VANISHED)
            for reach in (t.untrained, t.trained)
        ]  # fmt: skip
        values = (*reaches, f"{t.nats_per_char:.4f}", f"{t.steps:,}")
        show(f"{t.cell:6}" + "".join(f"{value:>10}" for value in values))


def _run_trial(
    cell: str, corpus: "Corpus", device: "torch.device", options: dict[str, Any]
) -> "Trial":
    """Train and measure a model with one kind of cell, with a progress bar."""
    from charnn.insight.compare import Trial, plan_trial, run_trial
    from charnn.training.reports import StepReport

    minutes = options["minutes"] or COMPARE_MINUTES
    plan = plan_trial(cell, corpus, minutes, options["seed"], device)
    status(f"plan: {plan.why}")
    reports = run_trial(corpus, plan, device, options["distance"], options["positions"])
    with progress_bar(plan.train.steps, "step") as bar:
        for report in reports:
            if isinstance(report, Trial):
                trial = report
            elif isinstance(report, StepReport):
                bar.update()
            else:
                LOGGER.warning(str(report))
    for reach in (trial.untrained, trial.trained):
        _note_not_finite(reach)
    return trial


def _corpus(arguments: tuple[str, ...], options: dict[str, Any]) -> "Corpus":
    """Open the corpus to train on: the given texts, the corpus of a run, or the demo text."""
    from charnn.runs.info import reopen_corpus
    from charnn.text.corpus import open_corpus

    named = bool(arguments) and names_checkpoint(arguments[0])
    if named and len(arguments) > 1:
        raise click.UsageError("--compare takes either a run, to train on its corpus, or texts")
    given = {name: options[name] for name in ("encoding", "encoding_errors") if options[name]}
    if named or (not arguments and find_runs()):
        if given:
            raise click.UsageError(f"{flag(next(iter(given)))} is for texts; a run knows its own")
        path, _ = split_checkpoint(arguments)
        with text_named_by("`charnn gradients --compare TEXT`"):
            return reopen_corpus(path.parent, open_checkpoint(path))
    try:
        corpus = open_corpus(arguments, TextConfig(**given))
    except UnreadableTextError as error:  # there is no --tokenizer
        raise error.limited_to("encoding", "encoding_errors") from error
    for note in corpus.notes:
        LOGGER.warning(note.partition("; `")[0])  # advises settings that this command has not
    return corpus


def _note_not_finite(reach: "Reach") -> None:
    if reach.not_finite:
        left_out = plural(reach.not_finite, "position")
        LOGGER.warning(f"left out {left_out} with a loss or gradient that is not finite")


def _distance(reach: "Reach", share: float) -> str:
    """Return the distance at which the gradient falls below a share of that at distance 0."""
    farthest, distance = reach.quartiles.shape[1] - 1, reach.falls_below(share)
    return f"> {farthest}" if distance is None else str(distance)


def _summary(reach: "Reach", unit: str) -> str:
    from charnn.insight.gradients import FADED, VANISHED

    return (
        f"distance to 1 %: {_distance(reach, FADED)} characters, to 0.01 %: "
        f"{_distance(reach, VANISHED)} (median of {plural(reach.positions, 'position')}, "
        f"{reach.nats_per_char:.4f} nats/{unit} there)"
    )


def _clipping_summary(clipping: "Clipping") -> str:
    share = clipping.clipped_steps / clipping.steps if clipping.steps else 0.0
    line = (
        f"clipping in training: {share:.1%} of {clipping.steps:,} recorded steps had a gradient "
        f"norm above {clipping.clip:g}"
    )
    if clipping.median_ratio is not None:
        line += f", by a factor of {clipping.median_ratio:.2f} (median), "
        line += f"{clipping.max_ratio:.2f} (largest)"
    return line
