"""Ops on grids: convolution, and what it becomes: zero padding, shifted rows, windows of rows.

Channels are the last axis. Spatial dims may be symbolic, as may be the zeros around them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import prod

import numpy as np

from rnngraph.errors import InputError
from rnngraph.ir import dims as sizes
from rnngraph.ir import typing as rules
from rnngraph.ir.core import Op
from rnngraph.ir.opdef import (
    Array,
    Attrs,
    Cost,
    EvalContext,
    OpDef,
    Types,
    as_array,
    elementwise_cost,
    round_bf16,
    traffic,
)
from rnngraph.ir.types import BF16, Dims, Shape, numel, resolve


@dataclass(frozen=True, slots=True)
class ConvAttrs(Attrs):
    """Per spatial axis: the stride, the zeros in front (``low``) and behind (``high``), and the distance of taps."""

    strides: tuple[int, ...]
    low: Shape
    high: Shape
    dilation: tuple[int, ...]
    groups: int = 1


@dataclass(frozen=True, slots=True)
class PadAttrs(Attrs):
    """Per axis: how many zeros stand in front and behind."""

    low: Shape
    high: Shape


@dataclass(frozen=True, slots=True)
class ShiftRowsAttrs(Attrs):
    """Row r of the result is row ``r + by`` of the operand, zero where there is none; all axes but the last are rows.

    ``image`` above 0 is a promise: rows come in images of that many, each ends in padding that holds zeros wherever
    a row that is used is read from a neighbouring image. Then work may be cut between images. 0 promises nothing.
    """

    by: int
    image: int = 0


@dataclass(frozen=True, slots=True)
class WindowsAttrs(Attrs):
    """``size`` neighbouring rows are one, every ``stride`` rows."""

    size: int
    stride: int


# --- conv -------------------------------------------------------------------------------------------------------


def conv_sizes(spatial: Shape, kernel: Sequence[int], a: ConvAttrs) -> Shape:
    """The spatial sizes of a convolution's result, (n + low + high - dilation (kernel - 1) - 1) // stride + 1; numbers
    below 1 where the kernel does not fit."""
    return tuple(sizes.add(sizes.floordiv(sizes.add(n, lo, hi, -d * (k - 1) - 1), s), 1) for n, k, s, lo, hi, d
                 in zip(spatial, kernel, a.strides, a.low, a.high, a.dilation, strict=True))


def _conv_type(types: Types, a: ConvAttrs) -> Types:
    """x[..., *S, C], kernel[*K, C / groups, F] -> [..., *S', F]"""
    rules.expect_count("conv", types, 2)
    rules.expect_float("conv", types)
    x, kernel = types
    n = kernel.rank - 2
    if x.dtype != kernel.dtype:
        raise rules.fail("conv", f"operands must have one dtype, got {x} and {kernel}")
    if n < 1 or any(not isinstance(d, int) for d in kernel.shape):
        raise rules.fail("conv", f"expected a kernel [*size, channels / groups, filters] of integers, got {kernel}")
    if x.rank < n + 2:
        raise rules.fail("conv", f"a kernel {kernel} takes [batch, {n} spatial dims, channels], got {x}")
    _check_conv_attrs(a, n)
    spatial, channels = x.shape[-1 - n : -1], x.shape[-1]
    if not isinstance(channels, int):
        raise rules.fail("conv", f"the number of channels must be an integer, got {x}")
    per_group, filters = _ints(kernel.shape[-2:])
    if channels != per_group * a.groups or filters % a.groups:
        raise rules.fail("conv", f"{x} has {channels} channels; the kernel {kernel} takes {per_group} in each of "
                                 f"{a.groups} group(s), and {filters} filters must be a multiple of that number")
    out = conv_sizes(spatial, _ints(kernel.shape[:n]), a)
    if any(isinstance(d, int) and d < 1 for d in out):
        raise rules.fail("conv", f"the kernel {kernel} with dilation {list(a.dilation)} is larger than the padded "
                                 f"input {x}")
    return (x.with_shape((*x.shape[: -1 - n], *out, filters)),)


def _check_conv_attrs(a: ConvAttrs, n: int) -> None:
    for name, least in (("strides", 1), ("low", 0), ("high", 0), ("dilation", 1)):
        values = getattr(a, name)
        if len(values) != n or any(isinstance(v, int) and v < least for v in values):
            raise rules.fail("conv", f"{name} must be {n} number(s) >= {least}, got {list(values)}")
    if a.groups < 1:
        raise rules.fail("conv", f"groups must be >= 1, got {a.groups}")


def _ints(shape: Shape) -> tuple[int, ...]:
    return tuple(d for d in shape if isinstance(d, int))


def _conv(ctx: EvalContext, op: Op, args: Sequence[Array]) -> Sequence[Array]:
    """The sum over the kernel's taps of a slice of the padded input times the tap's matrix."""
    a = op.attrs
    assert isinstance(a, ConvAttrs)
    x, kernel = args
    n = kernel.ndim - 2
    window = kernel.shape[:n]
    low, high = resolve(a.low, ctx.dims), resolve(a.high, ctx.dims)
    out = resolve(op.results[0].shape[-1 - n : -1], ctx.dims)
    lead = x.ndim - n - 1
    wide = np.float32 if x.dtype == np.float16 else x.dtype  # halves are added up as floats
    padded = np.pad(x, [(0, 0)] * lead + list(zip(low, high, strict=True)) + [(0, 0)]).astype(wide, copy=False)
    kernel = kernel.astype(wide, copy=False)
    total = np.zeros_like(x, wide, "C", shape=(*x.shape[:lead], *out, kernel.shape[-1]))
    if not total.size:
        return (total.astype(x.dtype),)
    for tap in product(*map(range, window)):
        index = tuple(slice(t * d, t * d + (m - 1) * s + 1, s)
                      for t, d, m, s in zip(tap, a.dilation, out, a.strides, strict=True))
        total += _grouped(padded[(*[slice(None)] * lead, *index)], kernel[tap], a.groups)
    return (round_bf16(total) if op.results[0].type.dtype is BF16 else total.astype(x.dtype, copy=False),)


def _grouped(x: Array, w: Array, groups: int) -> Array:
    """x[..., C] by w[C / groups, F]: each group of channels by its own columns of w."""
    if groups == 1:
        return as_array(x @ w)
    parts = zip(np.split(x, groups, -1), np.split(w, groups, -1), strict=True)
    return np.concatenate([xs @ ws for xs, ws in parts], -1)


def _conv_cost(op: Op, dims: Dims) -> Cost:
    taps = prod(_ints(op.operands[1].shape[:-1]))
    return Cost(2.0 * taps * numel(op.results[0].shape, dims), traffic(op, dims))


# --- pad and shift_rows -----------------------------------------------------------------------------------------


def _pad_type(types: Types, a: PadAttrs) -> Types:
    rules.expect_count("pad", types, 1)
    (x,) = types
    if not (len(a.low) == len(a.high) == x.rank) or any(isinstance(n, int) and n < 0 for n in (*a.low, *a.high)):
        raise rules.fail("pad", f"low and high must be {x.rank} numbers >= 0, got {list(a.low)} and {list(a.high)}")
    return (x.with_shape(tuple(sizes.add(d, lo, hi) for d, lo, hi in zip(x.shape, a.low, a.high, strict=True))),)


def _pad(ctx: EvalContext, op: Op, args: Sequence[Array]) -> Sequence[Array]:
    assert isinstance(op.attrs, PadAttrs)
    low, high = resolve(op.attrs.low, ctx.dims), resolve(op.attrs.high, ctx.dims)
    return (np.pad(args[0], list(zip(low, high, strict=True))),)


def _shift_type(types: Types, a: ShiftRowsAttrs) -> Types:
    rules.expect_count("shift_rows", types, 1)
    if types[0].rank < 2:
        raise rules.fail("shift_rows", f"expected rows of lanes, got {types[0]}")
    if a.image < 0:
        raise rules.fail("shift_rows", f"image must be >= 0, got {a.image}")
    return types


def _shift(_: EvalContext, op: Op, args: Sequence[Array]) -> Sequence[Array]:
    assert isinstance(op.attrs, ShiftRowsAttrs)
    by = op.attrs.by
    rows = args[0].reshape(-1, args[0].shape[-1]) if args[0].size else args[0].reshape(0, 1)
    out = np.zeros_like(rows)
    count = max(0, len(rows) - abs(by))
    if count:
        out[max(0, -by) : max(0, -by) + count] = rows[max(0, by) : max(0, by) + count]
    return (out.reshape(args[0].shape),)


# --- windows ----------------------------------------------------------------------------------------------------


def _windows_type(types: Types, a: WindowsAttrs) -> Types:
    """x[..., N, C] -> [..., (N - size) // stride + 1, size * C]"""
    rules.expect_count("windows", types, 1)
    (x,) = types
    if a.size < 1 or a.stride < 1:
        raise rules.fail("windows", f"size and stride must be >= 1, got {a.size} and {a.stride}")
    if x.rank < 2:
        raise rules.fail("windows", f"expected rows of lanes, got {x}")
    count = sizes.add(sizes.floordiv(sizes.sub(x.shape[-2], a.size), a.stride), 1)
    if isinstance(count, int) and count < 1:
        raise rules.fail("windows", f"a window of {a.size} rows is larger than {x}")
    return (x.with_shape((*x.shape[:-2], count, sizes.mul(a.size, x.shape[-1]))),)


def _windows(_: EvalContext, op: Op, args: Sequence[Array]) -> Sequence[Array]:
    assert isinstance(op.attrs, WindowsAttrs)
    (x,), size, stride = args, op.attrs.size, op.attrs.stride
    if x.shape[-2] < size:
        raise InputError(f"windows: a window of {size} rows is larger than the {x.shape[-2]} of its operand")
    if not isinstance(x, np.ndarray):  # as_strided is numpy's alone
        end = (x.shape[-2] - size) // stride * stride + 1
        return (np.concatenate([x[..., k : k + end : stride, :] for k in range(size)], -1),)
    return (windows_of(np.ascontiguousarray(x), size, stride),)


def windows_of(x: Array, size: int, stride: int) -> Array:
    """The windows of an array whose rows stand side by side, as a view: windows overlap in memory."""
    row, lane = x.strides[-2:]
    lane = row if x.shape[-1] == 1 else lane  # the stride of an axis of size 1 is any number
    shape = (*x.shape[:-2], (x.shape[-2] - size) // stride + 1, size * x.shape[-1])
    return np.lib.stride_tricks.as_strided(x, shape, (*x.strides[:-2], row * stride, lane), writeable=False)


CONV = OpDef("conv", lambda t, a, b: _conv_type(t, a), _conv, _conv_cost, ConvAttrs)
PAD = OpDef("pad", lambda t, a, b: _pad_type(t, a), _pad, elementwise_cost(0.0), PadAttrs, frozenset({"move"}))
WINDOWS = OpDef("windows", lambda t, a, b: _windows_type(t, a), _windows, elementwise_cost(0.0), WindowsAttrs,
                frozenset({"move"}))
SHIFT_ROWS = OpDef("shift_rows", lambda t, a, b: _shift_type(t, a), _shift, elementwise_cost(0.0), ShiftRowsAttrs,
                   frozenset({"move"}))
