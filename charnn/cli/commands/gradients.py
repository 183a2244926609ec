"""`charnn gradients`: how far back does learning reach?"""

import json
import secrets
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from charnn.cli.measured import measured_text
from charnn.cli.options import (
    device_option,
    json_option,
    open_checkpoint,
    quiet_option,
    settings,
    split_checkpoint,
)
from charnn.cli.terminal import show, status
from charnn.config import TextConfig, TrainConfig
from charnn.errors import TextError
from charnn.runs.folder import METRICS, find_runs, is_run

if TYPE_CHECKING:
    import torch

    from charnn.insight.compare import Trial
    from charnn.insight.gradients import Clipping, Reach
    from charnn.text.corpus import Corpus

COMPARE_MINUTES = 1.0


@click.command("gradients", short_help="Measure how far back learning reaches.")
@click.argument("arguments", nargs=-1, metavar="[CHECKPOINT] [TEXT]...")
@click.option(
    "--distance",
    type=click.IntRange(min=1),
    default=200,
    show_default=True,
    help="Characters to look back.",
)
@click.option(
    "--positions",
    type=click.IntRange(min=1),
    default=256,
    show_default=True,
    help="Places of the text, evenly spread, to look back from.",
)
@click.option(
    "--compare",
    is_flag=True,
    help="Instead train a small RNN, GRU and LSTM, and measure each before and after.",
)
@click.option(
    "--minutes",
    type=click.FloatRange(min=0, min_open=True),
    help=f"With --compare: time to train each.  [default: {COMPARE_MINUTES:g}]",
)
@settings(TrainConfig, "seed", chosen="drawn")
@click.option(
    "--plot", "picture", type=click.Path(path_type=Path), help="Draw it too, as .png or .svg."
)
@click.option("--force", is_flag=True, help="Replace a picture that exists.")
@click.option("--encoding", help="Character encoding of TEXT.  [default: as trained; utf-8]")
@click.option(
    "--skip-unknown", is_flag=True, help="Leave out characters the model has no index for."
)
@device_option
@json_option
@quiet_option
def command(arguments: tuple[str, ...], picture: Path | None, force: bool, **options: Any) -> None:
    """Measure how far back learning reaches: how strongly the loss at a character depends on the
    recurrent state some characters before, as the norm of the gradient, in the middle of many
    places of a text. Where it has faded, nothing can be learned from what lies further back.

    CHECKPOINT is a run folder or a .safetensors file; without it, the newest run under
    ./checkpoints. TEXT is what `charnn train` takes; without it, the validation part of the run's
    own corpus. With --compare no checkpoint is needed, and without a text and a run the small
    models learn the demo text.

    \b
    Example:
      charnn gradients checkpoints/corpus --plot reach.png
      charnn gradients --compare corpus.txt --plot compare.png
    """
    if not options["compare"] and (options["minutes"] or options["seed"] is not None):
        raise click.UsageError("--minutes and --seed are for --compare")
    if options["compare"] and options["skip_unknown"]:
        raise click.UsageError("--skip-unknown is for a trained model; --compare learns all")
    if force and picture is None:
        raise click.UsageError("--force needs --plot")
    if picture is not None:
        from charnn.insight.plot import check_picture

        check_picture(picture, force)
    (_compare if options["compare"] else _measure)(arguments, picture, options)


def _measure(arguments: tuple[str, ...], picture: Path | None, options: dict[str, Any]) -> None:
    """One model."""
    quiet = options["quiet"]
    path, texts = split_checkpoint(arguments, quiet)

    from charnn.device import pick_device
    from charnn.insight.gradients import Clipping, as_text, draw_reach, measure_reach
    from charnn.runs.metrics import read_metrics
    from charnn.text.records import indices_of

    loaded = open_checkpoint(path, quiet)
    names = ("encoding", "skip_unknown", "quiet")
    text, corpus = measured_text(path, loaded, texts, *(options[name] for name in names))
    _refuse_records(corpus)
    network = loaded.network(pick_device(options["device"]))
    reach = measure_reach(network, indices_of(text), options["distance"], options["positions"])
    metrics = read_metrics(path.parent / METRICS)
    clipping = Clipping.of(metrics, loaded.train.clip) if metrics.steps else None
    status(f"training cut gradients off after {loaded.train.seq_len} characters (--seq-len)", quiet)
    _tell_left_out(reach, quiet)
    if picture is not None:
        draw_reach(picture, reach)
        status(f"picture: {picture}", quiet)
    if options["as_json"]:
        about = {"checkpoint": str(path), **_as_json(reach)}
        click.echo(json.dumps(about | {"clipping": clipping and asdict(clipping)}))
        return
    for line in (_sentence(reach), "", *as_text(reach)):
        show(line)
    if clipping is not None:
        show("")
        show(_clipped(clipping))


def _compare(arguments: tuple[str, ...], picture: Path | None, options: dict[str, Any]) -> None:
    """The three cells, side by side."""
    from charnn.device import pick_device
    from charnn.insight.compare import CELLS, draw_trials
    from charnn.insight.gradients import FADED, GONE

    quiet = options["quiet"]
    corpus = _corpus(arguments, options["encoding"], quiet)
    _refuse_records(corpus)
    device = pick_device(options["device"])
    if options["seed"] is None:
        options["seed"] = secrets.randbits(32)
        status(f"seed: {options['seed']}", quiet)
    trials = [_trial(cell, corpus, device, options) for cell in CELLS]
    status(
        "the LSTM starts with open forget gates (bias 1): it reaches far before it learns", quiet
    )
    if picture is not None:
        draw_trials(picture, trials)
        status(f"picture: {picture}", quiet)
    if options["as_json"]:
        click.echo(json.dumps({
            "sources": corpus.sources, "seed": options["seed"],
            "trials": [_trial_as_json(trial) for trial in trials],
        }))  # fmt: skip
        return
    show(f"{'':6}{'distance to 1 %':^20}{'to 0.01 %':^20}{'validation':>10}")
    columns = ("untrained", "trained", "untrained", "trained", "nats/char", "steps")
    show(f"{'cell':6}" + "".join(f"{name:>10}" for name in columns))
    for t in trials:
        reaches = [_distance(r, share) for share in (FADED, GONE) for r in (t.untrained, t.trained)]
        values = (*reaches, f"{t.nats_per_char:.4f}", f"{t.steps:,}")
        show(f"{t.cell:6}" + "".join(f"{value:>10}" for value in values))


def _trial(cell: str, corpus: "Corpus", device: "torch.device", options: dict[str, Any]) -> "Trial":
    """Train and measure one, with a bar."""
    from tqdm import tqdm

    from charnn.insight.compare import Trial, plan_trial, trial
    from charnn.training.loop import StepReport

    quiet = options["quiet"]
    minutes = options["minutes"] or COMPARE_MINUTES
    plan = plan_trial(cell, corpus, minutes, options["seed"], device)
    status(f"plan: {plan.why}", quiet)
    reports = trial(corpus, plan, device, options["distance"], options["positions"])
    hidden = quiet or not sys.stderr.isatty()
    with tqdm(total=plan.train.steps, desc=cell, disable=hidden, leave=False) as bar:
        for report in reports:
            if isinstance(report, Trial):
                found = report
            elif isinstance(report, StepReport):
                bar.update()
            else:
                status(f"warning: {report}", quiet)
    for reach in (found.untrained, found.trained):
        _tell_left_out(reach, quiet)
    return found


def _corpus(arguments: tuple[str, ...], encoding: str | None, quiet: bool) -> "Corpus":
    """What the small models learn: the texts; that of a run; the demo text."""
    from charnn.cli.progress import tell_notes
    from charnn.runs.info import reopen_corpus
    from charnn.text.corpus import open_corpus

    named = bool(arguments) and _is_checkpoint(arguments[0])
    if named and len(arguments) > 1:
        raise click.UsageError("--compare takes a run, whose corpus is learned, or texts")
    if named or (not arguments and find_runs()):
        path, _ = split_checkpoint(arguments, quiet)
        return reopen_corpus(path.parent, open_checkpoint(path, quiet))
    corpus = open_corpus(arguments, TextConfig(encoding=encoding or TextConfig().encoding))
    tell_notes(corpus, quiet)
    return corpus


def _is_checkpoint(argument: str) -> bool:
    return argument.endswith(".safetensors") or is_run(Path(argument))


def _refuse_records(corpus: "Corpus") -> None:
    if corpus.is_records:
        raise TextError(
            "a model of records begins each from nothing, so that nothing before it is remembered; "
            "name a model of running text"
        )


def _tell_left_out(reach: "Reach", quiet: bool) -> None:
    if reach.left_out:
        status(f"note: {reach.left_out} positions left out: their numbers are not finite", quiet)


def _distance(reach: "Reach", share: float) -> str:
    far, at = reach.quartiles.shape[1] - 1, reach.falls_at(share)
    return f"> {far}" if at is None else str(at)


def _sentence(reach: "Reach") -> str:
    from charnn.insight.gradients import FADED, GONE

    return (
        f"distance to 1 %: {_distance(reach, FADED)} characters, to 0.01 %: "
        f"{_distance(reach, GONE)} (median of {reach.positions} positions, "
        f"{reach.nats_per_char:.4f} nats/char there)"
    )


def _clipped(clipping: "Clipping") -> str:
    share = clipping.clipped / clipping.steps if clipping.steps else 0.0
    line = (
        f"clipping in training: {share:.1%} of {clipping.steps:,} recorded steps had a gradient "
        f"norm above {clipping.clip:g}"
    )
    if clipping.median is not None:
        line += f", by a factor of {clipping.median:.2f} (median), {clipping.largest:.2f} (largest)"
    return line


def _as_json(reach: "Reach") -> dict[str, Any]:
    from charnn.insight.gradients import FADED, GONE

    lower, median, upper = reach.quartiles.tolist()
    return {
        "distance": len(median) - 1,
        "falls_at": {f"{share:g}": reach.falls_at(share) for share in (FADED, GONE)},
        "positions": reach.positions,
        "not_finite": reach.left_out,
        "nats_per_char": reach.nats_per_char,
        "lower_quartile": lower,
        "median": median,
        "upper_quartile": upper,
    }


def _trial_as_json(trial: "Trial") -> dict[str, Any]:
    return {
        "cell": trial.cell,
        "steps": trial.steps,
        "val_nats_per_char": trial.nats_per_char,
        "untrained": _as_json(trial.untrained),
        "trained": _as_json(trial.trained),
    }
