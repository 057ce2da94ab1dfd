"""The command line: one file a verb."""

from brodmann.cli.app import main

__all__ = ["main"]
