"""The text form of a graph: `to_text` prints, `parse` reads, and what is printed parses back to the same graph."""

from __future__ import annotations

from rnngraph.ir.text.parser import parse
from rnngraph.ir.text.printer import to_text

__all__ = ["parse", "to_text"]
