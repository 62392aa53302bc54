"""The rows of a stage in memory: how many nested strides they take.

Where a value's rows do not lie one stride apart (the interior of a padded image, windows of several sequences), the
native loop runs over up to two outer axes, each with strides of its own, and over the rows that are even.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod

from rnngraph.ir import Array

FEW_ROWS = 8  # a matmul of fewer rows at a time reads its weights too often: lay the rows out anew instead
FEW_NUMBERS = 64  # and so does other work on fewer numbers at a time: calls cost more than copies


@dataclass(frozen=True, slots=True)
class Split:
    """The axes of rows in three groups, cut at ``cuts``, and how many places each group has."""

    cuts: tuple[int, int] = (0, 0)
    counts: tuple[int, int, int] = (1, 1, 1)

    @property
    def steps(self) -> int:
        """Of the outer loop."""
        return self.counts[0] * self.counts[1]


def whole(sizes: Sequence[int]) -> Split:
    """All rows one stride apart."""
    return Split((0, 0), (1, 1, prod(sizes)))


def split_rows(sizes: Sequence[int], arrays: Sequence[Array], *, matmul: bool) -> Split:
    """The split in which every array (rows and lanes) has one stride per group; `whole` when there is none worth it."""
    axes = [axis for axis, n in enumerate(sizes) if n != 1]
    cuts = [inner for outer, inner in pairwise(axes)
            if any(a.strides[outer] != sizes[inner] * a.strides[inner] for a in arrays)]
    if not cuts or len(cuts) > 2:
        return whole(sizes)
    first, second = cuts if len(cuts) == 2 else (0, cuts[0])
    inner = prod(sizes[second:])
    if (matmul and inner < FEW_ROWS) or inner * max(a.shape[-1] for a in arrays) < FEW_NUMBERS:
        return whole(sizes)
    return Split((first, second), (prod(sizes[:first]), prod(sizes[first:second]), inner))


def strides_in(array: Array, split: Split) -> tuple[int, int, int] | None:
    """The strides (in floats) of an array's rows, one per group; None when a group has none, or when the lanes are not
    side by side."""
    if not lanes_fit(array):
        return None
    first, second = split.cuts
    rank = array.ndim - 1
    found = [_stride(array, *part) for part in ((0, first), (first, second), (second, rank))]
    if any(s is None for s in found):
        return None
    outer, middle, inner = (int(s) // 4 for s in found if s is not None)
    return outer, middle, inner


def lanes_fit(array: Array) -> bool:
    """Whether the last axis is side by side in memory."""
    return array.shape[-1] == 1 or array.strides[-1] == 4


def row_stride(array: Array) -> int | None:
    """The one stride (in floats) from row to row when all dims but the last are rows; None when there is none, or
    when the lanes are not contiguous."""
    found = strides_in(array, Split())
    return None if found is None else found[2]


def _stride(array: Array, begin: int, end: int) -> int | None:
    dims = [(n, s) for n, s in zip(array.shape[begin:end], array.strides[begin:end], strict=True) if n != 1]
    if any(outer != n * inner for (_, outer), (n, inner) in pairwise(dims)):
        return None
    return dims[-1][1] if dims else 0


__all__ = ["Split", "lanes_fit", "row_stride", "split_rows", "strides_in", "whole"]
