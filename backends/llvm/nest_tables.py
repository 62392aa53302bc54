"""The argument tables of nests, and the one word in which they say that an index is out of range.

    table = [word, number of the nest, an address per result and operand, AXES sizes, AXES strides per result and
             operand, a size and a stride per inner axis]

Strides count elements.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np

from rnngraph.backends.llvm.arrays import Arrays
from rnngraph.backends.llvm.tasks import Record
from rnngraph.backends.llvm.words import Words
from rnngraph.errors import InputError
from rnngraph.ir import Array, Op, resolve
from rnngraph.ir.ops import AxisAttrs
from rnngraph.phases.nests import AXES, LOOKUPS, WINDOWS, Nest, nest_of

Axis = tuple[int, tuple[int, ...]]  # a size, and the stride of each value


class NestTables:
    """Makes the records of one plan's nests."""

    def __init__(self, arrays: Arrays, words: Words, code: Mapping[Op, int]) -> None:
        self.arrays = arrays
        self.words = words
        self.code = code
        self.checked: list[Callable[[int], None]] = []  # what raises the errors; the first one's number is 1
        self.bad = np.zeros(2, np.int64)  # the number of a nest that did, and the index

    def record(self, op: Op) -> Record:
        """The call of a nest."""
        nest = nest_of(op)
        arrays = [self.arrays.get(v) for v in (*op.results, *op.operands)]
        number = 0
        if op.name in LOOKUPS:
            number = self.checks(partial(self._out_of_range, op))
        axes = outer_axes(resolve(nest.shape, self.arrays.dims), nest, arrays, apart=op.name in WINDOWS)
        inner = [n for k, a in nest.inner for n in (arrays[k].shape[a], arrays[k].strides[a] // arrays[k].itemsize)]
        numbers = [int(self.bad.ctypes.data), number, *[0] * len(arrays), *(size for size, _ in axes)]
        numbers += [strides[k] for k in range(len(arrays)) for _, strides in axes]
        at = self.words.table([*numbers, *inner])
        for k, array in enumerate(arrays):
            self.words.put(at + 2 + k, array)
        return (self.code[op], at)

    def checks(self, fail: Callable[[int], None]) -> int:
        """The number under which native code notes a wrong value, for which ``fail`` then raises."""
        self.checked.append(fail)
        return len(self.checked)

    def check(self) -> None:
        """InputError when something was out of range. What the call computed is not to be seen."""
        if self.bad[0]:
            fail, value = self.checked[int(self.bad[0]) - 1], int(self.bad[1])
            self.bad[0] = 0
            fail(value)

    def _out_of_range(self, op: Op, index: int) -> None:
        axis = op.attrs.axis if isinstance(op.attrs, AxisAttrs) else 0
        size = self.arrays.get(op.operands[0]).shape[axis]
        least = 0 if op.name == "gather" else -size
        where = f" of layer {op.layer!r}" if op.layer else ""
        raise InputError(f"{op.name}{where}: indices must be in {least}..{size - 1}, got {index}")


def outer_axes(sizes: Sequence[int], nest: Nest, arrays: Sequence[Array], *, apart: bool) -> list[Axis]:
    """The outer loops: those of size one left out, those that are one in memory taken together, filled up to AXES.
    ``apart``: all stay, for a body that asks where it stands."""
    axes: list[Axis] = []
    for i, size in enumerate(sizes):
        if size == 1 and not apart:
            continue
        strides = tuple(0 if (a := m[i]) is None else array.strides[a] // array.itemsize
                        for m, array in zip(nest.maps, arrays, strict=True))
        if axes and not apart and all(before == size * s for before, s in zip(axes[-1][1], strides, strict=True)):
            axes[-1] = axes[-1][0] * size, strides
        else:
            axes.append((size, strides))
    return [(1, (0,) * len(arrays))] * (AXES - len(axes)) + axes


__all__ = ["NestTables"]
