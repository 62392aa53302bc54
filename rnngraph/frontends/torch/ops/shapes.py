"""Shapes: views, permutations, joins and cuts."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from rnngraph.errors import ImportModelError
from rnngraph.frontends.imported import NeedsSize
from rnngraph.frontends.torch.ops.emit import known
from rnngraph.frontends.torch.ops.numbers import common
from rnngraph.frontends.torch.program import Node
from rnngraph.frontends.torch.registry import handler
from rnngraph.ir import Dim, dims
from rnngraph.nn import ops
from rnngraph.nn.tensor import Tensor

END = 2**62  # a bound of a slice from here on is the end


@handler("aten.view", "aten.reshape", "aten._unsafe_view", "aten._reshape_alias")
def view(node: Node, self: Tensor, size: list[Any] | None = None, shape: list[Any] | None = None,
         dtype: Any = None, stride: Any = None) -> Tensor:
    wanted = size if size is not None else shape
    if wanted is None:
        raise ImportModelError("a view of the bits as another dtype is not supported")
    return ops.reshape(self, tuple(wanted))


@handler("aten.view_as", "aten.reshape_as")
def view_as(node: Node, self: Tensor, other: Tensor) -> Tensor:
    return ops.reshape(self, other.shape)


@handler("aten.flatten")
def flatten(node: Node, self: Tensor, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    if not self.rank:
        return ops.reshape(self, (1,))
    first, last = start_dim % self.rank, end_dim % self.rank
    return ops.reshape(self, (*self.shape[:first], dims.mul(*self.shape[first : last + 1]), *self.shape[last + 1 :]))


@handler("aten.unflatten")
def unflatten(node: Node, self: Tensor, dim: int, sizes: list[Any]) -> Tensor:
    axis = dim % self.rank
    known = list(sizes)
    if -1 in known:
        at = known.index(-1)
        known[at] = dims.floordiv(self.shape[axis], dims.mul(*(d for i, d in enumerate(known) if i != at)))
    return ops.reshape(self, (*self.shape[:axis], *known, *self.shape[axis + 1 :]))


@handler("aten.squeeze")
def squeeze(node: Node, self: Tensor, dim: Any = None) -> Tensor:
    """Dims of size 1 go, of those that are given; `NeedsSize` where that is for a call to say."""
    chosen = range(self.rank) if dim is None else [dim] if isinstance(dim, int) else dim
    gone = {d % self.rank for d in chosen if self.rank and self.shape[d] == 1}
    open_ = {s for d in chosen if self.rank and isinstance(self.shape[d], str) for s in dims.symbols_of(self.shape[d])}
    if open_:
        raise NeedsSize(sorted(open_), f"{node} takes the dims of size 1 of {self.type} away")
    return ops.reshape(self, tuple(d for i, d in enumerate(self.shape) if i not in gone))


@handler("aten.unsqueeze")
def unsqueeze(node: Node, self: Tensor, dim: int) -> Tensor:
    at = dim % (self.rank + 1)
    return ops.reshape(self, (*self.shape[:at], 1, *self.shape[at:]))


@handler("aten.permute")
def permute(node: Node, self: Tensor, dims: list[int]) -> Tensor:
    return ops.transpose(self, [d % self.rank for d in dims])


@handler("aten.transpose", "aten.swapaxes", "aten.swapdims")
def transpose(node: Node, self: Tensor, dim0: int | None = None, dim1: int | None = None, axis0: int = 0,
              axis1: int = 1) -> Tensor:
    if not self.rank:
        return self
    a, b = (axis0 if dim0 is None else dim0) % self.rank, (axis1 if dim1 is None else dim1) % self.rank
    perm = list(range(self.rank))
    perm[a], perm[b] = perm[b], perm[a]
    return ops.transpose(self, perm)


@handler("aten.t", "aten.numpy_T", "aten.mT", "aten.adjoint")
def t(node: Node, self: Tensor) -> Tensor:
    whole = node.op in ("aten.t", "aten.numpy_T")
    perm = list(range(self.rank))
    perm = perm[::-1] if whole else [*perm[:-2], perm[-1], perm[-2]]
    return ops.transpose(self, perm)


@handler("aten.movedim", "aten.moveaxis")
def movedim(node: Node, self: Tensor, source: Any, destination: Any) -> Tensor:
    a, b = ([v] if isinstance(v, int) else v for v in (source, destination))
    to = {d % self.rank: s % self.rank for s, d in zip(a, b, strict=True)}
    rest = iter(i for i in range(self.rank) if i not in to.values())
    return ops.transpose(self, [to[i] if i in to else next(rest) for i in range(self.rank)])


@handler("aten.expand", "aten.broadcast_to")
def expand(node: Node, self: Tensor, size: list[Any], implicit: bool = False) -> Tensor:
    lead = len(size) - self.rank
    return ops.expand(self, tuple(self.shape[i - lead] if d == -1 and i >= lead else d
                                        for i, d in enumerate(size)))


@handler("aten.expand_as")
def expand_as(node: Node, self: Tensor, other: Tensor) -> Tensor:
    return ops.expand(self, other.shape)


@handler("aten.repeat", "aten.tile")
def repeat(node: Node, self: Tensor, repeats: list[Any] | None = None, dims: list[Any] | None = None) -> Tensor:
    counts = list(repeats if repeats is not None else dims or [])
    counts = [1] * (self.rank - len(counts)) + counts
    x = ops.reshape(self, (*[1] * (len(counts) - self.rank), *self.shape))
    return ops.tile(x, tuple(counts))


@handler("aten.repeat_interleave")
def repeat_interleave(node: Node, self: Tensor, repeats: Any, dim: int | None = None,
                      output_size: Any = None) -> Tensor:
    if not isinstance(repeats, int):
        raise ImportModelError("repeat_interleave with a tensor of counts has no size that is known beforehand")
    x = self if dim is not None else ops.reshape(self, (dims.mul(*self.shape),))
    axis = (dim or 0) % x.rank
    wide = ops.reshape(x, (*x.shape[: axis + 1], 1, *x.shape[axis + 1 :]))
    spread = ops.expand(wide, (*x.shape[: axis + 1], repeats, *x.shape[axis + 1 :]))
    return ops.reshape(spread, (*x.shape[:axis], dims.mul(x.shape[axis], repeats), *x.shape[axis + 1 :]))


# --- joins and cuts ------------------------------------------------------------------------------------------------


@handler("aten.cat", "aten.concat", "aten.concatenate", each_step=True)
def cat(node: Node, tensors: list[Tensor], dim: int = 0) -> Tensor:
    dtype = node.dtype or common(*tensors)
    parts = [x for x in tensors if x.shape != (0,)] or tensors  # PyTorch skips empty vectors
    return ops.concat([x if x.dtype is dtype else ops.cast(x, dtype) for x in parts], dim)


@handler("aten.stack")
def stack(node: Node, tensors: list[Tensor], dim: int = 0) -> Tensor:
    at = dim % (tensors[0].rank + 1)
    return ops.concat([ops.reshape(x, (*x.shape[:at], 1, *x.shape[at:])) for x in tensors], at)


def cut(x: Tensor, axis: int, start: Dim, size: Dim) -> Tensor:
    """``size`` elements along an axis from ``start``."""
    return x[(slice(None),) * axis + (slice(start, dims.add(start, size)),)]


@handler("aten.split", "aten.split_with_sizes", "aten.unsafe_split")
def split(node: Node, self: Tensor, split_size: Any = None, split_sizes: Any = None, dim: int = 0) -> list[Tensor]:
    axis = dim % self.rank
    size: Any = split_size if split_sizes is None else split_sizes
    if isinstance(size, list):
        sizes = size
    else:
        total, size = known(self.shape[axis], "what is split"), known(size, "the size of the parts of a split")
        sizes = [size] * (total // size) + ([total % size] if total % size else []) or [0]
    starts: list[Dim] = [0]
    for s in sizes:
        starts.append(dims.add(starts[-1], s))
    return [cut(self, axis, start, s) for start, s in zip(starts, sizes, strict=False)]


@handler("aten.chunk")
def chunk(node: Node, self: Tensor, chunks: int, dim: int = 0) -> list[Tensor]:
    axis = dim % self.rank
    total = self.shape[axis]
    each = dims.ceildiv(total, chunks)
    if isinstance(total, int):
        return split(node, self, each, None, axis)
    last = dims.sub(total, dims.mul(each, chunks - 1))
    return split(node, self, None, [each] * (chunks - 1) + [last], axis)


@handler("aten.tensor_split")
def tensor_split(node: Node, self: Tensor, sections: int | None = None, indices: list[int] | None = None,
                 dim: int = 0) -> list[Tensor]:
    total = self.shape[dim]
    if indices is not None:
        bounds: list[Any] = [0, *indices, total]
        return split(node, self, None, [dims.sub(b, a) for a, b in pairwise(bounds)], dim)
    total, sections = known(total, "what is split"), sections or 1
    return split(node, self, None, [total // sections + (i < total % sections) for i in range(sections)], dim)


@handler("aten.unbind")
def unbind(node: Node, self: Tensor, dim: int = 0) -> list[Tensor]:
    axis = dim % self.rank
    total = known(self.shape[axis], "what is unbound")
    return [self[(slice(None),) * axis + (i,)] for i in range(total)]


@handler("aten.slice")
def slice_(node: Node, self: Tensor, dim: int = 0, start: Any = None, end: Any = None, step: int = 1) -> Tensor:
    axis = dim % self.rank
    size = self.shape[axis]
    low = 0 if start is None else start
    if isinstance(low, int) and isinstance(size, int):
        low = max(low, -size)
    high = None if end is None or (isinstance(end, int) and end >= END) or end == size else end
    return self[(slice(None),) * axis + (slice(low, high, step),)]


@handler("aten.narrow")
def narrow(node: Node, self: Tensor, dim: int, start: Any, length: Any) -> Tensor:
    if isinstance(start, Tensor):
        raise ImportModelError("narrow from a place that only the call knows is not supported")
    axis = dim % self.rank
    return cut(self, axis, dims.add(self.shape[axis], start) if isinstance(start, int) and start < 0 else start, length)


@handler("aten.select")
def select(node: Node, self: Tensor, dim: int, index: Any) -> Tensor:
    axis = dim % self.rank
    if isinstance(index, str):
        return ops.reshape(cut(self, axis, index, 1), (*self.shape[:axis], *self.shape[axis + 1 :]))
    if not isinstance(index, int):
        raise ImportModelError(f"select: expected an integer, got {index!r}")
    return self[(slice(None),) * axis + (index,)]


@handler("aten.flip")
def flip(node: Node, self: Tensor, dims: list[int]) -> Tensor:
    for d in dims:
        self = ops.reverse(self, d % self.rank)
    return self


@handler("aten.roll")
def roll(node: Node, self: Tensor, shifts: Any, dims: Any = ()) -> Tensor:
    counts, axes = ([v] if isinstance(v, int) else list(v) for v in (shifts, dims))
    x = self if axes else ops.reshape(self, (-1,))
    for by, axis in zip(counts, axes or [0], strict=True):
        axis %= x.rank
        size = x.shape[axis]
        if isinstance(size, int):
            by %= max(size, 1)
        if by:
            lead = (slice(None),) * axis
            x = ops.concat([x[(*lead, slice(-by, None))], x[(*lead, slice(None, -by))]], axis)
    return x if axes else ops.reshape(x, self.shape)


@handler("aten.select_scatter")
def select_scatter(node: Node, self: Tensor, src: Tensor, dim: int, index: int) -> Tensor:
    axis = dim % self.rank
    size = self.shape[axis]
    at: Dim = dims.add(size, index) if index < 0 else index
    one = ops.reshape(src, (*src.shape[:axis], 1, *src.shape[axis:]))
    return _replaced(self, one, axis, at, dims.add(at, 1))


@handler("aten.slice_scatter")
def slice_scatter(node: Node, self: Tensor, src: Tensor, dim: int = 0, start: Any = None, end: Any = None,
                  step: int = 1) -> Tensor:
    axis = dim % self.rank
    size = self.shape[axis]
    low, high = 0 if start is None else start, size if end is None or (isinstance(end, int) and end >= END) else end
    low, high = (dims.add(size, v) if isinstance(v, int) and v < 0 else v for v in (low, high))
    if isinstance(high, int) and isinstance(size, int):
        high = min(high, size)
    if step != 1:
        raise ImportModelError(f"writing every {step}th element is not supported")
    return _replaced(self, src, axis, low, high)


def _replaced(x: Tensor, part: Tensor, axis: int, low: Dim, high: Dim) -> Tensor:
    """x with ``part`` at low..high of an axis."""
    size = x.shape[axis]
    lead = (slice(None),) * axis
    part = part if part.dtype is x.dtype else ops.cast(part, x.dtype)
    pieces = [*([x[(*lead, slice(0, low))]] if low != 0 else []), part,
              *([x[(*lead, slice(high, None))]] if high != size else [])]
    return ops.concat(pieces, axis)


@handler("aten.pad", "aten.constant_pad_nd", "aten.reflection_pad1d", "aten.reflection_pad2d",
         "aten.replication_pad1d", "aten.replication_pad2d")
def pad(node: Node, self: Tensor, pad: list[int] | None = None, mode: str = "constant", value: float | None = None,
        padding: list[int] | None = None) -> Tensor:
    """Pairs (in front, behind) from the last axis on; negative numbers cut."""
    amounts = list(pad if pad is not None else padding or [])
    kind = {"aten.ref": "reflect", "aten.rep": "replicate"}.get(node.op[:8], mode)
    kinds = {"constant": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}
    low, high = [0] * self.rank, [0] * self.rank
    for i in range(len(amounts) // 2):
        low[self.rank - 1 - i], high[self.rank - 1 - i] = amounts[2 * i], amounts[2 * i + 1]
    return ops.pad(self, low, high, kinds[kind], value or 0)


@handler("aten.unfold")
def unfold(node: Node, self: Tensor, dimension: int, size: int, step: int) -> Tensor:
    """Windows along an axis, their places last."""
    axis = dimension % self.rank
    count = dims.add(dims.floordiv(dims.sub(self.shape[axis], size), step), 1)
    lead = (slice(None),) * axis
    span = dims.add(dims.mul(dims.sub(count, 1), step), 1)
    taps = [self[(*lead, slice(k, dims.add(k, span), step))] for k in range(size)]
    return ops.concat([ops.reshape(x, (*x.shape, 1)) for x in taps], -1)
