"""What operands of elementwise operators become: tensors of one dtype, and numbers, by PyTorch's promotion."""

from __future__ import annotations

from typing import Any

import numpy as np

from rnngraph.ir import BF16, BOOL, F16, F32, F64, I8, I32, I64, DType
from rnngraph.nn import ops
from rnngraph.nn.context import active
from rnngraph.nn.tensor import Operand, Tensor, wrap

_ORDER = (BOOL, I8, I32, I64, F16, BF16, F32, F64)
_KIND = {"bool": 0, "int": 1, "float": 2}


def scalar(value: Any, dtype: DType) -> Tensor:
    """A number, or a size, as a tensor without dims."""
    if isinstance(value, str):
        return ops.size_of(value, dtype)
    return wrap(active().builder.const(np.asarray(value, dtype.numpy), dtype))


def common(*operands: Any) -> DType:
    """The dtype in which PyTorch compares or combines operands (torch.result_type)."""
    tensors = [x for x in operands if isinstance(x, Tensor)]
    ranked = [[t.dtype for t in tensors if t.rank], [t.dtype for t in tensors if not t.rank],
              [_number(x) for x in operands if not isinstance(x, Tensor)]]
    found: DType | None = None
    for group in ranked:
        if not group:
            continue
        top = max(group, key=_ORDER.index)
        if F16 in group and BF16 in group:
            top = F32
        if found is None or _KIND[top.kind] > _KIND[found.kind]:
            found = top
    assert found is not None
    return found


def _number(value: Any) -> DType:
    if isinstance(value, bool):
        return BOOL
    return I64 if isinstance(value, int | str) else F32


def cast(x: Any, dtype: DType) -> Any:
    """A tensor or number in ``dtype``; numbers stay numbers."""
    if isinstance(x, Tensor):
        return x if x.dtype is dtype else ops.cast(x, dtype)
    if isinstance(x, str):
        return scalar(x, dtype)
    return x if dtype.kind == "float" else int(x)


def pair(a: Any, b: Any, dtype: DType | None = None) -> tuple[Operand, Operand]:
    """Two operands in one dtype, at least one of them a tensor."""
    dtype = dtype or common(a, b)
    a, b = cast(a, dtype), cast(b, dtype)
    if not isinstance(a, Tensor) and not isinstance(b, Tensor):
        a = scalar(a, dtype)
    if dtype is BOOL:  # the builder makes constants of numbers beside bools as floats
        a, b = (x if isinstance(x, Tensor) else scalar(bool(x), BOOL) for x in (a, b))
    return a, b
