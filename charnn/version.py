"""The one place of the version: setuptools, `charnn --version` and checkpoints read it here."""

__version__ = "0.1.0"
