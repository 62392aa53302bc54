"""The weights of recurrent layers in the canonical form of `rnngraph.weights`, and back.

Cells lay their arrays out as Keras does (`rnngraph.nn.cells.gated`); peepholes and a projection stand beside them. What
a cell's graph adds to the forget gate (``forget_bias``) is its recurrent bias in the canonical form.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TypeAlias

import numpy as np

from rnngraph.errors import RnngraphError, ShapeError, TraceError
from rnngraph.ir import Array
from rnngraph.nn import ops
from rnngraph.nn.cell import Cell
from rnngraph.nn.cells import GRUCell, LSTMCell, LSTMPCell, SimpleRNNCell
from rnngraph.nn.layer import Layer
from rnngraph.nn.weights import WeightOwner
from rnngraph.weights import CellWeights, RecurrentWeights
from rnngraph.weights.fit import Limits, fit
from rnngraph.weights.formats import keras
from rnngraph.weights.gates import PEEPHOLES

CellStack: TypeAlias = list[list[Cell]]  # cells by layer, then direction
KINDS: dict[type[Cell], str] = {LSTMCell: "lstm", LSTMPCell: "lstm", GRUCell: "gru", SimpleRNNCell: "rnn_tanh"}


class RecurrentStack(Layer, ABC):
    """A layer whose recurrent cells are a stack, so that their weights can be taken and set together."""

    @abstractmethod
    def recurrent_cells(self) -> CellStack:
        """The cells by layer, then direction."""

    @property
    def recurrent_depth(self) -> int:
        return len(self.recurrent_cells())

    def recurrent_weights(self, weights_only: bool = False) -> RecurrentWeights:
        """The weights of the recurrent layers in here, in the canonical form; see `rnngraph.weights.extract`."""
        return read(self.recurrent_cells(), f"layer {self.path!r}", weights_only)

    def set_recurrent_weights(self, weights: RecurrentWeights) -> None:
        """Set the weights of the recurrent layers in here; see `rnngraph.weights.assign`."""
        write(self.recurrent_cells(), weights, f"layer {self.path!r}")


@contextmanager
def all_or_nothing(owner: WeightOwner) -> Iterator[None]:
    """After an error in here, the weights of ``owner`` are as they were."""
    before = {id(weight): weight._array for weight in owner.named_weights().values()}
    try:
        yield
    except RnngraphError:
        for weight in owner.named_weights().values():
            weight._array = before.get(id(weight))
        raise


def read(stack: CellStack, label: str, weights_only: bool = False) -> RecurrentWeights:
    """The weights of the cells; TraceError for cells of no common kind, cells that are not built, and what the weights
    do not say (other activations, clipping) unless ``weights_only``."""
    layers = []
    for cells in stack:
        directions = [_read_cell(cell, label, weights_only) for cell in cells]
        together = tuple(w.cells[0][0] for w in directions)
        if len({(w.mode, w.reset_after) for w in directions}) != 1:
            raise TraceError(f"{label}: expected both directions of one kind, got {[w.mode for w in directions]}")
        layers.append(replace(directions[0], cells=(together,)))
    return RecurrentWeights.stack(layers)


def write(stack: CellStack, weights: RecurrentWeights, label: str) -> None:
    """Set the weights of the cells, building them where they are not built; all of them, or with an error none.

    float32; two biases are added where a cell has one. ConversionError names what would be lost, TraceError a cell of
    another kind, ShapeError another size.
    """
    shape = (len(stack), len(stack[0]))
    if shape != (weights.layers, weights.directions):
        raise TraceError(f"{label} has {shape[0]} recurrent layer(s) of {shape[1]} direction(s), the weights are of "
                         f"{weights.layers} of {weights.directions}")
    prepared: list[tuple[Cell, dict[str, Array]]] = []
    for cell, given in _pairs(stack, weights):
        cell.ensure_built(given.input)
        arrays = _arrays(cell, replace(weights, cells=((given,),)), label)
        for name, weight in cell.named_weights().items():
            if arrays[name].shape != weight.shape:
                raise ShapeError(f"{label}: {name}: expected the shape {list(weight.shape)}, the weights have "
                                 f"{list(arrays[name].shape)}")
        prepared.append((cell, arrays))
    for cell, arrays in prepared:
        cell.set_weights(arrays)


def _pairs(stack: CellStack, weights: RecurrentWeights) -> Iterator[tuple[Cell, CellWeights]]:
    for cells, layer in zip(stack, weights.cells, strict=True):
        yield from zip(cells, layer, strict=True)


def _read_cell(cell: Cell, label: str, weights_only: bool) -> RecurrentWeights:
    mode = _kind(cell, label)
    if isinstance(cell, SimpleRNNCell) and cell.activation is ops.relu:
        mode = "rnn_relu"
    if not weights_only and (odd := list(_beyond_weights(cell))):
        raise TraceError(f"{label}: {cell.label} has {', '.join(odd)}, which weights do not say, so that another "
                         "system may compute something else; weights_only=True takes the weights all the same")
    arrays = {name: weight.array for name, weight in cell.named_weights().items()}
    if not arrays:
        raise TraceError(f"{label} has no weights yet; build it first: layer.build(input_shape)")
    plain = {name: array for name, array in arrays.items() if name in keras.LEAVES}
    after = not isinstance(cell, GRUCell) or cell.reset_after
    one = keras.read_cell(plain, mode, after)
    if isinstance(cell, LSTMCell):
        one = replace(one, recurrent_bias=_forget(cell, one),
                      projection=arrays["projection"].T if "projection" in arrays else None,
                      peepholes=np.stack([arrays[f"peephole_{g}"] for g in PEEPHOLES]) if cell.peepholes else None)
    return RecurrentWeights(mode, ((one,),), after)


def _forget(cell: LSTMCell, weights: CellWeights) -> Array | None:
    """What the cell's graph adds to the gate f, as a bias; None where it adds nothing."""
    if not cell.forget_bias:
        return None
    found = np.zeros(weights.w.shape[0], weights.w.dtype)
    found[cell.units : 2 * cell.units] = cell.forget_bias
    return found


def _arrays(cell: Cell, weights: RecurrentWeights, label: str) -> dict[str, Array]:
    """The arrays of one cell, float32, by name."""
    kind, mode = _kind(cell, label), weights.mode
    if mode != kind and not (mode.startswith("rnn") and kind.startswith("rnn")):
        raise TraceError(f"{label}: the weights are for {mode}, {cell.label} is of the kind {kind}")
    mine = cell.named_weights()
    ((one,),) = weights.cells
    if isinstance(cell, LSTMCell) and cell.forget_bias:
        extra = _forget(cell, one)
        assert extra is not None
        one = replace(one, recurrent_bias=-extra if one.recurrent_bias is None else one.recurrent_bias - extra)
    limits = Limits("keras", (not isinstance(cell, GRUCell) or cell.reset_after,), projection="projection" in mine,
                    peepholes="peephole_i" in mine, need_bias="bias" in mine)
    ((one,),) = fit(replace(weights, cells=((one,),)), limits, label, fold=True).cells
    if "bias" not in mine:
        one = _without_bias(one, label)
    if "projection" in mine and one.projection is None:
        raise TraceError(f"{label}: {cell.label} has a projection, the weights have none")
    arrays = keras.write_cell(one, mode, weights.reset_after)
    if one.projection is not None:
        arrays["projection"] = one.projection.T
    if "peephole_i" in mine:
        rows = np.zeros((len(PEEPHOLES), one.hidden), np.float32) if one.peepholes is None else one.peepholes
        arrays |= {f"peephole_{g}": row for g, row in zip(PEEPHOLES, rows, strict=True)}
    return {name: as_float32(array, f"{label}: {name}") for name, array in arrays.items()}


def _without_bias(cell: CellWeights, label: str) -> CellWeights:
    if any(b is not None and np.any(b != 0) for b in (cell.bias, cell.recurrent_bias)):
        raise TraceError(f"{label} has use_bias=False; the bias of the weights would be lost")
    return replace(cell, bias=None, recurrent_bias=None)


def as_float32(array: Array, what: str) -> Array:
    """The array as float32; TraceError where a number is beyond it, such as 1e300."""
    with np.errstate(over="ignore"):
        found = array.astype(np.float32)
    if np.any(np.isinf(found) & np.isfinite(array)):
        raise TraceError(f"{what}: has numbers beyond float32")
    return found


def _kind(cell: Cell, label: str) -> str:
    """The mode of a cell, a SimpleRNN's without its activation; TraceError for other cells."""
    if type(cell) not in KINDS:
        raise TraceError(f"{label}: only LSTM, GRU and SimpleRNN have weights in other systems' layouts, got "
                         f"{cell.label}")
    if isinstance(cell, LSTMCell) and "f" not in cell.gate_names:
        raise TraceError(f"{label}: an LSTM with input_forget has no weights for the gate f")
    return KINDS[type(cell)]


def _beyond_weights(cell: Cell) -> Iterator[str]:
    """What the cell computes otherwise than the equations of the canonical form."""
    if isinstance(cell, SimpleRNNCell):
        if cell.activation not in (ops.tanh, ops.relu):
            yield "an activation other than tanh or relu"
    elif isinstance(cell, LSTMCell | GRUCell):
        if cell.activation is not ops.tanh:
            yield "an activation other than tanh"
        if cell.recurrent_activation is not ops.sigmoid:
            yield "a recurrent_activation other than sigmoid"
    yield from (name for name in ("clip", "cell_clip", "proj_clip") if getattr(cell, name, None) is not None)
