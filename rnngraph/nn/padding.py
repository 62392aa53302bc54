"""Padding with constants or with what stands at the edge; part of `rnngraph.nn.ops`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rnngraph.errors import TraceError
from rnngraph.ir import Array, Builder, Dim, Value, dims, index_ops
from rnngraph.ir.grid_ops import PAD, PadAttrs
from rnngraph.ir.ops import AxisAttrs
from rnngraph.nn.context import active
from rnngraph.nn.tensor import Operand, Tensor, composable, operand, wrap

MODES = ("constant", "reflect", "edge", "wrap")


@composable
def pad(x: Tensor, low: Sequence[Dim], high: Sequence[Dim], mode: str = "constant", value: Operand = 0) -> Tensor:
    """x with ``low`` elements more in front and ``high`` behind along each axis; a negative number cuts off.

    mode   "constant" (``value``, a number or a tensor without dims), "reflect" (mirrored, without the edge itself),
           "edge" (the edge repeated) or "wrap" (from the other end), as in numpy and ONNX

    Modes other than "constant" on an axis of symbolic size reach no further than the axis is long: a call with a
    shorter one is an InputError.

    >>> from rnngraph.nn import Input, ops
    >>> ops.pad(Input(("batch", "time", 8)), (0, 2, 0), (0, 1, -3)).shape
    ('batch', 'time+3', 5)
    """
    if mode not in MODES:
        raise TraceError(f"pad: mode must be one of {', '.join(MODES)}, got {mode!r}")
    if not len(low) == len(high) == x.rank:
        raise TraceError(f"pad: expected {x.rank} numbers in front and behind for {x.type}, got {list(low)} and "
                         f"{list(high)}")
    b, out = active().builder, x.value()
    for axis, (lo, hi) in enumerate(zip(low, high, strict=True)):
        out = _cropped(b, out, axis, lo, hi)
    more = [(0 if _negative(lo) else lo, 0 if _negative(hi) else hi) for lo, hi in zip(low, high, strict=True)]
    if all(pair == (0, 0) for pair in more):
        return wrap(out)
    if mode == "constant" and isinstance(value, int | float) and value == 0:
        return wrap(b.op(PAD, out, attrs=PadAttrs(tuple(lo for lo, _ in more), tuple(hi for _, hi in more))))
    for axis, (lo, hi) in enumerate(more):
        if (lo, hi) != (0, 0):
            out = _constant(b, out, axis, lo, hi, value) if mode == "constant" else _mirrored(b, out, axis, lo, hi,
                                                                                              mode)
    return wrap(out)


def _negative(n: Dim) -> bool:
    return isinstance(n, int) and n < 0


def _cropped(b: Builder, x: Value, axis: int, lo: Dim, hi: Dim) -> Value:
    """The negative paddings."""
    front, behind = (-n if isinstance(n, int) and n < 0 else 0 for n in (lo, hi))
    if not front and not behind:
        return x
    return b.slice(x, axis, front, dims.sub(x.shape[axis], front + behind))


def _constant(b: Builder, x: Value, axis: int, lo: Dim, hi: Dim, value: Operand) -> Value:
    given = operand(value)
    fill = b.reshape(given, ()) if isinstance(given, Value) else b.const(given, x.type.dtype)

    def block(n: Dim) -> list[Value]:
        return [] if n == 0 else [b.broadcast(fill, (*x.shape[:axis], n, *x.shape[axis + 1 :]), ())]

    return b.concat([*block(lo), x, *block(hi)], axis)


def _mirrored(b: Builder, x: Value, axis: int, lo: Dim, hi: Dim, mode: str) -> Value:
    size = x.shape[axis]
    if not isinstance(lo, int) or not isinstance(hi, int):
        raise TraceError(f"pad: mode {mode} takes whole numbers, got {lo} and {hi}")
    most = 1 if mode == "reflect" else 0
    if size == 0:
        raise TraceError(f"pad: mode {mode} has nothing to repeat in axis {axis} of {x.type}")
    if isinstance(size, int) and mode != "edge" and max(lo, hi) + most > size:
        return b.op(index_ops.TAKE, x, b.const(_order(size, lo, hi, mode)), attrs=AxisAttrs(axis))
    parts = [x]
    if lo:
        parts.insert(0, _front(b, x, axis, lo, mode))
    if hi:
        parts.append(_behind(b, x, axis, hi, mode))
    return b.concat(parts, axis)


def _order(size: int, lo: int, hi: int, mode: str) -> Array:
    """Which element stands at each place, around the axis as often as it takes."""
    places = np.arange(-lo, size + hi, dtype=np.int64)
    if mode == "wrap":
        return np.asarray(places % size)
    there = max(1, 2 * (size - 1))  # to the other end and back, neither of them twice
    return np.minimum(places % there, there - places % there) if size > 1 else np.zeros_like(places)


def _front(b: Builder, x: Value, axis: int, n: int, mode: str) -> Value:
    if mode == "edge":
        return _repeated(b, b.slice(x, axis, 0, 1), axis, n)
    return b.reverse(b.slice(x, axis, 1, n), axis) if mode == "reflect" else b.slice(x, axis, -n, n)


def _behind(b: Builder, x: Value, axis: int, n: int, mode: str) -> Value:
    if mode == "edge":
        return _repeated(b, b.slice(x, axis, -1, 1), axis, n)
    return b.reverse(b.slice(x, axis, -1 - n, n), axis) if mode == "reflect" else b.slice(x, axis, 0, n)


def _repeated(b: Builder, x: Value, axis: int, n: int) -> Value:
    return b.expand(x, (*x.shape[:axis], n, *x.shape[axis + 1 :]))


__all__ = ["pad"]
