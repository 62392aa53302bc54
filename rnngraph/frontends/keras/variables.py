"""How the variables of a Keras layer become the weights of ours."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from rnngraph.errors import ConversionError, ImportModelError
from rnngraph.ir import Array
from rnngraph.nn import Layer
from rnngraph.nn.weights import Weight
from rnngraph.weights import convert

Shapes: TypeAlias = Sequence[tuple[int, ...]]
Conversion: TypeAlias = Callable[[list[Array], Shapes], list[Array]]


def as_they_are(arrays: list[Array], shapes: Shapes) -> list[Array]:
    return arrays


def from_cudnn(arrays: list[Array], shapes: Shapes) -> list[Array]:
    """Kernel, recurrent kernel and bias of an LSTM or GRU; converted where they are those of a CuDNN layer.

    Such a layer has two biases in a row, [8u] or [6u] (Keras 2's CuDNNLSTM and CuDNNGRU).
    """
    if len(arrays) != 3 or len(shapes) != 3 or arrays[2].ndim != 1 or arrays[1].ndim != 2:
        return arrays
    gates = arrays[1].shape[1] // max(1, arrays[1].shape[0])
    if gates not in (3, 4) or len(arrays[2]) != 2 * arrays[1].shape[1]:
        return arrays
    named = dict(zip(("kernel", "recurrent_kernel", "bias"), arrays, strict=True))
    try:
        found = convert(named, "keras_cudnn", "keras", mode="gru" if gates == 3 else "lstm")
    except ConversionError as e:
        raise ImportModelError(f"weights in the layout of cuDNN: {e}") from None
    return [found[name] for name in named]


@dataclass(frozen=True, slots=True)
class Variables:
    """Some variables of a Keras layer, in its order.

    place      where they stand in a file of Keras 3, from the layer: "cell", "forward_layer/cell", ""
    targets    the names of our weights that they become; "" for one that is not needed, such as a counter
    fixed      the indices of those that are not trained, which the old formats put last
    conversion from Keras's arrays to ours
    """

    place: str
    targets: tuple[str, ...]
    fixed: tuple[int, ...] = ()
    conversion: Conversion = as_they_are

    def within(self, place: str, target: str) -> Variables:
        """The same, of a layer inside of another one."""
        targets = tuple(f"{target}/{t}" if t and target else t for t in self.targets)
        return replace(self, place=f"{place}/{self.place}" if self.place else place, targets=targets)

    def frozen(self) -> Variables:
        """The same, of a layer that is not trained."""
        return replace(self, fixed=tuple(range(len(self.targets))))


@dataclass(frozen=True, slots=True)
class Made:
    """A layer of ours and the variables of Keras's in the order of its ``weights``."""

    layer: Layer
    variables: tuple[Variables, ...] | None = ()  # None: all weights of the layer, in order


def inside(variables: Iterable[Variables], place: str, target: str) -> tuple[Variables, ...]:
    return tuple(v.within(place, target) for v in variables)


def old_order(variables: Sequence[Variables]) -> list[tuple[int, int]]:
    """(group, index) of all variables in the order of the HDF5 format: those that are trained, then the others."""
    pairs = [(g, i) for g, v in enumerate(variables) for i in range(len(v.targets))]
    return sorted(pairs, key=lambda pair: pair[1] in variables[pair[0]].fixed)


def assign(made: Made, groups: Sequence[list[Array]], where: str) -> None:
    """Set the weights of a built layer from the arrays of each group."""
    mine = made.layer.named_weights()
    assert made.variables is not None
    missing = set(mine)
    for variables, arrays in zip(made.variables, groups, strict=True):
        weights = [mine[t] if t else None for t in variables.targets]
        shapes = [tuple(int(d) for d in w.shape) for w in weights if w is not None]
        for target, weight, array in zip(variables.targets, weights, variables.conversion(arrays, shapes), strict=True):
            if weight is not None:
                _set(weight, array, where, target)
                missing.discard(target)
    if missing:
        raise ImportModelError(f"{where}: no values for its weights {', '.join(sorted(missing))}")


def _set(weight: Weight, array: Array, where: str, target: str) -> None:
    shape = tuple(int(d) for d in weight.shape)
    if array.shape != shape:
        if array.size == np.prod(shape) and [d for d in array.shape if d != 1] == [d for d in shape if d != 1]:
            array = array.reshape(shape)  # axes of size 1 that Keras keeps or leaves out
        else:
            raise ImportModelError(f"{where}: its weight {target!r} has shape {list(shape)}, the values have "
                                   f"{list(array.shape)}")
    if array.dtype.kind not in "fiu":
        raise ImportModelError(f"{where}: its weight {target!r} is given as {array.dtype}, expected numbers")
    weight.assign(np.asarray(array, np.float32))
