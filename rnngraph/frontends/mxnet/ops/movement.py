"""Ops that move data: reshape with MXNet's codes, transpose, slices, splits, concat, repetition."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from rnngraph.errors import ImportModelError, ShapeError
from rnngraph.frontends.axes import axis_of, squeezed
from rnngraph.frontends.imported import NeedsSize
from rnngraph.frontends.mxnet.registry import handler
from rnngraph.frontends.mxnet.symbol import Node
from rnngraph.frontends.mxnet.walker import Resolved, is_open, same
from rnngraph.ir import Dim, Shape, dims
from rnngraph.nn import ops
from rnngraph.nn.context import active
from rnngraph.nn.tensor import Tensor, wrap

MAX_PARTS = 2**16


# --- reshape --------------------------------------------------------------------------------------------------


@handler("Reshape", "reshape")
def reshape(node: Node, x: Tensor) -> Tensor:
    """0 keeps a size, -1 takes what is left, -2 keeps all the rest, -3 joins two, -4 splits one into the next two."""
    codes = node.attrs.ints("shape", ())
    if not codes:  # before 0.10; 0 is the size to be inferred, unless keep_highest
        codes = tuple(-1 if d == 0 else d for d in node.attrs.ints("target_shape"))
        codes = (0, *codes[1:]) if node.attrs.flag("keep_highest") else codes
    if node.attrs.flag("reverse"):
        return ops.reshape(x, reshaped(node, x.shape[::-1], codes[::-1])[::-1])
    return ops.reshape(x, reshaped(node, x.shape, codes))


def reshaped(node: Node, shape: Shape, codes: Sequence[int]) -> Shape:
    """The shape that the codes make of ``shape``."""
    out: list[Dim] = []
    at = i = 0

    def take() -> Dim:
        nonlocal at
        if at >= len(shape):
            raise ImportModelError(f"{node}: shape {list(codes)} asks for more axes than {list(shape)} has")
        at += 1
        return shape[at - 1]

    while i < len(codes):
        code = codes[i]
        if code > 0 or code == -1:
            out.append(code)
            at += 1
        elif code == 0:
            out.append(take())
        elif code == -2:
            out += shape[at:]
            at = len(shape)
        elif code == -3:
            out.append(dims.mul(take(), take()))
        elif code == -4 and i + 2 < len(codes):
            out += _parts(node, take(), codes[i + 1], codes[i + 2])
            i += 2
        else:
            raise ImportModelError(f"{node}: {code} is no code of a shape, in {list(codes)}")
        i += 1
    return filled(node, shape, out)


def _parts(node: Node, size: Dim, a: int, b: int) -> list[Dim]:
    if a == -1 and b > 0:
        return [divided(node, size, b), b]
    if b == -1 and a > 0:
        return [a, divided(node, size, a)]
    if min(a, b) < 1 or dims.mul(a, b) != size:
        raise ImportModelError(f"{node}: -4 splits the size {size} into {a} and {b}")
    return [a, b]


def divided(node: Node, size: Dim, by: Dim) -> Dim:
    """size / by, a whole number; `NeedsSize` where the forms do not show that it is one."""
    try:
        left = dims.floordiv(size, by)
    except ShapeError:
        left = "?"
    if left != "?" and dims.mul(left, by) == size:
        return left
    if symbols := dims.symbols_of(size) | dims.symbols_of(by):
        raise NeedsSize(sorted(symbols), f"{node} divides {size} by {by}")
    raise ImportModelError(f"{node}: {size} is no multiple of {by}")


def filled(node: Node, shape: Shape, wanted: Sequence[Dim]) -> Shape:
    """``wanted`` with its -1 replaced by what is left of ``shape``."""
    if list(wanted).count(-1) > 1:
        raise ImportModelError(f"{node}: more than one -1 in {list(wanted)}")
    if -1 not in wanted:
        return tuple(wanted)
    rest = dims.mul(*(d for d in wanted if d != -1))
    if rest == 0:
        raise ImportModelError(f"{node}: -1 cannot be told beside a 0 in {list(wanted)}")
    left = divided(node, dims.mul(*shape), rest)
    return tuple(left if d == -1 else d for d in wanted)


@handler("_npx_reshape", "_np_reshape")
def numpy_reshape(node: Node, x: Tensor) -> Tensor:
    """mx.npx.reshape: -1 takes what is left, -2 keeps, -3 drops a 1, -4 keeps the rest, -5 joins two, -6 splits one."""
    codes = node.attrs.ints("newshape")
    if node.op == "_np_reshape" or not any(c < -1 for c in codes):
        return ops.reshape(x, filled(node, x.shape, codes))
    if node.attrs.flag("reverse"):
        raise ImportModelError(f"{node}: reverse with codes below -1 is not supported")
    old: list[int] = []
    kept: list[Dim] = list(x.shape)
    at = 0
    for c in codes:  # the same codes under Reshape's names; what -3 drops is a size of 1
        if c == -3:
            if at >= len(kept) or kept.pop(at) != 1:
                raise ImportModelError(f"{node}: -3 drops a size of 1, axis {at} of {x.type} is none")
            continue
        at += {-4: len(kept) - at, -5: 2}.get(c, 1)
        old.append({-2: 0, -4: -2, -5: -3, -6: -4}.get(c, c))
    return ops.reshape(x, reshaped(node, tuple(kept), old))


@handler("Flatten", "flatten")
def flatten(node: Node, x: Tensor) -> Tensor:
    return ops.reshape(x, (x.shape[0], dims.mul(*x.shape[1:])))


@handler("expand_dims")
def expand_dims(node: Node, x: Tensor) -> Tensor:
    axis = axis_of(node, node.attrs.integer("axis"), x.rank + 1)
    return ops.reshape(x, (*x.shape[:axis], 1, *x.shape[axis:]))


@handler("squeeze", "_np_squeeze", "_npi_squeeze")
def squeeze(node: Node, x: Tensor) -> Tensor:
    given = node.attrs.ints("axis", ()) if node.attrs.given("axis") else None
    return squeezed(node, x, given)


@handler("reshape_like")
def reshape_like(node: Node, x: Tensor, like: Tensor) -> Tensor:
    if any(node.attrs.given(n) for n in ("lhs_begin", "lhs_end", "rhs_begin", "rhs_end")):
        raise ImportModelError(f"{node}: lhs_begin, lhs_end, rhs_begin and rhs_end are not supported")
    return ops.reshape(x, like.shape)


# --- order ----------------------------------------------------------------------------------------------------


@handler("transpose", "_np_transpose", "_npi_transpose")
def transpose(node: Node, x: Tensor) -> Tensor:
    axes = node.attrs.ints("axes", ()) or tuple(range(x.rank)[::-1])
    return ops.transpose(x, [axis_of(node, a, x.rank) for a in axes])


@handler("SwapAxis", "swapaxes", "_npi_swapaxes")
def swap_axis(node: Node, x: Tensor) -> Tensor:
    a, b = (axis_of(node, node.attrs.integer(n, 0), x.rank) for n in ("dim1", "dim2"))
    order = list(range(x.rank))
    order[a], order[b] = b, a
    return ops.transpose(x, order)


@handler("reverse", "flip", "_npi_flip")
def reverse(node: Node, x: Tensor) -> Tensor:
    for axis in node.attrs.ints("axis"):
        x = ops.reverse(x, axis_of(node, axis, x.rank))
    return x


# --- parts ----------------------------------------------------------------------------------------------------


def cut(x: Tensor, axis: int, begin: int | None, end: Dim | None, step: int | None = None) -> Tensor:
    """Part of an axis, by Python's rule for slices; on a symbolic axis the bounds must be there."""
    if step is not None and step < 0:
        size = x.shape[axis]
        first, last = (None if p is None else dims.sub(-1, p) if p < 0 else dims.sub(dims.sub(size, 1), p)
                       for p in (begin, end if isinstance(end, int | None) else None))
        return ops.reverse(x, axis)[(slice(None),) * axis + (slice(first, last, -step),)]
    return x[(slice(None),) * axis + (slice(begin, end, step),)]


@handler("slice", "crop")
def slice_(node: Node, x: Tensor) -> Tensor:
    begin, end = node.attrs.optional_ints("begin") or (), node.attrs.optional_ints("end") or ()
    steps = node.attrs.optional_ints("step") or (None,) * len(begin)
    if not len(begin) == len(end) == len(steps or begin) <= x.rank:
        raise ImportModelError(f"{node}: begin {begin}, end {end} and step {steps} do not fit {x.type}")
    for axis, (b, e, s) in enumerate(zip(begin, end, steps, strict=True)):
        if (b, e, s) != (None, None, None):
            x = cut(x, axis, b, e, s)
    return x


@handler("slice_axis")
def slice_axis(node: Node, x: Tensor) -> Tensor:
    axis = axis_of(node, node.attrs.integer("axis"), x.rank)
    return cut(x, axis, node.attrs.integer("begin"), node.attrs.optional_int("end"))


@handler("slice_like")
def slice_like(node: Node, x: Tensor, like: Tensor) -> Tensor:
    """x as long as ``like`` along some axes."""
    axes = [axis_of(node, a, x.rank) for a in node.attrs.ints("axes", ()) or range(x.rank)]
    for axis in axes:
        if axis >= like.rank:
            raise ImportModelError(f"{node}: {like.type} has no axis {axis}")
        if x.shape[axis] != like.shape[axis]:
            x = cut(x, axis, 0, like.shape[axis])
    return x


def _split_names(node: Node) -> tuple[str, ...]:
    count = node.attrs.integer("num_outputs")
    return ("output",) if count == 1 else tuple(f"output{i}" for i in range(min(count, MAX_PARTS)))


@handler("SliceChannel", "split", outputs=_split_names)
def slice_channel(node: Node, x: Tensor) -> tuple[Tensor, ...]:
    """Equal parts; without the axis where they have one element and squeeze_axis is set."""
    axis, count = axis_of(node, node.attrs.integer("axis", 1), x.rank), node.attrs.integer("num_outputs")
    size = x.shape[axis]
    if not 1 <= count <= MAX_PARTS:
        raise ImportModelError(f"{node}: expected 1..{MAX_PARTS} outputs, got {count}")
    if is_open(size) and node.attrs.flag("squeeze_axis"):
        raise Resolved(str(size), count)
    each = divided(node, size, count)
    squeezed = node.attrs.flag("squeeze_axis")
    if squeezed and each != 1:
        if isinstance(each, str):
            raise NeedsSize(sorted(dims.symbols_of(each)), f"{node} takes axis {axis} of {x.type} away")
        raise ImportModelError(f"{node}: {count} outputs of one element each do not make axis {axis} of {x.type}")
    shape = (*x.shape[:axis], *(() if squeezed else (each,)), *x.shape[axis + 1 :])
    b = active().builder
    return tuple(wrap(b.reshape(b.slice(x.value(), axis, dims.mul(each, i), each), shape)) for i in range(count))


def _split_v2_names(node: Node) -> tuple[str, ...]:
    count = node.attrs.integer("sections", 0) or len(node.attrs.ints("indices", ())) + (
        0 if (node.attrs.ints("indices", ()) or (1,))[0] == 0 else 1)
    return ("output",) if count == 1 else tuple(f"output{i}" for i in range(min(count, MAX_PARTS)))


@handler("_split_v2", outputs=_split_v2_names)
def split_v2(node: Node, x: Tensor) -> tuple[Tensor, ...]:
    """Equal sections, or parts that start at indices."""
    axis = axis_of(node, node.attrs.integer("axis", 1), x.rank)
    size = x.shape[axis]
    sections, starts = node.attrs.integer("sections", 0), list(node.attrs.ints("indices", ()))
    if not 0 <= sections <= MAX_PARTS:
        raise ImportModelError(f"{node}: expected at most {MAX_PARTS} sections, got {sections}")
    if sections:
        each = divided(node, size, sections)
        bounds = [dims.mul(each, i) for i in range(sections + 1)]
    else:
        bounds = [*([] if starts[:1] == [0] else [0]), *starts, size]
    b, out = active().builder, []
    for start, end in pairwise(bounds):
        part = b.slice(x.value(), axis, start, dims.sub(end, start))
        if node.attrs.flag("squeeze_axis"):
            part = b.reshape(part, (*x.shape[:axis], *x.shape[axis + 1 :]))
        out.append(wrap(part))
    return tuple(out)


# --- together -------------------------------------------------------------------------------------------------


@handler("Concat", "concat", "_rnn_param_concat", "_npi_concatenate")
def concat(node: Node, *xs: Tensor) -> Tensor:
    name = "axis" if node.op == "_npi_concatenate" else "dim"
    axis = axis_of(node, node.attrs.integer(name, 0 if name == "axis" else 1), xs[0].rank)
    for x in xs[1:]:
        same(node, xs[0].shape, x.shape, but=axis)
    return ops.concat(list(xs), axis) if len(xs) > 1 else xs[0]


@handler("stack", "_npi_stack")
def stack(node: Node, *xs: Tensor) -> Tensor:
    axis = axis_of(node, node.attrs.integer("axis", 0), xs[0].rank + 1)
    for x in xs[1:]:
        same(node, xs[0].shape, x.shape)
    return ops.concat([ops.reshape(x, (*x.shape[:axis], 1, *x.shape[axis:])) for x in xs], axis)


@handler("tile")
def tile(node: Node, x: Tensor) -> Tensor:
    reps = node.attrs.ints("reps")
    rank = max(len(reps), x.rank)
    wide = ops.reshape(x, (*[1] * (rank - x.rank), *x.shape))
    return ops.tile(wide, (*[1] * (rank - len(reps)), *reps))


@handler("repeat")
def repeat(node: Node, x: Tensor) -> Tensor:
    """Each element ``repeats`` times, along an axis or of all in a row."""
    n = node.attrs.integer("repeats")
    if not node.attrs.given("axis"):
        x = ops.reshape(x, (dims.mul(*x.shape),))
    axis = axis_of(node, node.attrs.integer("axis", 0), x.rank)
    shape = (*x.shape[: axis + 1], 1, *x.shape[axis + 1 :])
    wide = ops.expand(ops.reshape(x, shape), (*x.shape[: axis + 1], n, *x.shape[axis + 1 :]))
    return ops.reshape(wide, (*x.shape[:axis], dims.mul(x.shape[axis], n), *x.shape[axis + 1 :]))


@handler("broadcast_to", "_npi_broadcast_to")
def broadcast_to(node: Node, x: Tensor) -> Tensor:
    """To a shape, in which 0 keeps a size."""
    shape = node.attrs.ints("shape")
    if len(shape) < x.rank:
        raise ImportModelError(f"{node}: {x.type} has more axes than {list(shape)}")
    own = (*[1] * (len(shape) - x.rank), *x.shape)
    return ops.expand(x, tuple(o if s == 0 else s for s, o in zip(shape, own, strict=True)))


@handler("broadcast_axis", "broadcast_axes")
def broadcast_axis(node: Node, x: Tensor) -> Tensor:
    shape = list(x.shape)
    for axis, size in zip(node.attrs.ints("axis", ()), node.attrs.ints("size", ()), strict=True):
        shape[axis_of(node, axis, x.rank)] = size
    return ops.expand(x, tuple(shape))


@handler("broadcast_like")
def broadcast_like(node: Node, x: Tensor, like: Tensor) -> Tensor:
    if not node.attrs.given("lhs_axes"):
        return ops.expand(x, like.shape)
    shape = list(x.shape)
    for a, b in zip(node.attrs.ints("lhs_axes"), node.attrs.ints("rhs_axes"), strict=True):
        shape[axis_of(node, a, x.rank)] = like.shape[axis_of(node, b, like.rank)]
    return ops.expand(x, tuple(shape))
