"""lower-conv: a convolution becomes a matmul of its taps, side by side: in a loop on a grid with zeros around the
image, elsewhere of windows of the image's memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from rnngraph.ir import Builder, Graph, Op, Value
from rnngraph.ir.grid_ops import CONV
from rnngraph.ir.ops import BROADCAST, SLICE, BroadcastAttrs, SliceAttrs, is_elementwise
from rnngraph.passes import _grid_body as body
from rnngraph.passes import _windows
from rnngraph.passes._grid import Grid, as_matmul, attrs_of, cropped, grid_of, has_grid, keeps_size, padded
from rnngraph.rewrite import Miss, Pass, PassContext
from rnngraph.rewrite.scan_edit import sweep


@dataclass(frozen=True)
class LowerConv(Pass):
    """In a scan body, every value of the size of the convolved image moves to the grid, states too: padding enters
    with the first state, crops leave with the outputs, and what a convolution reads is set to zero beside the image in
    every step. Convolutions in front of a scan write what the scan reads on its grid.

    Elsewhere a convolution of any sizes, strides and groups reads its input window by window (`_windows`).
    A body with a convolution that changes the size, or with ops that mix cells of the image, stays, with a remark.
    """

    name: ClassVar[str] = "lower-conv"

    def run(self, graph: Graph, context: PassContext) -> None:
        images = Images()
        for op in graph.block.body:
            if op.name == "scan" and any(inner.opdef is CONV for inner in op.blocks[0].body):
                plan = body.find(op)
                if isinstance(plan, Miss):
                    context.missed(plan, op.layer)
                else:
                    body.apply(op, plan, images)
                    sweep(graph.block)
                    context.applied(op.layer, f"{len(plan.convs)} convolution(s) of a step became matmuls on images "
                                              f"of {_by(plan.grid.sizes)} cells, {_by(plan.grid.data)} of them data")
        for op in graph.block.body:
            if op.opdef is CONV and op.parent is not None:
                if op.result.uses:
                    images.lower(op)
                    context.applied(op.layer, f"the convolution of {op.operands[0].type} by {op.operands[1].type} "
                                              "became a matmul")
                op.erase()


def _by(sizes: tuple[int, ...]) -> str:
    return "x".join(map(str, sizes))


@dataclass(slots=True)
class Images:
    """What stands on a grid already, in the graph's own block."""

    on: dict[Value, tuple[Value, Grid]] = field(default_factory=dict)  # an image -> itself with zeros around it
    known: dict[tuple[object, ...], Value] = field(default_factory=dict)

    def zeroed(self, b: Builder, value: Value, axis: int, grid: Grid) -> tuple[Value, Grid]:
        """``value`` with zeros around it, on ``grid`` or one that holds it."""
        if value in self.on and self.on[value][1].holds(grid):
            return self.on[value]
        found = padded(behind(b, value), value, axis, grid), grid
        self.on[value] = found
        return found

    def note(self, image: Value, full: Value, grid: Grid) -> None:
        """That ``full`` is an image with zeros around it already: the next layer's convolution reads it there."""
        self.on[image] = full, grid

    def lower(self, conv: Op) -> None:
        """A convolution between images that stay as they are; on the grid where its input stands there already."""
        b = Builder.at(conv)
        x, grid = self.on.get(conv.operands[0], (None, None))
        if x is None or grid is None or not has_grid(conv) or not grid.holds(grid_of(conv)):
            conv.result.replace_by(_windows.lower(b, conv))
            return
        axis = conv.operands[0].type.rank - 1 - len(attrs_of(conv).strides)
        full = as_matmul(b, b, conv, [x], grid, self.known, behind(b, x))
        sizes = [int(d) for d in conv.result.shape[axis:-1]]
        conv.result.replace_by(cropped(b, full, axis, sizes, attrs_of(conv).strides))

    def anyhow(self, b: Builder, value: Value, axis: int, grid: Grid, user: Op) -> Value:
        """``value`` on the grid with anything around it: convolutions, and arithmetic on them, that only ``user``
        reads are computed there."""
        op = value.op
        if op is not None and op.parent is user.parent and all(u is user for u in value.users()):
            found = self._computed(b, op, axis, grid)
            if found is not None:
                return found
        if op is not None and op.opdef is BROADCAST:
            assert isinstance(op.attrs, BroadcastAttrs)
            if not any(axis <= a < axis + len(grid.sizes) for a in op.attrs.axes):
                shape = (*value.shape[:axis], *grid.sizes, *value.shape[axis + len(grid.sizes) :])
                return b.broadcast(op.operands[0], shape, op.attrs.axes)
        return padded(b, value, axis, grid)

    def _computed(self, b: Builder, op: Op, axis: int, grid: Grid) -> Value | None:
        if op.opdef is CONV and keeps_size(op) and grid.holds(grid_of(op)):
            x, own = self.zeroed(b, op.operands[0], axis, grid)
            return as_matmul(b, b, op, [x], own, self.known, behind(b, x)) if own == grid else None
        if op.opdef is SLICE and isinstance(op.attrs, SliceAttrs) and op.attrs.axis == op.result.type.rank - 1:
            a = op.attrs
            return b.slice(self.anyhow(b, op.operands[0], axis, grid, op), a.axis, a.start, a.size, a.step)
        if is_elementwise(op):
            return b.op(op.opdef, *(self.anyhow(b, v, axis, grid, op) for v in op.operands), attrs=op.attrs,
                        hint=op.result.hint)
        return None


def behind(b: Builder, value: Value) -> Builder:
    """A builder right behind the definition of ``value``: what it makes may be read by whoever may read the value."""
    ops = b.block.ops
    at = 0 if value.op is None else ops.index(value.op) + 1
    return Builder(b.block, ops[at], b.layer)


__all__ = ["Images", "LowerConv"]
