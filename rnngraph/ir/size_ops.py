"""Ops that bring sizes into the data: the numbers 0 .. size-1, and a size itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rnngraph.errors import InputError
from rnngraph.ir import typing as rules
from rnngraph.ir.core import Op
from rnngraph.ir.opdef import Array, Attrs, EvalContext, OpDef, Types, elementwise_cost
from rnngraph.ir.types import BOOL, Dim, DType, TensorType, resolve


@dataclass(frozen=True, slots=True)
class IotaAttrs(Attrs):
    size: Dim
    dtype: DType


@dataclass(frozen=True, slots=True)
class SizeAttrs(Attrs):
    dim: Dim
    dtype: DType


def _numbers(op: str, types: Types, dtype: DType) -> None:
    rules.expect_count(op, types, 0)
    if dtype is BOOL:
        raise rules.fail(op, "dtype must be one of numbers, got bool")


def _iota_type(types: Types, a: IotaAttrs) -> Types:
    _numbers("iota", types, a.dtype)
    return (TensorType(a.dtype, (a.size,)),)


def _size_type(types: Types, a: SizeAttrs) -> Types:
    _numbers("size", types, a.dtype)
    TensorType(a.dtype, (a.dim,))  # it is a size
    return (TensorType(a.dtype, ()),)


def _fit(op: Op, largest: int, dtype: DType) -> None:
    if dtype.kind == "int" and largest >= 2 ** (8 * dtype.itemsize - (dtype.numpy.kind == "i")):
        where = f" of layer {op.layer!r}" if op.layer else ""
        raise InputError(f"{op.name}{where}: {largest} does not fit {dtype}; take a wider dtype")


def _iota(ctx: EvalContext, op: Op, args: Sequence[Array]) -> Sequence[Array]:
    a = op.attrs
    assert isinstance(a, IotaAttrs)
    (size,) = resolve((a.size,), ctx.dims)
    _fit(op, size - 1, a.dtype)
    return (np.arange(size).astype(ctx.array_dtype(a.dtype)),)


def _size(ctx: EvalContext, op: Op, args: Sequence[Array]) -> Sequence[Array]:
    a = op.attrs
    assert isinstance(a, SizeAttrs)
    (size,) = resolve((a.dim,), ctx.dims)
    _fit(op, size, a.dtype)
    return (np.asarray(size, ctx.array_dtype(a.dtype)),)


IOTA = OpDef("iota", lambda t, a, b: _iota_type(t, a), _iota, elementwise_cost(1.0), IotaAttrs)
SIZE = OpDef("size", lambda t, a, b: _size_type(t, a), _size, elementwise_cost(0.0), SizeAttrs)
