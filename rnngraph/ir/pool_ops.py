"""Pooling: one number for each window of a grid. Channels are the last axis, as in `conv`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod

import numpy as np

from rnngraph.errors import InputError
from rnngraph.ir import dims as sizes
from rnngraph.ir import typing as rules
from rnngraph.ir.core import Op
from rnngraph.ir.opdef import Array, Attrs, Cost, EvalContext, OpDef, Types, traffic
from rnngraph.ir.types import I64, Dim, Dims, numel

KINDS = ("max", "average", "sum")


@dataclass(frozen=True, slots=True)
class PoolAttrs(Attrs):
    """Per spatial axis the window, the stride, the padding in front (``low``) and behind (``high``), the dilation.

    kind      "max", "average" or "sum"
    ceil      a last window that is only partly there counts too, if it begins in front of the padding behind
    counted   an average divides by the padding too (never by what ``ceil`` adds), not only by what is there
    indices   max has a second result: where the largest stood, row by row in the spatial axes
    """

    kind: str
    window: tuple[int, ...]
    strides: tuple[int, ...]
    low: tuple[int, ...]
    high: tuple[int, ...]
    dilation: tuple[int, ...]
    ceil: bool = False
    counted: bool = False
    indices: bool = False


def pool_size(size: Dim, axis: int, a: PoolAttrs) -> Dim:
    """The number of windows along a spatial axis; a number below 1 where none fits."""
    reach = a.dilation[axis] * (a.window[axis] - 1) + 1
    room, stride = sizes.add(size, a.low[axis], a.high[axis], -reach), a.strides[axis]
    if not a.ceil:
        return sizes.add(sizes.floordiv(room, stride), 1)
    return sizes.minimum(sizes.add(sizes.ceildiv(room, stride), 1),
                         sizes.ceildiv(sizes.add(size, a.low[axis]), stride))


def _pool_type(types: Types, a: PoolAttrs) -> Types:
    """x[..., *S, C] -> [..., *S', C], and the indices of the same shape"""
    rules.expect_count("pool", types, 1)
    rules.expect_number("pool", types)
    (x,) = types
    n = len(a.window)
    _check(a, n)
    if x.rank < n + 1:
        raise rules.fail("pool", f"a window {list(a.window)} takes [..., {n} spatial dims, channels], got {x}")
    out = tuple(pool_size(d, i, a) for i, d in enumerate(x.shape[-1 - n : -1]))
    if any(isinstance(d, int) and d < 1 for d in out):
        raise rules.fail("pool", f"the window {list(a.window)} with dilation {list(a.dilation)} is larger than the "
                                 f"padded input {x}")
    result = x.with_shape((*x.shape[: -1 - n], *out, x.shape[-1]))
    return (result, result.with_dtype(I64)) if a.indices else (result,)


def _check(a: PoolAttrs, n: int) -> None:
    if a.kind not in KINDS:
        raise rules.fail("pool", f"kind must be one of {', '.join(KINDS)}, got {a.kind!r}")
    if a.indices and a.kind != "max":
        raise rules.fail("pool", f"only max has indices, got {a.kind}")
    for name, least in (("window", 1), ("strides", 1), ("low", 0), ("high", 0), ("dilation", 1)):
        values = getattr(a, name)
        if not n or len(values) != n or any(v < least for v in values):
            raise rules.fail("pool", f"{name} must be {n or 'one or more'} number(s) >= {least}, got {list(values)}")


def _pool(_: EvalContext, op: Op, args: Sequence[Array]) -> Sequence[Array]:
    a, (x,) = op.attrs, args
    assert isinstance(a, PoolAttrs)
    n = len(a.window)
    spatial = x.shape[-1 - n : -1]
    out = tuple(int(pool_size(d, i, a)) for i, d in enumerate(spatial))
    if any(d < 1 for d in out):
        raise InputError(f"pool: the window {list(a.window)} is larger than the padded input of {list(spatial)}")
    if a.kind == "max":
        return _largest(x, spatial, out, a)
    total = np.zeros((*x.shape[: -1 - n], *out, x.shape[-1]), x.dtype)
    for taps in _taps(x, spatial, out, a, 0):
        total += taps[0]
    if a.kind == "sum":
        return (total,)
    count = np.ones((), np.int64)
    for i, size in enumerate(spatial):
        count = np.multiply.outer(count, _present(size, out[i], i, a))
    with np.errstate(all="ignore"):
        return ((total / count[..., None].astype(x.dtype)).astype(x.dtype),)


def _present(size: int, windows: int, axis: int, a: PoolAttrs) -> Array:
    """How many places of each window along an axis an average counts."""
    places = (np.arange(windows)[:, None] * a.strides[axis] - a.low[axis]
              + np.arange(a.window[axis]) * a.dilation[axis])
    first, end = (-a.low[axis], size + a.high[axis]) if a.counted else (0, size)
    return np.asarray(((places >= first) & (places < end)).sum(1))


def _taps(x: Array, spatial: tuple[int, ...], out: tuple[int, ...], a: PoolAttrs,
          fill: float) -> Iterator[tuple[Array, tuple[int, ...]]]:
    """For every place of the window, in order, what all windows have there; ``fill`` stands around the input."""
    n = len(a.window)
    lead = x.ndim - n - 1
    reach = [(m - 1) * s + d * (k - 1) + 1 for m, s, d, k in zip(out, a.strides, a.dilation, a.window, strict=True)]
    around = [(lo, max(0, r - size - lo)) for lo, r, size in zip(a.low, reach, spatial, strict=True)]
    padded = np.pad(x, [(0, 0)] * lead + around + [(0, 0)], constant_values=fill)
    for tap in product(*map(range, a.window)):
        index = tuple(slice(t * d, t * d + (m - 1) * s + 1, s)
                      for t, d, m, s in zip(tap, a.dilation, out, a.strides, strict=True))
        yield padded[(*[slice(None)] * lead, *index)], tap


def _largest(x: Array, spatial: tuple[int, ...], out: tuple[int, ...], a: PoolAttrs) -> Sequence[Array]:
    """The first largest of each window; NaN counts as larger than anything."""
    least = -np.inf if x.dtype.kind == "f" else np.iinfo(x.dtype).min
    n = len(a.window)
    best = np.full((*x.shape[: -1 - n], *out, x.shape[-1]), least, x.dtype)
    where = np.zeros(best.shape, np.int64)
    found = np.zeros(best.shape, np.bool_)
    for values, tap in _taps(x, spatial, out, a, least):
        places = [np.arange(m) * s - lo + t * d
                  for m, s, lo, t, d in zip(out, a.strides, a.low, tap, a.dilation, strict=True)]
        inside, flat = np.ones((), np.bool_), np.zeros((), np.int64)
        for p, size in zip(places, spatial, strict=True):
            inside = np.logical_and.outer(inside, (p >= 0) & (p < size))
            flat = np.add.outer(flat * size, p)
        better = inside[..., None] & (~found | (values > best) | (np.isnan(values) & ~np.isnan(best)))
        best, where = np.where(better, values, best), np.where(better, flat[..., None], where)
        found = found | inside[..., None]
    return (best, where) if a.indices else (best,)


def _pool_cost(op: Op, dims: Dims) -> Cost:
    assert isinstance(op.attrs, PoolAttrs)
    return Cost(float(prod(op.attrs.window)) * numel(op.results[0].shape, dims), traffic(op, dims))


POOL = OpDef("pool", lambda t, a, b: _pool_type(t, a), _pool, _pool_cost, PoolAttrs)
