"""Reductions over axes, and where the largest stands."""

from __future__ import annotations

from collections.abc import Callable

from rnngraph.errors import ImportModelError
from rnngraph.frontends.axes import axis_of
from rnngraph.frontends.mxnet.ops.layers import dtype_attr
from rnngraph.frontends.mxnet.registry import handler
from rnngraph.frontends.mxnet.symbol import Node
from rnngraph.ir import dims
from rnngraph.nn import ops
from rnngraph.nn.tensor import Tensor

FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    "sum": ops.sum, "mean": ops.mean, "max": ops.max, "min": ops.min, "prod": ops.prod}
_NAMES = {**{n: n for n in FUNCTIONS}, "sum_axis": "sum", "max_axis": "max", "min_axis": "min",
          **{f"_npi_{n}": n for n in FUNCTIONS}, **{f"_np_{n}": n for n in FUNCTIONS}}


def axes_of(node: Node, x: Tensor, name: str = "axis") -> list[int]:
    """The axes of the attribute, all where it is not given; the others where ``exclude`` is set."""
    given = node.attrs.ints(name, ()) if node.attrs.given(name) else ()
    chosen = [axis_of(node, a, x.rank) for a in given]
    if node.attrs.flag("exclude"):
        return [i for i in range(x.rank) if i not in chosen]
    return chosen or list(range(x.rank))


def reduced(node: Node, x: Tensor, f: Callable[..., Tensor]) -> Tensor:
    """MXNet has no tensor without axes: all of them give one of one element; mx.np has."""
    axes = axes_of(node, x)
    out = f(x, axes, node.attrs.flag("keepdims")) if axes else x
    return ops.reshape(out, (1,)) if out.rank == 0 and not node.op.startswith("_np") else out


@handler(*_NAMES)
def reduction(node: Node, x: Tensor) -> Tensor:
    return reduced(node, x, FUNCTIONS[_NAMES[node.op]])


@handler("nansum")
def nansum(node: Node, x: Tensor) -> Tensor:
    return reduced(node, ops.where(ops.isnan(x), 0.0, x), ops.sum)


@handler("norm")
def norm(node: Node, x: Tensor) -> Tensor:
    order = node.attrs.integer("ord", 2)
    if order not in (1, 2):
        raise ImportModelError(f"{node}: ord must be 1 or 2, got {order}")
    if order == 1:
        return reduced(node, ops.abs(x), ops.sum)
    return ops.sqrt(reduced(node, x * x, ops.sum))


@handler("argmax", "argmin")
def argmax(node: Node, x: Tensor) -> Tensor:
    """The index, in the dtype of x; over all elements in a row without an axis."""
    if not node.attrs.given("axis"):
        x = ops.reshape(x, (dims.mul(*x.shape),))
    axis = axis_of(node, node.attrs.integer("axis", 0), x.rank)
    where = ops.arg_largest(x, axis) if node.op == "argmax" else ops.argmin(x, axis)
    out = ops.cast(where, "f32")
    if node.attrs.flag("keepdims"):
        return ops.reshape(out, (*x.shape[:axis], 1, *x.shape[axis + 1 :]))
    return ops.reshape(out, (1,)) if out.rank == 0 else out


@handler("argmax_channel")
def argmax_channel(node: Node, x: Tensor) -> Tensor:
    return ops.cast(ops.arg_largest(x, 1), "f32")


def _topk_names(node: Node) -> tuple[str, ...]:
    """Indices alone are one output; values are the first of two."""
    one = node.op == "argsort" or (node.op == "topk" and node.attrs.text("ret_typ", "indices") in ("indices", "mask"))
    return ("output",) if one else ("output0", "output1")


@handler("topk", outputs=_topk_names)
def topk(node: Node, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
    kind = node.attrs.choice("ret_typ", "indices", ("value", "indices", "both"))
    axis = axis_of(node, node.attrs.integer("axis", -1), x.rank)
    k = node.attrs.integer("k", 1)
    values, places = ops.top_k(x, k if k > 0 else x.shape[axis], axis, largest=not node.attrs.flag("is_ascend"))
    indices = ops.cast(places, dtype_attr(node))
    return (values, indices) if kind == "both" else values if kind == "value" else indices


@handler("sort", "argsort", outputs=_topk_names)
def sort(node: Node, x: Tensor) -> Tensor:
    axis = axis_of(node, node.attrs.integer("axis", -1), x.rank)
    values, places = ops.top_k(x, x.shape[axis], axis, largest=not node.attrs.flag("is_ascend", True))
    return values if node.op == "sort" else ops.cast(places, dtype_attr(node))


@handler("cumsum", "_np_cumsum")
def cumsum(node: Node, x: Tensor) -> Tensor:
    if not node.attrs.given("axis"):
        x = ops.reshape(x, (dims.mul(*x.shape),))
    return ops.cumsum(x, axis_of(node, node.attrs.integer("axis", 0), x.rank))


@handler("softmax_cross_entropy", "CTCLoss", "ctc_loss")
def loss(node: Node, *xs: Tensor) -> Tensor:
    raise ImportModelError(f"{node}: a loss is not supported; cut the symbol before it: "
                           "sym.get_internals()['..._output']")
