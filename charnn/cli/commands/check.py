"""`charnn check`: check runs for damage, and repair them."""

import json
from pathlib import Path

import click

from charnn.cli.checkpoints import run_argument
from charnn.cli.help import Command, option
from charnn.cli.options import json_option, quiet_option
from charnn.cli.terminal import settings_as_options, show, status
from charnn.cli.types import Run
from charnn.errors import CharnnError
from charnn.runs.folder import BEST, LAST, RUNS, run_folders


@click.command("check", cls=Command)
@click.argument("runs", nargs=-1, metavar="[RUN]...", type=Run())
@option("--repair", is_flag=True, group="Repair", help="Repair what can be repaired.")
@json_option
@quiet_option
@click.pass_context
def command(context: click.Context, runs: tuple[Path, ...], repair: bool, as_json: bool) -> None:
    """Read whole runs, and print a line for each thing that is wrong with them.

    RUN is a run's name, a run folder or a .safetensors file; without it, all runs under
    ./checkpoints are checked. Nothing is changed unless --repair is given.

    \b
    Examples:
      charnn check
      charnn check corpus --repair

    \f
    Checked are the checkpoints (checksums, types, shapes, numbers that are not finite,
    whether the run can be resumed), whether best.safetensors is the best model that the run
    found, metrics.jsonl, run.json, and what killed processes left behind.

    A repair restores last.safetensors from the state before it or from one that --keep kept,
    best.safetensors from last.safetensors where that holds it, and run.json as far as its
    content is known. It deletes nothing that could still be read: damaged files are
    renamed, and end in .damaged.

    The exit code is 1 if something is wrong, or with --repair if something remains wrong.
    """
    from charnn.cli.main import options_by_setting
    from charnn.runs.check import Finding, check

    chosen = list(runs) or run_folders()
    if not chosen:
        status(f"no runs under ./{RUNS}; start with `charnn train TEXT`")
    found: list[tuple[Path, Finding]] = []
    for run in chosen:
        try:
            findings = check(run, repair)
        except CharnnError as error:
            if len(chosen) == 1:
                raise
            findings = [Finding(run, str(error).removeprefix(f"{run}: "))]
        found += [(run, finding) for finding in findings]
        if not findings:
            status(f"{run}: nothing is wrong")
        for finding in [] if as_json else findings:
            show(settings_as_options(str(finding), options_by_setting))
            if finding.path == run / LAST and not finding.mend and (run / BEST).exists():
                command = f"charnn train TEXT --init-from {run_argument(run)}"
                status(f"{run}: a new run can start from its best model: `{command}`")
    if as_json:
        click.echo(json.dumps([{"run": str(run)} | finding.to_json() for run, finding in found]))
    context.exit(0 if all(finding.repaired for _, finding in found) else 1)
