"""Reductions over axes, and what goes along one axis in order: ArgMax, TopK, CumSum."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rnngraph.errors import ImportModelError
from rnngraph.frontends.axes import axis_of
from rnngraph.frontends.imported import NeedsSize
from rnngraph.frontends.known import Known, as_dims, as_ints
from rnngraph.frontends.onnx.proto import Node
from rnngraph.frontends.onnx.registry import handler
from rnngraph.ir import BOOL, F64, I8, dims
from rnngraph.nn import ops
from rnngraph.nn.tensor import Tensor

Reduce = Callable[[Tensor, Sequence[int]], Tensor]  # keeps the axes with size 1

_BEFORE: dict[str, Callable[[Tensor], Tensor]] = {
    "ReduceL1": ops.abs, "ReduceL2": ops.square, "ReduceSumSquare": ops.square,
}
_AFTER: dict[str, Callable[[Tensor], Tensor]] = {"ReduceL2": ops.sqrt, "ReduceLogSum": ops.log}


def _sum(x: Tensor, axes: Sequence[int]) -> Tensor:
    return ops.sum(x, axes, keepdims=True) if axes else x


def _mean(x: Tensor, axes: Sequence[int]) -> Tensor:
    """Of integers the sum divided and cut off at the point."""
    if not axes:
        return x
    if x.dtype.is_float:
        return ops.mean(x, axes, keepdims=True)
    return _sum(x, axes) / ops.size_of(dims.mul(*(x.shape[a] for a in axes)), x.dtype)


def _log_sum_exp(x: Tensor, axes: Sequence[int]) -> Tensor:
    """Shifted by the maximum, so that nothing overflows."""
    top = ops.max(x, axes, keepdims=True) if axes else x
    top = ops.where(ops.isinf(top), 0.0, top)
    return ops.log(_sum(ops.exp(x - top), axes)) + top


_REDUCE: dict[str, Reduce] = {
    "ReduceSum": _sum, "ReduceL1": _sum, "ReduceL2": _sum, "ReduceSumSquare": _sum, "ReduceLogSum": _sum,
    "ReduceMean": _mean, "ReduceLogSumExp": _log_sum_exp,
    "ReduceProd": lambda x, axes: ops.prod(x, axes, keepdims=True) if axes else x,
    "ReduceMax": lambda x, axes: ops.max(x, axes, keepdims=True) if axes else x,
    "ReduceMin": lambda x, axes: ops.min(x, axes, keepdims=True) if axes else x,
}


@handler(*_REDUCE, known=(1,))
def reduce_(node: Node, x: Tensor, given: Known | None = None) -> Tensor:
    """Axes are an input since opset 18 (of ReduceSum since 13), an attribute before; none means all of them."""
    chosen = node.ints("axes") if given is None else as_ints(given, str(node))
    axes = sorted({axis_of(node, a, x.rank) for a in chosen or ()})
    if not axes and not node.attr("noop_with_empty_axes", 0):
        axes = list(range(x.rank))
    name, numbers = node.op_type, ops.cast(x, I8) if x.dtype is BOOL else x
    whole = name in ("ReduceL2", "ReduceLogSum", "ReduceLogSumExp") and not x.dtype.is_float
    numbers = ops.cast(numbers, F64) if whole else numbers
    out = _REDUCE[name](_BEFORE.get(name, ops.linear)(numbers), axes)
    out = _AFTER.get(name, ops.linear)(out)
    out = out > 0 if x.dtype is BOOL else ops.cast(out, x.dtype)
    if node.attr("keepdims", 1):
        return out
    return ops.reshape(out, tuple(d for i, d in enumerate(out.shape) if i not in axes))


# --- order --------------------------------------------------------------------------------------------------------


@handler("ArgMax", "ArgMin")
def arg(node: Node, x: Tensor) -> Tensor:
    axis, last = axis_of(node, node.attr("axis", 0), x.rank), bool(node.attr("select_last_index", 0))
    out = (ops.arg_largest if node.op_type == "ArgMax" else ops.argmin)(x, axis, last=last)
    if not node.attr("keepdims", 1):
        return out
    return ops.reshape(out, (*x.shape[:axis], 1, *x.shape[axis + 1 :]))


@handler("TopK", known=(1,))
def top_k(node: Node, x: Tensor, k: Known | None = None) -> tuple[Tensor, ...]:
    """k is an attribute before opset 10. The result is in order even where ``sorted`` is 0."""
    sizes = (node.attr("k", 0),) if k is None else as_dims(k, str(node))
    if len(sizes) != 1 or (isinstance(sizes[0], int) and sizes[0] < 0):
        raise ImportModelError(f"{node}: expected one number >= 0 as k, got {list(sizes)}")
    axis, n = axis_of(node, node.attr("axis", -1), x.rank), sizes[0]
    size = x.shape[axis]
    if isinstance(size, int) and isinstance(n, str):
        raise NeedsSize(sorted(dims.symbols_of(n)), f"{node} takes the first {n} of {size}")
    return ops.top_k(x, n, axis, largest=bool(node.attr("largest", 1)))


@handler("CumSum", known=(1,))
def cumsum(node: Node, x: Tensor, axis: Known) -> Tensor:
    (at,) = as_ints(axis, str(node))
    return ops.cumsum(x, axis_of(node, at, x.rank), exclusive=bool(node.attr("exclusive", 0)),
                      reverse=bool(node.attr("reverse", 0)))
