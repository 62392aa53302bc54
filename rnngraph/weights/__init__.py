"""Recurrent weights: one canonical form, the layouts of other systems, files."""

from __future__ import annotations

from rnngraph.weights.canonical import CellWeights, RecurrentWeights
from rnngraph.weights.convert import convert, load
from rnngraph.weights.files import read, save
from rnngraph.weights.layers import HasRecurrentWeights, assign, extract
from rnngraph.weights.options import Options
from rnngraph.weights.pack import pack, unpack
from rnngraph.weights.table import ALIASES, FORMATS, find

__all__ = ["ALIASES", "FORMATS", "CellWeights", "HasRecurrentWeights", "Options", "RecurrentWeights", "assign",
           "convert", "extract", "find", "load", "pack", "read", "save", "unpack"]
