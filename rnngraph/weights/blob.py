"""A flat array with all weights, as cuDNN, MXNet's RNN operator and CNTK's OptimizedRNNStack keep them.

First the matrices: for each layer, for each direction W [G*H, I], R [G*H, P] and, with a projection, [P, H]. Then the
biases: for each layer, for each direction the input's and the recurrent one, [G*H] each.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from rnngraph.errors import ConversionError
from rnngraph.weights.canonical import CellWeights, RecurrentWeights
from rnngraph.weights.gates import GATES, Array, reorder
from rnngraph.weights.options import Options

BIASES = {"double": ("bias", "recurrent_bias"), "single_input": ("bias",), "single_recurrent": ("recurrent_bias",),
          "none": ()}


@dataclass(frozen=True, slots=True)
class Geometry:
    """What a flat array does not say; projection is 0 without one."""

    mode: str
    hidden: int
    layers: int = 1
    directions: int = 1
    projection: int = 0
    bias_mode: str = "double"

    @classmethod
    def of(cls, options: Options, system: str) -> Geometry:
        """From the options; ConversionError when one is missing or makes no sense."""
        if "mode" not in options or "hidden" not in options:
            raise ConversionError(f"{system}: a flat array needs the options mode and hidden (and layers, directions, "
                                  "projection where they are not 1, 1, 0)")
        found = cls(options["mode"], options["hidden"], options.get("layers", 1), options.get("directions", 1),
                    options.get("projection", 0), options.get("bias_mode", "double"))
        if min(found.hidden, found.layers, found.directions, found.projection + 1) < 1 or found.directions > 2:
            raise ConversionError(f"{system}: expected hidden >= 1, layers >= 1, directions 1 or 2, projection >= 0, "
                                  f"got {found}")
        if found.projection and found.mode != "lstm":
            raise ConversionError(f"{system}: only an LSTM has a projection, not {found.mode}")
        if found.bias_mode not in BIASES:
            raise ConversionError(f"{system}: bias_mode is one of {', '.join(BIASES)}, got {found.bias_mode!r}")
        return found

    @property
    def rows(self) -> int:
        return len(GATES[self.mode]) * self.hidden

    @property
    def output(self) -> int:
        return self.projection or self.hidden

    def shapes(self, inputs: int) -> list[tuple[int, str, tuple[int, ...]]]:
        """(number of the cell, name, shape) of every part, in the order of the array."""
        found: list[tuple[int, str, tuple[int, ...]]] = []
        cells = self.layers * self.directions
        for number in range(cells):
            width = inputs if number < self.directions else self.directions * self.output
            found += [(number, "w", (self.rows, width)), (number, "r", (self.rows, self.output))]
            if self.projection:
                found.append((number, "projection", (self.projection, self.hidden)))
        return found + [(number, name, (self.rows,)) for number in range(cells) for name in BIASES[self.bias_mode]]

    def inputs(self, size: int, system: str) -> int:
        """The input size of the first layer, from the length of the array; ConversionError when none fits."""
        if self.rows * self.layers * self.output > size:
            raise ConversionError(f"{system}: {size} numbers are too few for {self}")
        rest = size - sum(math.prod(shape) for _, _, shape in self.shapes(0))
        found, odd = divmod(rest, self.rows * self.directions)
        if odd or found < 1:
            raise ConversionError(f"{system}: {size} numbers are not those of {self}, whatever the input size")
        return found


def unpack_blob(blob: Array, geometry: Geometry, order: str, system: str) -> list[dict[str, Array]]:
    """The parts of a flat array by cell, gates in canonical order; views where that is the array's."""
    if blob.ndim != 1:
        raise ConversionError(f"{system}: expected a flat array, got the shape {list(blob.shape)}")
    inputs = geometry.inputs(blob.size, system)
    cells: list[dict[str, Array]] = [{} for _ in range(geometry.layers * geometry.directions)]
    start = 0
    for number, name, shape in geometry.shapes(inputs):
        part = blob[start : start + math.prod(shape)].reshape(shape)
        cells[number][name] = part if name == "projection" else reorder(part, order, GATES[geometry.mode])
        start += part.size
    return cells


def from_cells(cells: list[dict[str, Array]], geometry: Geometry) -> RecurrentWeights:
    """The canonical form of the parts."""
    d = geometry.directions
    made = [CellWeights(**parts) for parts in cells]
    return RecurrentWeights(geometry.mode, tuple(tuple(made[i : i + d]) for i in range(0, len(made), d)))


def pack_blob(weights: RecurrentWeights, order: str, bias_mode: str = "double") -> Array:
    """The flat array; the weights have to have the biases of the bias mode."""
    cells = list(weights)
    matrices = [a if name == "projection" else reorder(a, weights.gates, order) for cell in cells
                for name, a in cell.arrays.items() if name in ("w", "r", "projection")]
    biases = [reorder(cell.arrays[name], weights.gates, order) for cell in cells for name in BIASES[bias_mode]]
    return np.concatenate([a.reshape(-1) for a in (*matrices, *biases)])


def flat(params: dict[str, Array], options: Options, system: str) -> Array:
    """The one array that is there, or that of the name ``prefix + "parameters"``."""
    name = f"{options.get('prefix', '')}parameters"
    if name in params:
        return params[name]
    if len(params) == 1 and not options.get("prefix"):
        return next(iter(params.values()))
    raise ConversionError(f"{system}: expected one flat array, or one named {name!r}; got {', '.join(params)}")
