"""What ops mean on known integers and sizes: the arithmetic with which ONNX graphs compute shapes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from rnngraph.errors import ImportModelError, ShapeError
from rnngraph.frontends.axes import axis_of
from rnngraph.frontends.known import MAX_KNOWN, Known, as_dims, as_ints
from rnngraph.frontends.onnx.proto import Node
from rnngraph.frontends.onnx.registry import Item, shape_handler
from rnngraph.frontends.onnx.slices import slice_range
from rnngraph.ir import Array, Dim, dims
from rnngraph.ir.types import dtype_of
from rnngraph.nn.tensor import Tensor

_NUMPY_OF = {1: np.float32, 2: np.uint8, 3: np.int8, 4: np.uint16, 5: np.int16, 6: np.int32, 7: np.int64, 9: np.bool_,
             10: np.float16, 11: np.float64, 12: np.uint32, 13: np.uint64}


@shape_handler("Shape")
def shape(node: Node, x: Item) -> Known:
    """The dims from ``start`` to ``end`` (opset 15)."""
    return Known.dims(_shape(node, x)[node.attr("start", 0) : node.attributes.get("end")])


@shape_handler("Size")
def size(node: Node, x: Item) -> Known:
    array = Known.dims([dims.mul(*_shape(node, x))]).array
    return Known(array.reshape(()))


def _shape(node: Node, x: Item) -> tuple[Dim, ...]:
    if isinstance(x, Known):
        return tuple(int(d) for d in x.array.shape)
    if not isinstance(x, Tensor):
        raise ImportModelError(f"{node}: expected a tensor, got a sequence or nothing")
    return x.shape


def _elementwise(function: Callable[[Any, Any], Any]) -> Callable[[Node, Known, Known], Known | None]:
    """The function on each pair of integers or sizes; None where a size makes it undecided."""
    def run(node: Node, a: Known, b: Known) -> Known | None:
        if max(a.array.size, b.array.size) == 0 or not (a.symbolic or b.symbolic):
            return None  # plain numbers are computed by ops, with their own dtype, and folded
        x, y = np.broadcast_arrays(a.array, b.array)
        if x.size > MAX_KNOWN:
            return None
        out = [function(_dim(p), _dim(q)) for p, q in zip(x.flat, y.flat, strict=True)]
        if any(v is None for v in out):
            return None
        if all(isinstance(v, bool) for v in out):
            return Known(np.array(out, np.bool_).reshape(x.shape))
        return _like(out, x.shape)

    return run


def _like(items: list[Any], shape: tuple[int, ...]) -> Known:
    array = np.empty(len(items), object)
    array[:] = items
    return Known(array.reshape(shape)).settled()


def _dim(value: Any) -> Dim:
    return value if isinstance(value, str) else int(value)


def _divide(a: Dim, b: Dim) -> Dim | None:
    """ONNX rounds to zero; sizes are not negative."""
    if b == 0 or (isinstance(b, str) and dims.symbols_of(b) and not _divides(b, a)) or not dims.is_nonnegative(a):
        return None
    return None if isinstance(b, int) and b < 0 else dims.floordiv(a, b)


def _divides(b: Dim, a: Dim) -> bool:
    try:
        dims.floordiv(a, b)
    except ShapeError:
        return False
    return True


def _modulo(a: Dim, b: Dim) -> Dim | None:
    return dims.mod(a, b) if isinstance(b, int) and b > 0 and dims.is_nonnegative(a) else None


def _less(a: Dim, b: Dim) -> bool | None:
    """Whether a < b, as far as the forms show it."""
    if dims.is_nonnegative(dims.sub(dims.sub(b, a), 1)):
        return True
    return False if dims.is_nonnegative(dims.sub(a, b)) else None


def _equal(a: Dim, b: Dim) -> bool | None:
    if a == b:
        return True
    return False if _less(a, b) or _less(b, a) else None


def _negated(function: Callable[[Dim, Dim], bool | None], swap: bool = False) -> Callable[[Dim, Dim], bool | None]:
    def run(a: Dim, b: Dim) -> bool | None:
        found = function(b, a) if swap else function(a, b)
        return None if found is None else not found

    return run


_ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {
    "Add": dims.add, "Sub": dims.sub, "Mul": dims.mul, "Div": _divide, "Mod": _modulo, "Equal": _equal,
    "Less": _less, "Greater": lambda a, b: _less(b, a), "LessOrEqual": _negated(_less, swap=True),
    "GreaterOrEqual": _negated(_less),
}
for _name, _function in _ARITHMETIC.items():
    shape_handler(_name)(_elementwise(_function))


@shape_handler("Max", "Min")
def extreme(node: Node, *xs: Known) -> Known | None:
    function = dims.maximum if node.op_type == "Max" else dims.minimum
    out = xs[0]
    for x in xs[1:]:
        found = _elementwise(function)(node, out, x)
        if found is None:
            return None
        out = found
    return out


@shape_handler("Neg")
def negate(node: Node, x: Known) -> Known | None:
    return _elementwise(dims.sub)(node, Known(np.zeros((), np.int64)), x) if x.symbolic else None


@shape_handler("Identity")
def identity(node: Node, x: Known) -> Known:
    return x


@shape_handler("Cast")
def cast(node: Node, x: Known) -> Known | None:
    """To another integer dtype sizes stay what they are."""
    to = _NUMPY_OF.get(node.attr("to", 0))
    if to is None or np.dtype(to).kind not in "iub":
        return None
    if x.symbolic:
        return Known(x.array, dtype_of(np.zeros(0, to))) if np.dtype(to).kind in "iu" else None
    return Known(x.array.astype(to))


@shape_handler("Concat")
def concat(node: Node, *xs: Known) -> Known:
    arrays = [x.array for x in xs]
    return Known(np.concatenate(arrays, axis_of(node, node.attr("axis", 0), arrays[0].ndim))).settled()


@shape_handler("Gather")
def gather(node: Node, data: Known, indices: Known) -> Known | None:
    if indices.symbolic:
        return None
    axis = axis_of(node, node.attr("axis", 0), data.array.ndim)
    count = data.array.shape[axis]
    at = indices.array.astype(np.int64)
    if ((at < -count) | (at >= count)).any():
        raise ImportModelError(f"{node}: an index is outside of -{count}..{count - 1}")
    return Known(np.take(data.array, at, axis)).settled()


@shape_handler("Squeeze")
def squeeze(node: Node, x: Known, axes: Known | None = None) -> Known:
    chosen = node.ints("axes") if axes is None else as_ints(axes, str(node))
    if chosen is None:
        return Known(x.array.squeeze())
    return Known(x.array.squeeze(tuple(axis_of(node, a, x.array.ndim) for a in chosen)))


@shape_handler("Unsqueeze")
def unsqueeze(node: Node, x: Known, axes: Known | None = None) -> Known:
    chosen = node.ints("axes", ()) if axes is None else as_ints(axes, str(node))
    assert chosen is not None
    return Known(np.expand_dims(x.array, tuple(axis_of(node, a, x.array.ndim + len(chosen)) for a in chosen)))


@shape_handler("Reshape")
def reshape(node: Node, x: Known, to: Known) -> Known:
    shape = list(as_ints(to, str(node)))
    if not node.attr("allowzero", 0):
        shape = [x.array.shape[i] if d == 0 else d for i, d in enumerate(shape)]
    return Known(x.array.reshape(shape))


@shape_handler("Transpose")
def transpose(node: Node, x: Known) -> Known:
    return Known(x.array.transpose(node.ints("perm")))


@shape_handler("Slice")
def slice_(node: Node, x: Known, starts: Known | None = None, ends: Known | None = None, axes: Known | None = None,
           steps: Known | None = None) -> Known | None:
    if any(k is not None and k.symbolic for k in (starts, ends)):
        return None
    out = x.array
    for axis, start, end, step in slice_range(node, x.array.ndim, starts, ends, axes, steps):
        index = [slice(None)] * out.ndim
        index[axis] = slice(*_python_slice(int(start), int(end), step, out.shape[axis]))
        out = out[tuple(index)]
    return Known(out).settled()


def _python_slice(start: int, end: int, step: int, n: int) -> tuple[int | None, int | None, int]:
    """ONNX's start and end, which are clamped, as Python's."""
    return start, None if step < 0 and end < -n else end, step


@shape_handler("Split")
def split(node: Node, x: Known, sizes: Known | None = None) -> tuple[Known, ...]:
    axis = axis_of(node, node.attr("axis", 0), x.array.ndim)
    n = x.array.shape[axis]
    parts = node.ints("split") if sizes is None else as_ints(sizes, str(node))
    if parts is None:
        count = node.attr("num_outputs", len(node.outputs))
        each = -(-n // count)
        parts = tuple(min(each, n - i * each) for i in range(count))
    if sum(parts) != n or min(parts) < 0:
        raise ImportModelError(f"{node}: sizes {list(parts)} do not add up to {n}")
    return tuple(Known(p).settled() for p in np.split(x.array, np.cumsum(parts)[:-1], axis))


@shape_handler("Range")
def range_(node: Node, start: Known, limit: Known, delta: Known) -> Known | None:
    if start.symbolic or limit.symbolic or delta.symbolic:
        return None
    if {start.array.size, limit.array.size, delta.array.size} != {1}:
        return None
    first, last, step = (int(v.array.reshape(-1)[0]) for v in (start, limit, delta))
    if step == 0 or len(range(first, last, step)) > MAX_KNOWN:
        return None
    return Known(np.arange(first, last, step, dtype=start.array.dtype))


@shape_handler("ReduceProd", "ReduceSum", "ReduceMax", "ReduceMin")
def reduce_(node: Node, x: Known, axes: Known | None = None) -> Known | None:
    """A vector of sizes to one."""
    if not x.symbolic or x.array.ndim != 1 or not x.array.size:
        return None
    if node.attr("noop_with_empty_axes", 0) and not (node.ints("axes", ()) if axes is None else axes.array.size):
        return x
    function = {"ReduceProd": dims.mul, "ReduceSum": dims.add, "ReduceMax": dims.maximum,
                "ReduceMin": dims.minimum}[node.op_type]
    out = Known.dims([function(*as_dims(x, str(node)))]).array
    return Known(out if node.attr("keepdims", 1) else out.reshape(()))


@shape_handler("Where")
def where(node: Node, condition: Known, a: Known, b: Known) -> Known | None:
    if condition.symbolic or not (a.symbolic or b.symbolic):
        return None
    x, y, chosen = np.broadcast_arrays(a.array.astype(object), b.array.astype(object), condition.array)
    return _like([_dim(p if c else q) for p, q, c in zip(x.flat, y.flat, chosen.flat, strict=True)], x.shape)


@shape_handler("Expand", "Tile")
def expand(node: Node, x: Known, to: Known) -> Known | None:
    """Where the result is small; else it is an op."""
    if to.symbolic:
        return None
    shape = as_ints(to, str(node))
    if min(shape, default=1) < 0 or int(np.prod(shape, dtype=object)) * max(1, x.array.size) > MAX_KNOWN:
        return None
    out: Array = np.tile(x.array, shape) if node.op_type == "Tile" else x.array * np.ones(shape, x.array.dtype)
    return Known(out).settled()


@shape_handler("ConstantOfShape")
def constant_of_shape(node: Node, shape: Known) -> Known | None:
    """A small one of integers: ones or zeros to compute shapes with."""
    value = node.attributes.get("value")
    if shape.symbolic or not isinstance(value, Known) or value.array.dtype.kind not in "iub" or value.array.size != 1:
        return None
    sizes = as_ints(shape, str(node))
    if min(sizes, default=0) < 0 or int(np.prod(sizes, dtype=object)) > MAX_KNOWN:
        return None
    return Known(np.full(sizes, value.array.reshape(-1)[0]))
