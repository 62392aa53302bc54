"""RecurrentWeights: the weights of LSTM, GRU and plain recurrent layers in one form, whatever system they are from.

Gates stand in rows, in the order i f g o (LSTM), r z n (GRU) or alone (RNN); every layer and direction has its own
`CellWeights`. The equations, with x and h as columns:

    lstm  i f o = sigmoid(W x + R h + b [+ p c]), g = tanh(W x + R h + b); c' = f c + i g; h' = [Whr] (o tanh(c'))
    gru   r z = sigmoid(W x + R h + b); h' = z h + (1 - z) n, where
          n = tanh(W x + b_in + r (R h + b_rec)) with reset_after, else tanh(W x + b_in + b_rec + R (r h))
    rnn   h' = tanh or relu (W x + R h + b)

b is the sum of the input's and the recurrent bias; a missing one is zero.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Unpack

import numpy as np

from rnngraph.errors import ConversionError
from rnngraph.weights.gates import GATES, PEEPHOLES, Array
from rnngraph.weights.options import Options
from rnngraph.weights.table import find


@dataclass(frozen=True, slots=True, eq=False)
class CellWeights:
    """One layer in one direction; G gates, H units, I inputs, P outputs (H without a projection).

    w               [G*H, I]
    r               [G*H, P]
    bias            [G*H], or None: the bias beside W x
    recurrent_bias  [G*H], or None: the bias beside R h
    projection      [P, H], or None
    peepholes       [3, H], of the gates i, f, o; or None
    """

    w: Array
    r: Array
    bias: Array | None = None
    recurrent_bias: Array | None = None
    projection: Array | None = None
    peepholes: Array | None = None

    @property
    def arrays(self) -> dict[str, Array]:
        """The arrays that there are, by name."""
        found = {name: getattr(self, name) for name in self.__slots__}
        return {name: array for name, array in found.items() if array is not None}

    @property
    def hidden(self) -> int:
        """H; that of the cell state where there is a projection."""
        return int((self.r if self.projection is None else self.projection).shape[1])

    @property
    def input(self) -> int:
        return int(self.w.shape[1])

    @property
    def output(self) -> int:
        """The size of the output: P or H."""
        return int(self.r.shape[1])


@dataclass(frozen=True, slots=True, eq=False)
class RecurrentWeights:
    """The weights of a stack of recurrent layers; see the module for the equations.

    mode         "lstm", "gru", "rnn_tanh" or "rnn_relu"
    cells        by layer, then direction (forward, then backward)
    reset_after  of a GRU: whether the reset gate works on R h (cuDNN, PyTorch) or on h (Cho et al. 2014)

    Raises ConversionError when shapes or dtypes do not fit together.

    Example:
        >>> import numpy as np
        >>> cell = CellWeights(np.ones((12, 5), np.float32), np.ones((12, 3), np.float32))
        >>> weights = RecurrentWeights("lstm", ((cell,),))
        >>> weights.layers, weights.directions, weights.input, weights.hidden
        (1, 1, 5, 3)
        >>> sorted(weights.to("torch"))
        ['weight_hh_l0', 'weight_ih_l0']
    """

    mode: str
    cells: tuple[tuple[CellWeights, ...], ...]
    reset_after: bool = True

    def __post_init__(self) -> None:
        if self.mode not in GATES:
            raise ConversionError(f"mode: expected one of {', '.join(GATES)}, got {self.mode!r}")
        if not self.cells or not all(len(layer) == len(self.cells[0]) for layer in self.cells):
            raise ConversionError("expected one layer or more, with the same number of directions each")
        if len(self.cells[0]) not in (1, 2):
            raise ConversionError(f"expected 1 or 2 directions, got {len(self.cells[0])}")
        for number, layer in enumerate(self.cells):
            inputs = None if number == 0 else sum(c.output for c in self.cells[number - 1])
            for direction, cell in enumerate(layer):
                _check_cell(self, cell, f"layer {number}, {('forward', 'backward')[direction]}", inputs)
        if len({a.dtype for cell in self for a in cell.arrays.values()}) != 1:
            found = ", ".join(sorted({str(a.dtype) for cell in self for a in cell.arrays.values()}))
            raise ConversionError(f"expected arrays of one dtype, got {found}")

    def __iter__(self) -> Iterator[CellWeights]:
        """All cells: layer by layer, forward before backward (cuDNN's pseudo layers)."""
        return (cell for layer in self.cells for cell in layer)

    @property
    def gates(self) -> str:
        return GATES[self.mode]

    @property
    def layers(self) -> int:
        return len(self.cells)

    @property
    def directions(self) -> int:
        return len(self.cells[0])

    @property
    def input(self) -> int:
        return self.cells[0][0].input

    @property
    def hidden(self) -> int:
        """The units of every layer; ConversionError when they differ."""
        return self._one("hidden", "units")

    @property
    def projection(self) -> int:
        """The size of the projected output of every layer, 0 without projections."""
        if all(c.projection is None for c in self):
            return 0
        return self._one("output", "projected outputs")

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.cells[0][0].w.dtype

    def _one(self, size: str, what: str) -> int:
        found = [getattr(cell, size) for cell in self]
        if len(set(found)) != 1:
            raise ConversionError(f"expected layers with the same number of {what}, got {found}")
        return int(found[0])

    def layer(self, index: int) -> RecurrentWeights:
        """One layer as a stack of its own."""
        return replace(self, cells=(self.cells[index],))

    @classmethod
    def stack(cls, layers: Sequence[RecurrentWeights]) -> RecurrentWeights:
        """Layers on top of each other; ConversionError when they are of different kinds or do not fit."""
        kinds = {(w.mode, w.reset_after if w.mode == "gru" else True) for w in layers}
        if len(kinds) != 1:
            raise ConversionError(f"expected layers of one kind, got {sorted(k[0] for k in kinds)}"
                                  f"{' with both placements of the reset gate' if len(kinds) == 2 else ''}")
        return cls(layers[0].mode, tuple(layer for w in layers for layer in w.cells), layers[0].reset_after)

    def to(self, system: str, **options: Unpack[Options]) -> dict[str, Array]:
        """The arrays as ``system`` names and lays them out; see `convert` for systems, options and errors."""
        return find(system).write(self, options)

    def equals(self, other: RecurrentWeights) -> bool:
        """Whether the other is the same to the bit."""
        same = (self.mode, self.layers, self.directions) == (other.mode, other.layers, other.directions)
        if not same or (self.mode == "gru" and self.reset_after != other.reset_after):
            return False
        return all(_same_cell(a, b) for a, b in zip(self, other, strict=True))


def _check_cell(weights: RecurrentWeights, cell: CellWeights, where: str, inputs: int | None) -> None:
    """ConversionError unless the arrays of a cell fit together."""
    if not all(isinstance(a, np.ndarray) and a.dtype.kind == "f" for a in cell.arrays.values()):
        kinds = {name: getattr(a, "dtype", type(a)) for name, a in cell.arrays.items()}
        raise ConversionError(f"{where}: expected arrays of floating point numbers, got {kinds}")
    if any(cell.arrays[name].ndim != 2 or 0 in cell.arrays[name].shape
           for name in ("w", "r", "projection", "peepholes") if name in cell.arrays):
        raise ConversionError(f"{where}: expected matrices that are not empty, got {_shapes(cell)}")
    if weights.mode != "lstm" and (cell.projection is not None or cell.peepholes is not None):
        raise ConversionError(f"{where}: only an LSTM has a projection or peepholes, not {weights.mode}")
    hidden = cell.hidden
    rows = len(weights.gates) * hidden
    expected: dict[str, tuple[int, ...]] = {
        "w": (rows, cell.input if inputs is None else inputs), "r": (rows, cell.output), "bias": (rows,),
        "recurrent_bias": (rows,), "projection": (cell.output, hidden), "peepholes": (len(PEEPHOLES), hidden)}
    wrong = {name: a.shape for name, a in cell.arrays.items() if a.shape != expected[name]}
    if wrong:
        raise ConversionError(f"{where}: {weights.mode} of {hidden} units: expected the shapes "
                              f"{ {name: expected[name] for name in wrong} }, got {wrong}")


def _shapes(cell: CellWeights) -> dict[str, tuple[int, ...]]:
    return {name: a.shape for name, a in cell.arrays.items()}


def _same_cell(a: CellWeights, b: CellWeights) -> bool:
    first, second = a.arrays, b.arrays
    return first.keys() == second.keys() and all(
        x.dtype == second[name].dtype and x.shape == second[name].shape and x.tobytes() == second[name].tobytes()
        for name, x in first.items())
