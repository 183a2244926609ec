"""`python -m charnn` is `charnn`."""

import sys

from charnn.cli.signals import EXIT


def run() -> None:
    """Handle signals from the first moment, then load the command line and run it."""
    training = sys.argv[1:2] == ["train"]
    EXIT.install("stopped before training began" if training else "stopped")
    from charnn.cli.main import main

    main(prog_name="charnn")


if __name__ == "__main__":
    run()
