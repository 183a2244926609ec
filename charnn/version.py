"""The version of charnn, read by setuptools, the command line and checkpoints."""

__version__ = "0.1.0"
