"""Typing rules shared by the op table; each raises ShapeError naming op, operand, expected and got."""

from __future__ import annotations

from rnngraph.errors import ShapeError, SizesDiffer
from rnngraph.ir import dims
from rnngraph.ir.opdef import Types
from rnngraph.ir.types import BOOL, Dim, Shape, TensorType


def fail(op: str, message: str) -> ShapeError:
    return ShapeError(f"{op}: {message}")


def expect_equal(op: str, message: str, a: Dim, b: Dim) -> None:
    """SizesDiffer unless the sizes are known to be equal."""
    if a != b:
        raise SizesDiffer(f"{op}: {message}", a, b)


def expect_count(op: str, types: Types, n: int) -> None:
    if len(types) != n:
        raise fail(op, f"expected {n} operand(s), got {len(types)}")


def expect_float(op: str, types: Types) -> None:
    for i, t in enumerate(types):
        if not t.dtype.is_float:
            raise fail(op, f"operand {i} must be a float tensor, got {t}")


def expect_same(op: str, types: Types) -> TensorType:
    """All operands have one type; broadcasting is an op of its own, never implied."""
    first = types[0]
    for i, t in enumerate(types[1:], 1):
        if t != first:
            raise fail(op, f"operands must have one type, got {first} and {t} (operand {i}); "
                           "insert `broadcast` or `cast`")
    return first


def check_axis(op: str, axis: int, rank: int) -> None:
    if not 0 <= axis < rank:
        raise fail(op, f"axis must be in 0..{rank - 1}, got {axis}")


def unary(op: str, types: Types) -> Types:
    expect_count(op, types, 1)
    expect_float(op, types)
    return types


def expect_number(op: str, types: Types) -> None:
    for i, t in enumerate(types):
        if t.dtype is BOOL:
            raise fail(op, f"operand {i} must be a tensor of numbers, got {t}")


def expect_int(op: str, types: Types) -> None:
    for i, t in enumerate(types):
        if t.dtype.kind != "int":
            raise fail(op, f"operand {i} must be an integer tensor, got {t}")


def binary(op: str, types: Types) -> Types:
    expect_count(op, types, 2)
    t = expect_same(op, types)
    if t.dtype is BOOL:
        raise fail(op, f"operands must be numbers, got {t}")
    return (t,)


def comparison(op: str, types: Types) -> Types:
    expect_count(op, types, 2)
    return (expect_same(op, types).with_dtype(BOOL),)


def logical(op: str, types: Types, n: int) -> Types:
    expect_count(op, types, n)
    t = expect_same(op, types)
    if t.dtype is not BOOL:
        raise fail(op, f"operands must be bool, got {t}")
    return (t,)


def select(types: Types) -> Types:
    expect_count("select", types, 3)
    cond, a, b = types
    if cond.dtype is not BOOL or cond.shape != a.shape:
        raise fail("select", f"condition must be bool{list(a.shape)}, got {cond}")
    expect_same("select", (a, b))
    return (a,)


def matmul(types: Types) -> Types:
    """a[..., M, K] @ b[K, N], or a batch of matrices on both sides with the same leading dims."""
    expect_count("matmul", types, 2)
    expect_float("matmul", types)
    a, b = types
    if a.dtype != b.dtype:
        raise fail("matmul", f"operands must have one dtype, got {a} and {b}")
    if a.rank < 2 or b.rank < 2:
        raise fail("matmul", f"operands must have rank >= 2, got {a} and {b}")
    expect_equal("matmul", f"inner dims differ: {a} has {a.shape[-1]}, {b} has {b.shape[-2]}", a.shape[-1], b.shape[-2])
    if b.rank > 2:
        if a.rank != b.rank:
            raise fail("matmul", f"batch dims differ: {a} and {b}")
        for x, y in zip(a.shape[:-2], b.shape[:-2], strict=True):
            expect_equal("matmul", f"batch dims differ: {a} and {b}", x, y)
    return (a.with_shape((*a.shape[:-1], b.shape[-1])),)


def broadcast(types: Types, shape: Shape, axes: tuple[int, ...]) -> Types:
    expect_count("broadcast", types, 1)
    (t,) = types
    if len(axes) != t.rank or list(axes) != sorted(set(axes)):
        raise fail("broadcast", f"axes must name {t.rank} increasing result axes for {t}, got {list(axes)}")
    for dim, axis in zip(t.shape, axes, strict=True):
        check_axis("broadcast", axis, len(shape))
        expect_equal("broadcast", f"operand {t} has dim {dim} where the result has {shape[axis]} (axis {axis})", dim,
                     shape[axis])
    return (t.with_shape(shape),)


def concat(types: Types, axis: int) -> Types:
    if not types:
        raise fail("concat", "expected at least one operand, got none")
    first = types[0]
    check_axis("concat", axis, first.rank)
    total: Dim = 0
    for i, t in enumerate(types):
        if t.dtype != first.dtype or t.rank != first.rank:
            raise fail("concat", f"operands must agree in dtype and rank, got {first} and {t} (operand {i})")
        for k, (x, y) in enumerate(zip(t.shape, first.shape, strict=True)):
            if k != axis:
                expect_equal("concat", f"operands must agree in dim {k}, got {first} and {t} (operand {i})", x, y)
        total = dims.add(total, t.shape[axis])
    return (first.with_shape((*first.shape[:axis], total, *first.shape[axis + 1 :])),)


def slice_(types: Types, axis: int, start: Dim, size: Dim, step: int) -> Types:
    """Where dims are symbolic, what is not known to be wrong is right; the call checks whether the slice fits."""
    expect_count("slice", types, 1)
    (t,) = types
    check_axis("slice", axis, t.rank)
    dim = t.shape[axis]
    if step < 1:
        raise fail("slice", f"step must be >= 1, got {step}")
    if isinstance(size, int) and size < 0:
        raise fail("slice", f"size must be >= 0, got {size}")
    first = dims.add(dim, start) if isinstance(start, int) and start < 0 else start
    end = first if size == 0 else dims.add(first, dims.mul(dims.sub(size, 1), step), 1)
    over = dims.sub(end, dim)
    if (isinstance(first, int) and first < 0) or (isinstance(over, int) and over > 0):
        raise fail("slice", f"start {start}, size {size}, step {step} do not fit dim {dim} of {t}")
    return (t.with_shape((*t.shape[:axis], size, *t.shape[axis + 1 :])),)


def reshape(types: Types, shape: Shape) -> Types:
    """The elements stay as many: the products of both shapes are one polynomial."""
    expect_count("reshape", types, 1)
    (t,) = types
    if dims.mul(*t.shape) != dims.mul(*shape):
        raise fail("reshape", f"cannot turn {t} into [{','.join(map(str, shape))}]: sizes differ")
    return (t.with_shape(shape),)


def transpose(types: Types, perm: tuple[int, ...]) -> Types:
    expect_count("transpose", types, 1)
    (t,) = types
    if sorted(perm) != list(range(t.rank)):
        raise fail("transpose", f"perm must be a permutation of 0..{t.rank - 1}, got {list(perm)}")
    return (t.with_shape(tuple(t.shape[p] for p in perm)),)


def reduce(op: str, types: Types, axes: tuple[int, ...]) -> Types:
    expect_count(op, types, 1)
    (expect_float if op == "reduce_mean" else expect_number)(op, types)
    (t,) = types
    if not axes or list(axes) != sorted(set(axes)):
        raise fail(op, f"axes must be increasing and not empty, got {list(axes)}")
    for a in axes:
        check_axis(op, a, t.rank)
    return (t.with_shape(tuple(d for i, d in enumerate(t.shape) if i not in axes)),)


def gather(types: Types) -> Types:
    """table[V, ...], indices[...] -> [..., ...]: rows of the table."""
    expect_count("gather", types, 2)
    table, index = types
    if table.rank < 1 or index.dtype.kind != "int":
        raise fail("gather", f"expected a table and an integer index, got {table} and {index}")
    return (table.with_shape((*index.shape, *table.shape[1:])),)
