"""Images on a grid with room for a convolution's taps: the values of `lower-conv`.

A grid has more rows and columns than the image, behind it, and zeros there. Flattened, a tap's neighbour is then a
fixed number of rows away: the cell to the left of a line's first one is the padding of the line before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import prod

from rnngraph.ir import Builder, Op, Value
from rnngraph.ir.grid_ops import PAD, SHIFT_ROWS, ConvAttrs, PadAttrs, ShiftRowsAttrs
from rnngraph.ir.ops import ConstAttrs


@dataclass(frozen=True, slots=True)
class Grid:
    """``data``: the image's sizes; ``sizes``: the grid's, which are at least as large."""

    data: tuple[int, ...]
    sizes: tuple[int, ...]

    @property
    def image(self) -> int:
        """Rows of one image."""
        return prod(self.sizes)

    def offset(self, tap: Sequence[int]) -> int:
        """How many rows away a neighbour is."""
        at = 0
        for size, t in zip(self.sizes, tap, strict=True):
            at = at * size + t
        return at

    def holds(self, other: Grid) -> bool:
        """Whether the same image stands on this grid with at least as much room."""
        return self.data == other.data and all(a >= b for a, b in zip(self.sizes, other.sizes, strict=True))


def spatial(conv: Op) -> tuple[int, ...]:
    """The spatial sizes of a convolution's input."""
    n = len(attrs_of(conv).strides)
    return tuple(d for d in conv.operands[0].shape[-1 - n : -1] if isinstance(d, int))


def attrs_of(conv: Op) -> ConvAttrs:
    assert isinstance(conv.attrs, ConvAttrs)
    return conv.attrs


def has_grid(conv: Op) -> bool:
    """Whether the sizes of the image, and the zeros around it, are numbers."""
    a = attrs_of(conv)
    return all(isinstance(d, int) for d in (*conv.operands[0].shape[-1 - len(a.strides) : -1], *a.low, *a.high))


def taps(conv: Op) -> list[tuple[int, ...]]:
    """Where each tap of the kernel looks, from the place of the output (at stride 1)."""
    a = attrs_of(conv)
    kernel = [int(d) for d in conv.operands[1].shape[: len(a.strides)]]
    return [tuple(t * d - int(lo) for t, d, lo in zip(tap, a.dilation, a.low, strict=True))
            for tap in product(*map(range, kernel))]


def grid_of(conv: Op) -> Grid:
    """The smallest grid on which no tap meets data of another line."""
    a, data = attrs_of(conv), spatial(conv)
    out = [int(d) for d in conv.result.shape[-1 - len(data) : -1]]
    sizes = []
    for axis, (n, lo, s, m) in enumerate(zip(data, a.low, a.strides, out, strict=True)):
        reach = max(tap[axis] for tap in taps(conv))
        sizes.append(max(n + int(lo), (m - 1) * s + reach + 1, (m - 1) * s + 1))
    return Grid(data, tuple(sizes))


def keeps_size(conv: Op) -> bool:
    """Whether the output is as large as the input, without strides."""
    return conv.operands[0].shape[:-1] == conv.result.shape[:-1] and set(attrs_of(conv).strides) == {1}


# --- building -----------------------------------------------------------------------------------------------------


def zero_splat(value: Value) -> Value | None:
    """The scalar zero that ``value`` repeats, if that is what it is."""
    op = value.op
    if op is None or op.name != "broadcast" or op.operands[0].type.rank:
        return None
    scalar = op.operands[0]
    known = scalar.op is not None and isinstance(scalar.op.attrs, ConstAttrs) and not scalar.op.attrs.value.array.any()
    return scalar if known else None


def padded(b: Builder, value: Value, axis: int, grid: Grid) -> Value:
    """``value``, whose axes from ``axis`` on are an image, on the grid, with zeros around it."""
    more = [g - d for g, d in zip(grid.sizes, grid.data, strict=True)]
    if not any(more):
        return value
    high = (*[0] * axis, *more, *[0] * (value.type.rank - axis - len(more)))
    shape = tuple(d + h if isinstance(d, int) else d for d, h in zip(value.shape, high, strict=True))
    if (zero := zero_splat(value)) is not None:
        return b.broadcast(zero, shape, ())
    return b.op(PAD, value, attrs=PadAttrs((0,) * len(high), high), hint=value.hint)


def cropped(b: Builder, value: Value, axis: int, sizes: Sequence[int], strides: Sequence[int]) -> Value:
    """The image from the grid: its first cells, or every ``strides``-th."""
    for k, (size, step) in enumerate(zip(sizes, strides, strict=True)):
        value = b.slice(value, axis + k, 0, size, step)
    return value


def shifted(b: Builder, value: Value, by: int, grid: Grid) -> Value:
    return b.op(SHIFT_ROWS, value, attrs=ShiftRowsAttrs(by, grid.image), hint=value.hint) if by else value


def as_matrix(b: Builder, conv: Op) -> Value:
    """The kernel [*size, channels / groups, filters] as [taps * channels, filters]; zeros between groups."""
    kernel, groups = conv.operands[1], attrs_of(conv).groups
    if groups > 1:
        per, filters = (int(d) for d in kernel.shape[-2:])
        parts = []
        for g in range(groups):
            own = b.slice(kernel, -1, g * filters // groups, filters // groups)
            lead = (0,) * (kernel.type.rank - 2)
            attrs = PadAttrs((*lead, g * per, 0), (*lead, (groups - 1 - g) * per, 0))
            parts.append(b.op(PAD, own, attrs=attrs))
        kernel = b.concat(parts, -1)
    rows = prod(int(d) for d in kernel.shape[:-1])
    return b.reshape(kernel, (rows, kernel.shape[-1]))


def as_matmul(b: Builder, outside: Builder, conv: Op, pieces: Sequence[Value], grid: Grid,
              known: dict[tuple[object, ...], Value], early: Builder | None = None) -> Value:
    """The convolution at every cell of the grid: all taps side by side, by the kernel as a matrix; for a depthwise one
    the sum of all taps, each times its numbers.

    ``pieces`` make up the channels; they hold zeros beside the image. ``known`` remembers the left sides, which
    convolutions of one value share and ``early`` builds; ``outside`` builds the matrix.
    """
    if len(pieces) == 1 and attrs_of(conv).groups == conv.result.shape[-1] == conv.operands[0].shape[-1] != 1:
        return _depthwise(b, outside, conv, pieces[0], grid)
    offsets = tuple(grid.offset(tap) for tap in taps(conv))
    key = (*map(id, pieces), offsets)
    if key not in known:
        left = early or b
        known[key] = left.concat([shifted(left, x, by, grid) for by in offsets for x in pieces], -1)
    return b.matmul(known[key], as_matrix(outside, conv), hint=conv.result.hint)


def _depthwise(b: Builder, outside: Builder, conv: Op, x: Value, grid: Grid) -> Value:
    """One filter for each channel."""
    rows = as_rows(outside, conv.operands[1])
    total: Value | None = None
    for k, tap in enumerate(taps(conv)):
        numbers = outside.reshape(outside.slice(rows, 0, k, 1), (rows.shape[1],))
        part = b.mul(shifted(b, x, grid.offset(tap), grid), b.broadcast(numbers, x.shape))
        total = part if total is None else b.add(total, part)
    assert total is not None
    return total


def as_rows(b: Builder, kernel: Value) -> Value:
    """A depthwise kernel [*size, 1, channels] as [taps, channels]."""
    return b.reshape(kernel, (prod(int(d) for d in kernel.shape[:-1]), kernel.shape[-1]))
