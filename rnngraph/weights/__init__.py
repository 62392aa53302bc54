"""Recurrent weights: one canonical form, the layouts of other systems, files."""

from __future__ import annotations

from rnngraph.weights.canonical import CellWeights, RecurrentWeights
from rnngraph.weights.convert import convert, load
from rnngraph.weights.options import Options
from rnngraph.weights.table import ALIASES, FORMATS, find

__all__ = ["ALIASES", "FORMATS", "CellWeights", "Options", "RecurrentWeights", "convert", "find", "load"]
