"""Elements by index: embeddings, gathers, advanced indexing, scatters."""

from __future__ import annotations

from typing import Any

from rnngraph.errors import ImportModelError
from rnngraph.frontends.torch.items import Permutation, Permuted, tensor_of
from rnngraph.frontends.torch.ops.creation import filled
from rnngraph.frontends.torch.ops.packing import reordered
from rnngraph.frontends.torch.program import Node
from rnngraph.frontends.torch.registry import handler
from rnngraph.ir import BOOL, dims
from rnngraph.ir.builder import broadcast_shapes
from rnngraph.nn import ops
from rnngraph.nn.tensor import Tensor


@handler("aten.embedding", each_step=True)
def embedding(node: Node, weight: Tensor, indices: Tensor, padding_idx: int = -1, scale_grad_by_freq: bool = False,
              sparse: bool = False) -> Tensor:
    return ops.take(weight, indices, 0)


@handler("aten.embedding_bag", "aten._embedding_bag", "aten._embedding_bag_forward_only")
def embedding_bag(node: Node, **_: Any) -> Any:
    raise ImportModelError("expected an EmbeddingBag that rnngraph exports itself: give rnngraph.compile the module "
                           "instead of an ExportedProgram")


@handler("aten.index_select", raw=True)
def index_select(node: Node, self: Any, dim: int, index: Any) -> Any:
    x = self.tensor if isinstance(self, Permuted) else self
    axis = dim % max(x.rank, 1) if isinstance(x, Tensor) else dim
    if isinstance(index, Permutation):
        return reordered(self, axis, index)
    return ops.take(tensor_of(self), tensor_of(index), axis)


@handler("aten.index", raw=True)
def index(node: Node, self: Any, indices: list[Any]) -> Any:
    """x[i, j, ...]: integer tensors that broadcast, None for whole axes."""
    used = [i for i, v in enumerate(indices) if v is not None]
    if len(used) == 1 and isinstance(indices[used[0]], Permutation):
        return reordered(self, used[0], indices[used[0]])
    x, given = tensor_of(self), [None if v is None else tensor_of(v) for v in indices]
    if any(v is not None and v.dtype is BOOL for v in given):
        raise ImportModelError("indexing by a bool mask gives a size that depends on its values; use torch.where or "
                               "masked_fill")
    if len(used) == 1:
        found = given[used[0]]
        assert found is not None
        return ops.take(x, found, used[0])
    if not used:
        return x
    return _together(x, used, [v for v in given if v is not None])


def _together(x: Tensor, used: list[int], found: list[Tensor]) -> Tensor:
    """Several indices: their axes in front, joined to one that is indexed by the number of the place."""
    rest = [i for i in range(x.rank) if i not in used]
    sizes = [x.shape[i] for i in used]
    moved = ops.transpose(x, [*used, *rest])
    flat = ops.reshape(moved, (dims.mul(*sizes), *(x.shape[i] for i in rest)))
    shape = broadcast_shapes([v.shape for v in found])
    place: Tensor | None = None
    for v, size in zip(found, sizes, strict=True):
        step = ops.size_of(size, "i64")
        v = ops.cast(v, "i64")
        v = ops.where(v < 0, v + step, v)
        place = v if place is None else place * step + v
    assert place is not None
    taken = ops.take(flat, ops.expand(place, shape), 0)
    together = used == list(range(used[0], used[-1] + 1))
    if together and used[0] > 0:  # adjacent indices leave their axes in place
        lead = used[0]
        n = len(shape)
        return ops.transpose(taken, [*range(n, n + lead), *range(n), *range(n + lead, taken.rank)])
    return taken


@handler("aten.gather")
def gather(node: Node, self: Tensor, dim: int, index: Tensor, sparse_grad: bool = False) -> Tensor:
    """PyTorch's index may be smaller than the tensor in the other axes: these are cut first."""
    axis = dim % self.rank
    x = self
    for i, (have, want) in enumerate(zip(self.shape, index.shape, strict=True)):
        if i != axis and have != want:
            x = x[(slice(None),) * i + (slice(0, want),)]
    return ops.gather_elements(x, index, axis)


@handler("aten.take_along_dim")
def take_along_dim(node: Node, self: Tensor, indices: Tensor, dim: int | None = None) -> Tensor:
    if dim is None:
        raise ImportModelError("take_along_dim over all axes at once is not supported")
    axis = dim % self.rank
    lead = broadcast_shapes([tuple(1 if i == axis else d for i, d in enumerate(t.shape)) for t in (self, indices)])
    shapes = [tuple(t.shape[axis] if i == axis else d for i, d in enumerate(lead)) for t in (self, indices)]
    return ops.gather_elements(ops.expand(self, shapes[0]), ops.expand(indices, shapes[1]), axis)


@handler("aten.scatter", "aten.scatter_add", raw=True)
def scatter(node: Node, self: Any, dim: int, index: Any, src: Any = None, value: Any = None,
            reduce: str | None = None) -> Any:
    if isinstance(index, Permutation) and reduce is None and node.op != "aten.scatter_add":
        return index.inverse()  # the numbers 0, 1, ... written where a permutation says: how PyTorch inverts one
    x, at = tensor_of(self), tensor_of(index)
    updates = tensor_of(src) if src is not None else filled(value, at.shape, x.dtype)
    kinds = {None: "none", "add": "add", "multiply": "mul"}
    how = "add" if node.op == "aten.scatter_add" else kinds[reduce]
    return ops.scatter_elements(x, at, updates, dim % x.rank, reduction=how)


@handler("aten.one_hot")
def one_hot(node: Node, self: Tensor, num_classes: int = -1) -> Tensor:
    if num_classes < 1:
        raise ImportModelError("one_hot without num_classes has a size that depends on the values; give num_classes")
    return ops.cast(ops.one_hot(self, num_classes), "i64")


@handler("aten.tril", "aten.triu")
def triangle(node: Node, self: Tensor, diagonal: int = 0) -> Tensor:
    return ops.trilu(self, diagonal, upper=node.op.startswith("aten.triu"))
