"""Patterns of canonicalize: whole numbers in floats, which a detour over integers does not change."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from rnngraph.ir import Builder, DType, Op, Value, ops
from rnngraph.ir.ops import ConstAttrs
from rnngraph.passes._scalar_patterns import producer, splat_of
from rnngraph.rewrite import Pattern, pattern

MAX_DEPTH: Final = 12  # of the ops that are looked through
WHOLE: Final = frozenset({"round", "floor"})
KEEPING: Final = frozenset({"add", "sub", "mul", "neg", "min", "max", "broadcast", "reshape", "transpose"})


@pattern(ops.CAST)
def cast_of_quantized(op: Op, b: Builder) -> Sequence[Value] | None:
    """cast(cast(x, d), e) -> cast(x, e)   for x of whole numbers, held within what the integer d has"""
    inner = producer(op.operands[0], ops.CAST)
    if inner is None:
        return None
    x, dtype = inner.operands[0], op.operands[0].type.dtype
    if not (x.type.dtype.is_float and dtype.kind == "int" and _held(x, dtype) and is_whole(x)):
        return None
    return [b.cast(x, op.result.type.dtype)]


def is_whole(value: Value, depth: int = MAX_DEPTH) -> bool:
    """Whether all elements of a float are known to be whole numbers (or no numbers)."""
    op = value.op
    if op is None or not depth:
        return False
    if isinstance(op.attrs, ConstAttrs):
        array = op.attrs.value.array
        return bool((array == np.floor(array)).all())
    if op.opdef is ops.CAST and not op.operands[0].type.dtype.is_float:
        return True
    return op.name in WHOLE or (op.name in KEEPING and all(is_whole(v, depth - 1) for v in op.operands))


def _held(value: Value, dtype: DType) -> bool:
    """Whether the value is min(max(.., low), high) within the dtype's range."""
    upper = producer(value, ops.MIN)
    lower = producer(upper.operands[0], ops.MAX) if upper is not None else None
    if upper is None or lower is None:
        return False
    low, high = splat_of(lower.operands[1]), splat_of(upper.operands[1])
    bits = 8 * dtype.itemsize
    least, most = (0, 2**bits - 1) if dtype.name.startswith("u") else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    return low is not None and high is not None and least <= low and high <= most


WHOLE_PATTERNS: Final[tuple[Pattern, ...]] = (cast_of_quantized,)
