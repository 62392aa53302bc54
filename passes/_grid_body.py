"""A scan whose steps convolve images, moved to a grid: what `lower-conv` does with a body."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from rnngraph.ir import SCAN, Block, Builder, Op, Scan, Shape, Value, make_op
from rnngraph.ir.clone import clone_op
from rnngraph.ir.grid_ops import CONV
from rnngraph.ir.ops import (
    BROADCAST,
    CONCAT,
    CONST,
    GT,
    MATMUL,
    RESHAPE,
    SELECT,
    YIELD,
    AxisAttrs,
    BroadcastAttrs,
    ConcatAttrs,
    ReduceAttrs,
    ReshapeAttrs,
    SliceAttrs,
    YieldAttrs,
    is_elementwise,
)
from rnngraph.passes._grid import Grid, as_matmul, cropped, grid_of, has_grid, keeps_size, padded, spatial
from rnngraph.rewrite import Miss
from rnngraph.rewrite.scan_edit import prune


class Outside(Protocol):
    """What is on a grid in front of the scan."""

    def zeroed(self, b: Builder, value: Value, axis: int, grid: Grid) -> tuple[Value, Grid]: ...

    def anyhow(self, b: Builder, value: Value, axis: int, grid: Grid, user: Op) -> Value: ...

    def note(self, image: Value, full: Value, grid: Grid) -> None: ...


@dataclass(frozen=True, slots=True)
class Plan:
    """The convolutions of a body, the grid that serves them all, and the values that must be zero beside the image."""

    convs: tuple[Op, ...]
    grid: Grid
    zeroed: frozenset[Value]


# --- finding ------------------------------------------------------------------------------------------------------


def find(scan: Op) -> Plan | Miss:
    """Whether the body can move to a grid, or the first reason why not."""
    s = Scan(scan)
    convs = tuple(op for op in s.body.body if op.opdef is CONV)
    if missing := [conv for conv in convs if not has_grid(conv)]:
        return Miss(f"the image {missing[0].operands[0].type} of a convolution in a step has no fixed size",
                    missing[0].layer)
    data = spatial(convs[0])
    for conv in convs:
        x, kernel = conv.operands
        if x.type.rank != len(data) + 2 or spatial(conv) != data or not keeps_size(conv):
            return Miss(f"the convolution of {x.type} to {conv.result.type} in a step does not keep the size "
                        f"{list(data)}", conv.layer)
        if kernel.block is s.body:
            return Miss(f"the kernel {kernel.type} of a convolution is computed inside the step", conv.layer)
    grids = [grid_of(conv) for conv in convs]
    grid = Grid(data, tuple(max(g.sizes[k] for g in grids) for k in range(len(data))))
    images = _Images(s, (convs[0].operands[0].shape[0], *data))
    for op in s.body.body:
        if op.opdef is not YIELD and (reason := images.obstacle(op)) is not None:
            return Miss(reason, op.layer)
    return Plan(convs, grid, frozenset(_zeroed(s, convs)))


def _zeroed(s: Scan, convs: Sequence[Op]) -> set[Value]:
    """What convolutions read, and what a state that they read is made of."""
    found: set[Value] = set()
    todo = [p for conv in convs for p in pieces_of(conv.operands[0], s.body)]
    while todo:
        value = todo.pop()
        if value not in found:
            found.add(value)
            if value in s.carry_args:
                todo.append(s.next_carries[s.carry_args.index(value)])
    return found


def pieces_of(value: Value, block: Block) -> list[Value]:
    """The values that joins along the channels are made of."""
    op = value.op
    if op is None or value.block is not block or op.opdef is not CONCAT:
        return [value]
    return [p for v in op.operands for p in pieces_of(v, block)]


@dataclass(frozen=True, slots=True)
class _Images:
    """Which values of a body are images [batch, *sizes, channels], or one number per cell."""

    scan: Scan
    rows: Shape

    def is_image(self, v: Value) -> bool:
        return v.shape[: len(self.rows)] == self.rows and v.type.rank <= len(self.rows) + 1

    def obstacle(self, op: Op) -> str | None:
        """Why an op cannot move to the grid; None when it can."""
        rank = len(self.rows)
        what = f"op {op.name} ({op.result.type}) in a step" if len(op.results) == 1 else f"op {op.name} in a step"
        if op.blocks or len(op.results) != 1:
            return f"{what} has no form on a grid"
        if not any(map(self.is_image, (*op.operands, op.result))) or is_elementwise(op) or op.opdef is CONST:
            return None
        if op.opdef is CONV or (op.opdef is MATMUL and op.operands[1].type.rank == 2):
            return None if op.operands[0].type.rank == rank + 1 else f"{what} takes no image"
        if isinstance(op.attrs, SliceAttrs | ConcatAttrs):
            return None if op.attrs.axis == rank else f"{what} cuts images apart or joins them"
        if isinstance(op.attrs, AxisAttrs):
            return None if op.attrs.axis == rank else f"{what} goes along the cells of an image"
        if isinstance(op.attrs, ReduceAttrs):
            return None if op.attrs.axes == (rank,) else f"{what} goes over the cells of an image"
        if isinstance(op.attrs, BroadcastAttrs):
            return self._broadcast(op, op.attrs, what)
        if op.opdef is RESHAPE and self.is_image(op.operands[0]) and self.is_image(op.result):
            return None
        return f"{what} has no form on a grid"

    def _broadcast(self, op: Op, a: BroadcastAttrs, what: str) -> str | None:
        source, rank = op.operands[0], len(self.rows)
        if not self.is_image(op.result):
            return f"{what} repeats an image"
        plain = a.axes in ((), (rank,)) or a.axes == tuple(range(rank))
        inside = source.block is self.scan.body and source not in self.scan.x_args
        return f"{what} repeats a value of its own along an image" if inside and not plain else None


# --- rewriting ----------------------------------------------------------------------------------------------------


def apply(scan: Op, plan: Plan, outside: Outside) -> None:
    """Replace the scan by one on the grid, between padded inputs and cropped outputs."""
    _Mover(scan, plan, outside).run()


@dataclass(slots=True)
class _Mover:
    scan: Op
    plan: Plan
    outside: Outside
    body: Block = field(default_factory=Block)
    new: dict[Value, Value] = field(default_factory=dict)  # values of the old body, and captures, on the grid
    known: dict[tuple[object, ...], Value] = field(default_factory=dict)
    more: list[tuple[Value, Value]] = field(default_factory=list)  # further sequences: outside, argument
    cells: Value | None = None  # 1 on the image, 0 beside it

    def run(self) -> None:
        s, grid = Scan(self.scan), self.plan.grid
        top = Builder.at(self.scan)
        inits = [padded(top, v, 1, grid) if self.is_image(a) else v for a, v in zip(s.carry_args, s.inits, strict=True)]
        sequences = [self.sequence(top, a, x) for a, x in zip(s.x_args, s.xs, strict=True)]
        for arg, v in zip(s.carry_args, inits, strict=True):
            self.new[arg] = self.body.add_arg(v.type, arg.hint)
        for arg, v in zip(s.x_args, sequences, strict=True):
            self.new[arg] = self.body.add_arg(v.type.with_shape(v.shape[1:]), arg.hint)
        self.cells = self.mask_row(top)
        b = Builder(self.body, layer=self.scan.layer)
        for op in s.body.body:
            b.layer = op.layer
            if op.opdef is not YIELD:
                self.new[op.result] = self.zero_beside(b, op.result, self.move(top, b, op))
        self.finish(top, inits, sequences)

    def finish(self, top: Builder, inits: Sequence[Value], sequences: Sequence[Value]) -> None:
        s, grid = Scan(self.scan), self.plan.grid
        end = s.body.terminator
        b = Builder(self.body, layer=end.layer)
        results = [self.get(top, b, v) for v in end.operands]
        self.body.append(make_op(YIELD, results, YieldAttrs(len(inits)), layer=end.layer))
        names = [*s.attrs.xs, *(f"grid{k}" for k in range(len(self.more)))]
        attrs = replace(s.attrs, xs=tuple(names))
        operands = (*inits, *sequences, *(x for x, _ in self.more), *(() if s.lengths is None else (s.lengths,)))
        new = top.insert(make_op(SCAN, operands, attrs, (self.body,), self.scan.layer))
        for old, result in zip(self.scan.results, new.results, strict=True):
            result.hint = old.hint
            axis = 1 if old.index < len(inits) else 2
            if old.type.shape == result.type.shape:
                old.replace_by(result)
                continue
            image = cropped(top, result, axis, grid.data, [1] * len(grid.data))
            old.replace_by(image)
            if end.operands[old.index] in self.plan.zeroed:
                self.outside.note(image, result, grid)
        self.scan.erase()
        prune(new)

    # --- what comes from outside ----------------------------------------------------------------------------------

    def is_image(self, v: Value) -> bool:
        x = self.plan.convs[0].operands[0]
        return _Images(Scan(self.scan), x.shape[:-1]).is_image(v)

    def sequence(self, top: Builder, arg: Value, x: Value) -> Value:
        if not self.is_image(arg):
            return x
        if arg in self.plan.zeroed:
            return padded(top, x, 2, self.plan.grid)
        return self.outside.anyhow(top, x, 2, self.plan.grid, self.scan)

    def mask_row(self, top: Builder) -> Value:
        """1 on the image, 0 beside it, for every cell of every batch entry."""
        grid = self.plan.grid
        cells = np.zeros(grid.sizes, np.float32)
        cells[tuple(slice(0, n) for n in grid.data)] = 1.0
        batch = self.plan.convs[0].operands[0].shape[0]
        return top.broadcast(top.const(cells), (batch, *grid.sizes), tuple(range(1, 1 + len(grid.sizes))))

    def get(self, top: Builder, b: Builder, v: Value) -> Value:
        """The value on the grid: of the body, or a capture, padded in front of the scan."""
        if v in self.new:
            return self.new[v]
        if v.block is Scan(self.scan).body or not self.is_image(v):
            return v
        self.new[v] = padded(top, v, 1, self.plan.grid)
        return self.new[v]

    # --- the body -------------------------------------------------------------------------------------------------

    def zero_beside(self, b: Builder, old: Value, new: Value) -> Value:
        """With zeros beside the image, where a convolution reads it."""
        return self.masked(b, new) if old in self.plan.zeroed and old.block is Scan(self.scan).body else new

    def masked(self, b: Builder, v: Value) -> Value:
        if self.plan.grid.sizes == self.plan.grid.data or self.cells is None:
            return v
        own = b.broadcast(self.cells, v.shape, tuple(range(self.cells.type.rank)))
        zero = b.zeros(v.type)
        return b.op(SELECT, b.op(GT, own, zero), v, zero, hint=v.hint)

    def move(self, top: Builder, b: Builder, op: Op) -> Value:
        """An op of the body, on the grid."""
        a = op.attrs
        if op.opdef is CONV:
            pieces = [self.get(top, b, p) for p in pieces_of(op.operands[0], Scan(self.scan).body)]
            return as_matmul(b, top, op, pieces, self.plan.grid, self.known)
        if not any(map(self.is_image, (*op.operands, op.result))):
            copy = clone_op(op, self.new)
            self.body.append(copy)
            return copy.result
        if isinstance(a, BroadcastAttrs):
            return self.move_broadcast(top, b, op, a)
        if isinstance(a, ReshapeAttrs):
            a = ReshapeAttrs(self.on_grid(a.shape))
        return b.op(op.opdef, *(self.get(top, b, v) for v in op.operands), attrs=a, hint=op.result.hint)

    def on_grid(self, shape: Shape) -> Shape:
        n = len(self.plan.grid.sizes)
        return (shape[0], *self.plan.grid.sizes, *shape[1 + n :])

    def move_broadcast(self, top: Builder, b: Builder, op: Op, a: BroadcastAttrs) -> Value:
        source, shape = op.operands[0], self.on_grid(a.shape)
        rank = 1 + len(self.plan.grid.sizes)
        if a.axes in ((), (rank,)) or a.axes == tuple(range(rank)):
            return b.op(BROADCAST, self.get(top, b, source), attrs=BroadcastAttrs(shape, a.axes), hint=op.result.hint)
        s = Scan(self.scan)
        if source not in s.x_args:  # from outside: the same in every step
            return top.broadcast(self.part(top, source, a.axes), shape, a.axes)
        sequence = s.xs[s.x_args.index(source)]
        axes = (0, *(k + 1 for k in a.axes))
        wide = top.broadcast(self.part(top, sequence, axes, 1), (s.attrs.steps, *shape), axes)
        arg = self.body.add_arg(wide.type.with_shape(shape), source.hint)
        self.more.append((wide, arg))
        return arg

    def part(self, top: Builder, source: Value, axes: Sequence[int], lead: int = 0) -> Value:
        """A value that has some of the image's axes, with these padded."""
        for k, axis in enumerate(axes):
            cell = axis - 1 - lead
            if 0 <= cell < len(self.plan.grid.data):
                one = Grid((self.plan.grid.data[cell],), (self.plan.grid.sizes[cell],))
                source = padded(top, source, k, one)
        return source


__all__ = ["Plan", "apply", "find"]
