"""Layers and cells around other layers and cells, one a file."""

from __future__ import annotations

from rnngraph.nn.wrappers.bidirectional import Bidirectional

__all__ = ["Bidirectional"]
