"""Whether weights fit a layout: what it cannot hold is an error that names it; two biases become one where they may."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from rnngraph.errors import ConversionError
from rnngraph.weights.gates import Array, join, split

if TYPE_CHECKING:
    from rnngraph.weights.canonical import CellWeights, RecurrentWeights


@dataclass(frozen=True, slots=True)
class Limits:
    """What a layout can hold.

    biases      "two": beside W x and beside R h. "one": their sum; a GRU with reset_after then has none beside R h.
                "gru": one, and a GRU with reset_after has that of gate n beside R h too. "keras": two of a GRU with
                reset_after, else one
    reset       the placements of a GRU's reset gate: the values of reset_after
    projection  whether there are projections
    peepholes   whether there are peepholes
    uniform     whether all layers have the same number of units (and of projected outputs)
    need_bias   whether the bias has to be there; it is then zero
    """

    biases: str
    reset: tuple[bool, ...]
    projection: bool = False
    peepholes: bool = False
    uniform: bool = False
    need_bias: bool = False


def fit(weights: RecurrentWeights, limits: Limits, title: str, fold: bool) -> RecurrentWeights:
    """The weights as a layout takes them; ConversionError naming what it has no place for."""
    if weights.mode == "gru" and weights.reset_after not in limits.reset:
        where = {True: "on the product R h (reset_after=True)", False: "on the state h (reset_after=False)"}
        raise ConversionError(f"{title}: the reset gate of its GRU works {where[not weights.reset_after]}; these "
                              f"weights are for one {where[weights.reset_after]}, which is another function")
    for what, known in (("projection", limits.projection), ("peepholes", limits.peepholes)):
        if not known and any(getattr(cell, what) is not None for cell in weights):
            raise ConversionError(f"{title}: has no place for the {what} of these weights")
    if limits.uniform:
        sizes = [(cell.hidden, cell.projection is not None and cell.output) for cell in weights]
        if len(set(sizes)) != 1:
            raise ConversionError(f"{title}: has one number of units for all layers; these weights have "
                                  f"{[hidden for hidden, _ in sizes]}: convert layer by layer, with .layer(i)")
    none = all(cell.bias is None and cell.recurrent_bias is None for cell in weights)
    if none and not limits.need_bias:
        return weights
    cells = tuple(tuple(_with_biases(weights, cell, limits, title, fold) for cell in layer)
                  for layer in weights.cells)
    return replace(weights, cells=cells)


def _with_biases(weights: RecurrentWeights, cell: CellWeights, limits: Limits, title: str, fold: bool) -> CellWeights:
    zeros = np.zeros(len(weights.gates) * cell.hidden, weights.dtype)
    bias = zeros if cell.bias is None else cell.bias
    recurrent = zeros if cell.recurrent_bias is None else cell.recurrent_bias
    folding = weights.mode != "gru" or not weights.reset_after
    if limits.biases == "two" or (limits.biases == "keras" and not folding):
        return replace(cell, bias=bias, recurrent_bias=recurrent)
    if folding:
        return replace(cell, bias=add(bias, recurrent, title, fold), recurrent_bias=None)
    inner, outer = split(bias, weights.gates), split(recurrent, weights.gates)
    summed = {g: add(inner[g], outer[g], title, fold) for g in "rz"} | {"n": inner["n"]}
    if limits.biases == "gru":
        rest = {"r": np.zeros_like(outer["r"]), "z": np.zeros_like(outer["z"]), "n": outer["n"]}
        return replace(cell, bias=join(summed, weights.gates), recurrent_bias=join(rest, weights.gates))
    if np.any(outer["n"] != 0):
        raise ConversionError(f"{title}: its GRU has no bias beside R h; the recurrent bias of the candidate gate n "
                              "would be lost, and it cannot be added to the input's, since r multiplies it")
    return replace(cell, bias=join(summed, weights.gates), recurrent_bias=None)


def add(bias: Array, recurrent: Array, title: str, fold: bool) -> Array:
    """The sum; where one of the two is zero, the other to the bit. ConversionError when ``fold`` is off and it is not.

    >>> add(np.float32([-0.0, 1.0]), np.float32([0.0, 2.0]), "here", True)
    array([-0.,  3.], dtype=float32)
    """
    both = (bias != 0) & (recurrent != 0)
    if not fold and np.any(both):
        raise ConversionError(f"{title}: has one bias where these weights have two, and fold_bias=False forbids to "
                              "add them")
    found = np.where(recurrent == 0, bias, recurrent)
    with np.errstate(over="ignore", invalid="ignore"):
        return np.add(bias, recurrent, out=found, where=both)
