"""Ops that move data: reshape, transpose, slice, split, concat, expand, tile."""

from __future__ import annotations

from collections.abc import Sequence

from rnngraph.errors import ImportModelError, ShapeError
from rnngraph.frontends.axes import axis_of, squeezed
from rnngraph.frontends.depends import DependsOnStep
from rnngraph.frontends.imported import NeedsSize
from rnngraph.frontends.known import Known, as_dims, as_ints
from rnngraph.frontends.onnx.elements import Elements
from rnngraph.frontends.onnx.limits import bounded
from rnngraph.frontends.onnx.proto import Node
from rnngraph.frontends.onnx.registry import Item, handler
from rnngraph.frontends.onnx.slices import BEYOND, clamped, slice_range
from rnngraph.frontends.onnx.walker import required, tensor_of, walker
from rnngraph.ir import Dim, Shape, dims
from rnngraph.nn import ops
from rnngraph.nn.context import active
from rnngraph.nn.tensor import Tensor, wrap


@handler("Reshape", known=(1,))
def reshape(node: Node, x: Tensor, shape: Known | None = None) -> Tensor:
    """0 keeps a dim (unless allowzero), -1 takes what is left."""
    wanted: list[Dim] = list(as_dims(shape, str(node)) if shape is not None else node.ints("shape", ()) or ())
    if not node.attr("allowzero", 0):
        if any(d == 0 and i >= x.rank for i, d in enumerate(wanted)):
            raise ImportModelError(f"{node}: shape {wanted} keeps a dim that {x.type} does not have")
        wanted = [x.shape[i] if d == 0 else d for i, d in enumerate(wanted)]
    return ops.reshape(x, filled(node, x.shape, wanted))


def filled(node: Node, shape: Shape, wanted: Sequence[Dim]) -> Shape:
    """``wanted`` with its -1 replaced by what is left of ``shape``."""
    if any(isinstance(d, int) and d < -1 for d in wanted) or list(wanted).count(-1) > 1:
        raise ImportModelError(f"{node}: a shape has sizes and at most one -1, got {list(wanted)}")
    rest, total = dims.mul(*(d for d in wanted if d != -1)), dims.mul(*shape)
    if -1 not in wanted:
        if rest != total and (open_ := dims.symbols_of(rest) | dims.symbols_of(total)):
            raise NeedsSize(sorted(open_), f"{node} makes {rest} elements of {total}")
        return tuple(wanted)
    if rest == 0:
        raise ImportModelError(f"{node}: -1 cannot be told beside a 0 in {list(wanted)}")
    try:
        left = dims.floordiv(total, rest)
    except ShapeError:
        raise NeedsSize(sorted(dims.symbols_of(rest) | dims.symbols_of(total)), f"{node} divides {total} by {rest}") \
            from None
    if dims.mul(left, rest) != total and (open_ := dims.symbols_of(rest) | dims.symbols_of(total)):
        raise NeedsSize(sorted(open_), f"{node} divides {total} by {rest}")  # whether it goes in is for a call to say
    return tuple(left if d == -1 else d for d in wanted)


@handler("Flatten")
def flatten(node: Node, x: Tensor) -> Tensor:
    axis = node.attr("axis", 1)
    if not -x.rank <= axis <= x.rank:
        raise ImportModelError(f"{node}: axis {axis} does not fit {x.type}")
    axis = axis % x.rank if axis < 0 else axis
    return ops.reshape(x, (dims.mul(*x.shape[:axis]), dims.mul(*x.shape[axis:])))


@handler("Transpose")
def transpose(node: Node, x: Tensor) -> Tensor:
    perm = node.ints("perm", range(x.rank)[::-1])
    assert perm is not None
    return ops.transpose(x, perm)


@handler("Squeeze", known=(1,))
def squeeze(node: Node, x: Tensor, axes: Known | None = None) -> Tensor:
    given = node.ints("axes") if axes is None else as_ints(axes, str(node))
    return squeezed(node, x, given)


@handler("Unsqueeze", known=(1,))
def unsqueeze(node: Node, x: Tensor, axes: Known | None = None) -> Tensor:
    given = node.ints("axes", ()) if axes is None else as_ints(axes, str(node))
    assert given is not None
    rank = x.rank + len(given)
    chosen = [axis_of(node, a, rank) for a in given]
    if len(set(chosen)) != len(chosen):
        raise ImportModelError(f"{node}: an axis is given twice in {list(given)}")
    rest = iter(x.shape)
    return ops.reshape(x, tuple(1 if i in chosen else next(rest) for i in range(rank)))


@handler("Concat")
def concat(node: Node, *xs: Tensor) -> Tensor:
    axis = axis_of(node, node.attr("axis", 1), xs[0].rank)
    kept = [x for x in xs if x.shape[axis] != 0 or _is_state(x)] or list(xs[:1])
    return ops.concat(kept, axis) if len(kept) > 1 else kept[0]


def _is_state(x: Tensor) -> bool:
    """Whether it comes into a step: a state that has no place yet may have some in later steps."""
    return x.value().op is None and x.value().block is not active().graph.block


@handler("Split", known=(1,))
def split(node: Node, x: Tensor, sizes: Known | None = None) -> tuple[Tensor, ...]:
    axis = axis_of(node, node.attr("axis", 0), x.rank)
    n, b = x.shape[axis], active().builder
    parts: Sequence[Dim] | None = node.ints("split") if sizes is None else as_dims(sizes, str(node))
    if parts is None:
        count = node.attr("num_outputs", len(node.outputs))
        if count != len(node.outputs):
            raise ImportModelError(f"{node}: num_outputs is {count}, the node has {len(node.outputs)} outputs")
        each = dims.ceildiv(n, count)
        parts = [each] * (count - 1) + [dims.sub(n, dims.mul(each, count - 1))]
    if any(isinstance(p, int) and p < 0 for p in parts) or (
            isinstance(n, int) and all(isinstance(p, int) for p in parts) and dims.add(*parts) != n):
        raise ImportModelError(f"{node}: sizes {list(parts)} do not add up to axis {axis} of {x.type}")
    out: list[Tensor] = []
    start: Dim = 0
    for part in parts:
        out.append(wrap(b.slice(x.value(), axis, start, part)))
        start = dims.add(start, part)
    return tuple(out)


@handler("Slice", raw=True)
def slice_(node: Node, data: Item, starts: Item = None, ends: Item = None, axes: Item = None,
           steps: Item = None) -> Tensor:
    x, known = required(node, data, "data"), walker().known
    try:
        places = known(node, starts), known(node, ends)
    except DependsOnStep:
        by_step = read_at_step(node, x, starts, ends, known(node, axes), known(node, steps))
        if by_step is None:
            raise
        return by_step
    return _sliced(node, x, slice_range(node, x.rank, *places, known(node, axes), known(node, steps)))


def _sliced(node: Node, x: Tensor, ranges: Sequence[tuple[int, Dim, Dim, int]]) -> Tensor:
    b, out = active().builder, x.value()
    for axis, start, end, step in ranges:
        n = out.shape[axis]
        if step > 0:
            first, last = clamped(node, start, n, 0, n), clamped(node, end, n, 0, n)
        else:  # from start down to end, which is left out: place p is n - 1 - p from the other side
            out = b.reverse(out, axis)
            top = dims.sub(n, 1)
            first, last = (dims.sub(top, clamped(node, p, n, low, top)) for p, low in ((start, 0), (end, -1)))
        length = dims.maximum(dims.ceildiv(dims.sub(last, first), abs(step)), 0)
        if abs(step) >= BEYOND:
            length = dims.minimum(dims.maximum(dims.sub(last, first), 0), 1)
        out = b.slice(out, axis, first, length, abs(step)) if length != 0 else b.slice(out, axis, 0, 0)
    return wrap(out)


def read_at_step(node: Node, x: Tensor, starts: Item, ends: Item, axes: Known | None,
                 steps: Known | None) -> Tensor | None:
    """x[.., t:t+n, ..] where t counts the steps of a loop: a take of n places; None where the ends show no such form.
    """
    elements = Elements()
    first, last = ([None] if (t := tensor_of(i)) is None else elements.of(t.value()) for i in (starts, ends))
    if first is None or last is None or len(first) != len(last):
        return None
    chosen = range(len(first)) if axes is None else as_ints(axes, str(node))
    by = [1] * len(first) if steps is None else as_ints(steps, str(node))
    rest: list[tuple[int, Dim, Dim, int]] = []
    for axis, start, end, step in zip(chosen, first, last, by, strict=True):
        if start is None or end is None or isinstance(start, bool) or isinstance(end, bool):
            return None
        place, count = elements.number(start), dims.sub(end, start)
        if place is None:
            if elements.symbols.keys() & (dims.symbols_of(start) | dims.symbols_of(end)):
                return None
            rest.append((axis_of(node, axis, x.rank), start, end, step))
            continue
        if step >= BEYOND:
            count = 1
        elif not isinstance(count, int) or count < 1 or step != 1:
            return None
        places = ops.reshape(place, (1,)) + ops.arange(count, "i64") if count > 1 else ops.reshape(place, (1,))
        x = ops.take(x, places, axis_of(node, axis, x.rank))
    return _sliced(node, x, rest)


@handler("Expand", known=(1,))
def expand(node: Node, x: Tensor, shape: Known) -> Tensor:
    """Broadcast both ways: the result has the larger dim of each."""
    given = as_dims(shape, str(node))
    rank = max(x.rank, len(given))
    own = (*[1] * (rank - x.rank), *x.shape)
    wanted = (*[1] * (rank - len(given)), *given)
    out = tuple(w if o == 1 else o if w == 1 or w == o else _same(node, x, o, w)
                for o, w in zip(own, wanted, strict=True))
    return wrap(active().builder.expand(x.value(), bounded(node, out)))


def _same(node: Node, x: Tensor, own: Dim, wanted: Dim) -> Dim:
    if isinstance(own, str) or isinstance(wanted, str):
        raise NeedsSize(sorted(dims.symbols_of(own) | dims.symbols_of(wanted)), f"{node} broadcasts {own} to {wanted}")
    raise ImportModelError(f"{node}: cannot broadcast {x.type}: {own} is not {wanted}")


@handler("Tile", known=(1,))
def tile(node: Node, x: Tensor, repeats: Known) -> Tensor:
    counts = as_dims(repeats, str(node))
    if len(counts) != x.rank:
        raise ImportModelError(f"{node}: expected one repeat for each axis of {x.type}, got {list(counts)}")
    bounded(node, tuple(dims.mul(d, c) for d, c in zip(x.shape, counts, strict=True)))
    return ops.tile(x, counts)


@handler("DepthToSpace")
def depth_to_space(node: Node, x: Tensor) -> Tensor:
    block = node.attr("blocksize", 1)
    n, c, h, w = _images(node, x)
    depth = _divided(node, c, block * block)
    if node.attr("mode", "DCR") == "DCR":
        wide = ops.transpose(ops.reshape(x, (n, block, block, depth, h, w)), (0, 3, 4, 1, 5, 2))
    else:
        wide = ops.transpose(ops.reshape(x, (n, depth, block, block, h, w)), (0, 1, 4, 2, 5, 3))
    return ops.reshape(wide, (n, depth, dims.mul(h, block), dims.mul(w, block)))


@handler("SpaceToDepth")
def space_to_depth(node: Node, x: Tensor) -> Tensor:
    block = node.attr("blocksize", 1)
    n, c, h, w = _images(node, x)
    rows, columns = _divided(node, h, block), _divided(node, w, block)
    order = (0, 3, 5, 1, 2, 4) if node.attr("mode", "DCR") == "DCR" else (0, 1, 3, 5, 2, 4)
    cut = ops.transpose(ops.reshape(x, (n, c, rows, block, columns, block)), order)
    return ops.reshape(cut, (n, dims.mul(c, block, block), rows, columns))


def _images(node: Node, x: Tensor) -> Shape:
    if x.rank != 4 or node.attr("blocksize", 1) < 1:
        raise ImportModelError(f"{node}: expected [N, C, H, W] and a block of at least 1, got {x.type}")
    return x.shape


def _divided(node: Node, size: Dim, by: int) -> Dim:
    if not isinstance(size, int):
        raise NeedsSize(sorted(dims.symbols_of(size)), f"{node} divides {size} by {by}")
    if size % by:
        raise ImportModelError(f"{node}: {size} is no multiple of {by}")
    return size // by


@handler("Pad", known=(1, 3))
def pad(node: Node, x: Tensor, pads: Known | None = None, value: Tensor | None = None,
        axes: Known | None = None) -> Tensor:
    """Inputs since opset 11, attributes before; negative numbers cut off."""
    if pads is None:
        given: tuple[Dim, ...] = node.ints("pads", ()) or ()
    else:
        given = as_dims(pads, str(node))
    chosen = range(x.rank) if axes is None else [axis_of(node, a, x.rank) for a in as_ints(axes, str(node))]
    n = len(chosen)
    if len(given) != 2 * n:
        raise ImportModelError(f"{node}: expected {2 * n} pads for {x.type}, got {list(given)}")
    low, high = [list[Dim]([0] * x.rank) for _ in range(2)]
    for i, axis in enumerate(chosen):
        low[axis], high[axis] = given[i], given[n + i]
    fill = node.attr("value", 0.0) if value is None else value
    return ops.pad(x, low, high, node.attr("mode", "constant"), fill if x.dtype.is_float or value is not None else 0)
