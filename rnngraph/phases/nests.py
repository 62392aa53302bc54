"""Nests: ops that work element by element at places of their own, as loops over axes with a stride each.

Stages compute on rows and lanes. What does not fit there (integers of all sizes, lookups, reductions and orders along
any axis, products of two computed matrices) is a nest of loops: the outer ones walk axes that results and operands
share, the inner ones are the op's own. A nest is done once, by one thread, where its result is needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rnngraph.ir import BF16, F16, F32, Dim, Op, Value
from rnngraph.ir.dims import is_nonnegative, sub
from rnngraph.ir.ops import AxisAttrs, ReduceAttrs
from rnngraph.ir.order_ops import ArgAttrs, CumsumAttrs, TopKAttrs
from rnngraph.ir.pool_ops import PoolAttrs

AXES = 6  # of the outer loops
ELEMENTWISE = frozenset({
    "add", "sub", "mul", "div", "min", "max", "neg", "abs", "sign", "mod", "rem", "lt", "le", "gt", "ge", "eq", "ne",
    "select", "and", "or", "not", "cast", "bit_and", "bit_or", "bit_xor", "bit_not",
})
INTEGERS_ONLY = frozenset({"mod", "rem", "bit_and", "bit_or", "bit_xor", "bit_not"})
REDUCTIONS = frozenset({"reduce_sum", "reduce_mean", "reduce_max", "reduce_min", "reduce_prod"})
LOOKUPS = frozenset({"take", "gather", "gather_elements"})
ORDERS = frozenset({"argmax", "argmin", "top_k", "cumsum"})
WINDOWS = frozenset({"pool"})
NESTS = ELEMENTWISE | REDUCTIONS | LOOKUPS | ORDERS | WINDOWS | {"matmul", "softmax"}
SPANS = LOOKUPS | WINDOWS | REDUCTIONS | {"matmul"}  # ops that walk the last outer axis

Map = tuple[int | None, ...]  # for each outer axis the axis of a value that it walks, or None


@dataclass(frozen=True, slots=True)
class Nest:
    """The loops of an op.

    shape   sizes of the outer loops
    maps    how results and then operands walk them
    inner   axes that the op itself walks: (number among results and operands, axis)
    """

    shape: tuple[Dim, ...]
    maps: tuple[Map, ...]
    inner: tuple[tuple[int, int], ...] = ()


def misfit(op: Op) -> str:
    """Why the op is no nest; empty when it is one."""
    if op.name not in NESTS:
        return f"op {op.name} has no loops of its own"
    for v in (*op.results, *op.operands):
        if v.type.dtype in (BF16, F16):
            return f"loops compute in f32, f64, bool and integers, and %{v.hint or v.index} is {v.type}"
        if 0 in v.shape:
            return f"{v.type} is empty"
    dtype = op.operands[0].type.dtype
    if op.name in INTEGERS_ONLY and dtype.kind != "int":
        return f"{op.name} of {op.operands[0].type} is computed by the reference"
    if isinstance(op.attrs, PoolAttrs) and op.attrs.kind == "average" and not dtype.is_float:
        return f"an average of {op.operands[0].type} is computed by the reference"
    if op.name in ("matmul", "softmax") and dtype is not F32:
        return f"{op.name} of {op.operands[0].type} is computed by the reference"
    if op.name == "gather_elements" and isinstance(op.attrs, AxisAttrs):
        x, index = op.operands
        sizes = enumerate(zip(index.shape, x.shape, strict=True))
        if any(i != op.attrs.axis and not _within(n, most) for i, (n, most) in sizes):
            return f"the indices {index.type} may be larger than {x.type} off axis {op.attrs.axis}"
    if isinstance(op.attrs, TopKAttrs) and not _within(op.attrs.k, op.operands[0].shape[op.attrs.axis]):
        return f"{op.attrs.k} may be more than there is along axis {op.attrs.axis} of {op.operands[0].type}"
    if len(nest_of(op).shape) > AXES:
        return f"{op.name} of {op.operands[0].type} has more than {AXES} axes"
    return ""


def _within(n: Dim, most: Dim) -> bool:
    """Whether a size is known to be no larger."""
    return is_nonnegative(sub(most, n))


def nest_of(op: Op) -> Nest:
    """The loops of an op of `NESTS`."""
    if op.name in ELEMENTWISE:
        rank = op.result.type.rank
        return Nest(op.result.shape, (tuple(range(rank)),) * (1 + len(op.operands)))
    if op.name == "gather_elements" and isinstance(op.attrs, AxisAttrs):
        places = tuple(range(op.result.type.rank))
        beside = tuple(None if i == op.attrs.axis else i for i in places)
        return Nest(op.result.shape, (places, beside, places), ((1, op.attrs.axis),))
    if op.name in LOOKUPS:
        return _lookup(op, op.attrs.axis if isinstance(op.attrs, AxisAttrs) else 0)
    if isinstance(op.attrs, ReduceAttrs):
        return _along(op, op.attrs.axes, of=(1,))
    if isinstance(op.attrs, ArgAttrs):
        return _along(op, (op.attrs.axis,), of=(1,))
    if isinstance(op.attrs, TopKAttrs):
        return _along(op, (op.attrs.axis,), of=(0, 1, 2))
    if isinstance(op.attrs, CumsumAttrs) or (op.name == "softmax" and isinstance(op.attrs, AxisAttrs)):
        return _along(op, (op.attrs.axis,), of=(0, 1))
    if isinstance(op.attrs, PoolAttrs):
        return _pool(op, len(op.attrs.window))
    return _matmul(op)


def _lookup(op: Op, axis: int) -> Nest:
    """The result's axes are those in front of the axis, the index's, and those behind."""
    table, index = op.operands
    rank, last = op.result.type.rank, axis + index.type.rank
    table_axes = (*range(axis), *[None] * index.type.rank, *range(axis + 1, table.type.rank))
    index_axes = (*[None] * axis, *range(index.type.rank), *[None] * (rank - last))
    return Nest(op.result.shape, (tuple(range(rank)), table_axes, index_axes), ((1, axis),))


def _along(op: Op, axes: Sequence[int], of: Sequence[int]) -> Nest:
    """The outer loops walk what is off the axes; the values ``of`` walk these within."""
    x = op.operands[0]
    kept = tuple(i for i in range(x.type.rank) if i not in axes)
    values: list[Value] = [*op.results, *op.operands]
    maps = tuple(kept if k in of else tuple(range(len(kept))) for k in range(len(values)))
    return Nest(tuple(x.shape[i] for i in kept), maps, tuple((k, a) for k in of for a in axes))


def _pool(op: Op, spatial: int) -> Nest:
    """Every place of the result; within, the window's along the operand's spatial axes."""
    rank = op.results[0].type.rank
    places = tuple(range(rank))
    first = rank - 1 - spatial
    x = (*range(first), *[None] * spatial, rank - 1)
    k = len(op.results)
    return Nest(op.results[0].shape, ((places,) * k) + (x,), tuple((k, a) for a in range(first, rank - 1)))


def _matmul(op: Op) -> Nest:
    """Rows of the result; within, its columns and the sums."""
    left, right = op.operands
    rank = left.type.rank
    rows = tuple(range(rank - 1))
    shared = right.type.rank - 2
    batch: Map = (*range(shared), *[None] * (rank - 1 - shared))
    last = op.result.type.rank - 1
    return Nest(op.result.shape[:-1], (rows, rows, batch), ((0, last), (1, rank - 1), (2, shared), (2, shared + 1)))


__all__ = ["AXES", "ELEMENTWISE", "LOOKUPS", "NESTS", "ORDERS", "REDUCTIONS", "SPANS", "WINDOWS", "Nest", "misfit",
           "nest_of"]
