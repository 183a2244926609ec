"""`python -m charnn` is `charnn`."""

from charnn.cli.main import main

if __name__ == "__main__":
    main(prog_name="charnn")
