"""The command line, `rnngraph ...`. One module per command; see `rnngraph.cli.app`."""

from __future__ import annotations

from rnngraph.cli.app import main

__all__ = ["main"]
