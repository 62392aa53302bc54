"""Convolutions between images that stay as they are: matmuls of the input's own memory, read window by window.

Along the last spatial axis a window of neighbouring cells is one run of memory, so that each row of the kernel is one
piece of the matmul's left side; the other axes give one piece for each of their taps, a slice with the axis's stride.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

from rnngraph.ir import Builder, Op, Value
from rnngraph.ir.grid_ops import PAD, WINDOWS, PadAttrs, WindowsAttrs
from rnngraph.passes._grid import as_matrix, as_rows, attrs_of

MOST_PIECES = 64  # of one matmul's left side: each is code of its own


def lower(b: Builder, conv: Op) -> Value:
    """What the convolution is, without it. The result's numbers are sums over taps and channels, in that order."""
    x = _padded(b, conv)
    kernel, groups = conv.operands[1], attrs_of(conv).groups
    per, filters = (int(d) for d in kernel.shape[-2:])
    if groups == 1:
        return _sum_of_matmuls(b, _kernel_rows(b, conv, x), as_matrix(b, conv), conv.result.hint)
    taps = _taps(b, conv, x)
    if per == 1 and filters == groups:
        return _depthwise(b, conv, taps)
    if groups * len(taps) > MOST_PIECES:  # a matrix with zeros between the groups
        return _sum_of_matmuls(b, taps, as_matrix(b, conv), conv.result.hint)
    out = []
    for g in range(groups):
        own = b.slice(kernel, -1, g * filters // groups, filters // groups)
        matrix = b.reshape(own, (len(taps) * per, filters // groups))
        out.append(_sum_of_matmuls(b, [b.slice(t, -1, g * per, per) for t in taps], matrix, conv.result.hint))
    return b.concat(out, -1)


def _padded(b: Builder, conv: Op) -> Value:
    """The input with the zeros around it that the convolution asks for."""
    a, x = attrs_of(conv), conv.operands[0]
    if all(n == 0 for n in (*a.low, *a.high)):
        return x
    lead = (0,) * (x.type.rank - 1 - len(a.low))
    return b.op(PAD, x, attrs=PadAttrs((*lead, *a.low, 0), (*lead, *a.high, 0)), hint=x.hint)


def _kernel_rows(b: Builder, conv: Op, x: Value) -> list[Value]:
    """What the matmul reads: one value for each row of the kernel, or for each tap where taps are apart."""
    a = attrs_of(conv)
    size = int(conv.operands[1].shape[len(a.strides) - 1])
    if size == 1 or a.dilation[-1] != 1:
        return _taps(b, conv, x)
    attrs = WindowsAttrs(size, a.strides[-1])
    return [b.op(WINDOWS, v, attrs=attrs) for v in _places(b, conv, x, len(a.strides) - 1)]


def _taps(b: Builder, conv: Op, x: Value) -> list[Value]:
    """For each tap what all its outputs read."""
    return _places(b, conv, x, len(attrs_of(conv).strides))


def _places(b: Builder, conv: Op, x: Value, axes: int) -> list[Value]:
    """For each place of the kernel along its first ``axes`` what stands there in front of every output."""
    a = attrs_of(conv)
    first = x.type.rank - 1 - len(a.strides)
    kernel = [int(d) for d in conv.operands[1].shape[:axes]]
    out = []
    for tap in product(*map(range, kernel)):
        v = x
        for k, t in enumerate(tap):
            size = conv.result.shape[first + k]
            if not (t == 0 and a.strides[k] == 1 and size == v.shape[first + k]):
                v = b.slice(v, first + k, t * a.dilation[k], size, a.strides[k])
        out.append(v)
    return out


def _sum_of_matmuls(b: Builder, pieces: Sequence[Value], matrix: Value, hint: str) -> Value:
    """The pieces side by side, by the matrix."""
    total, at = None, 0
    for first in range(0, len(pieces), MOST_PIECES):
        some = pieces[first : first + MOST_PIECES]
        k = sum(int(v.shape[-1]) for v in some)
        own = matrix if k == matrix.shape[0] else b.slice(matrix, 0, at, k)
        part = b.matmul(b.concat(some, -1) if len(some) > 1 else some[0], own, hint=hint)
        total, at = part if total is None else b.add(total, part), at + k
    assert total is not None
    return total


def _depthwise(b: Builder, conv: Op, taps: Sequence[Value]) -> Value:
    """One filter for each channel: the sum of all taps, each times its numbers."""
    rows = as_rows(b, conv.operands[1])
    total = None
    for k, tap in enumerate(taps):
        numbers = b.reshape(b.slice(rows, 0, k, 1), (rows.shape[1],))
        part = b.mul(tap, b.broadcast(numbers, tap.shape))
        total = part if total is None else b.add(total, part)
    assert total is not None
    return total


__all__ = ["lower"]
