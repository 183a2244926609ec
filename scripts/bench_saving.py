"""What share of the time of a training run goes into saving it?

Trains like `charnn train` in a temporary folder and prints a Markdown row. `saving` is the time
spent writing `best` and `last`, syncing them, and reading them back.

    python scripts/bench_saving.py data/tinyshakespeare.txt --minutes 10
"""

import argparse
import tempfile
import time
from pathlib import Path

from charnn.device import pick_device
from charnn.runs.start import RunRequest, start_run
from charnn.training.plan import Budget, PlanRequest


def main() -> None:
    """Parse the options, train, and print the row."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpus")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent, "run")
        plan = PlanRequest(Budget(options.minutes), seed=1)
        request = RunRequest(plan, (options.corpus,), out=folder, command="scripts/bench_saving.py")
        with start_run(request, pick_device(options.device)) as run:
            start = time.monotonic()
            for _ in run.reports():
                pass
            seconds = time.monotonic() - start
        size = sum(path.stat().st_size for path in folder.glob("*.safetensors")) / 1e6
    saving = run.saver.seconds
    print("| model | parameters | minutes | best and last, MB | saving, s | share |")
    print("|---|---|---|---|---|---|")
    config = run.state.network.config
    model = f"{config.num_layers}x{config.hidden_size} {config.cell}"
    parameters = run.state.network.parameter_count()
    print(
        f"| {model} | {parameters:,} | {seconds / 60:.1f} | {size:.0f} | {saving:.2f} "
        f"| {saving / seconds:.2%} |"
    )


if __name__ == "__main__":
    main()
