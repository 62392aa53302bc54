"""``scan``: time as an op. Its groups (initial carries, sequences, lengths, outputs) have names, never positions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rnngraph.errors import InputError, ShapeError
from rnngraph.ir.core import Block, Op, Value
from rnngraph.ir.opdef import Array, Attrs, Cost, EvalContext, OpDef, Types, as_array
from rnngraph.ir.ops import YieldAttrs
from rnngraph.ir.types import I32, I64, Dim, Dims, TensorType, resolve


@dataclass(frozen=True, slots=True)
class ScanAttrs(Attrs):
    """Names of the groups, and how time runs.

    steps    number of steps: the leading dim of every sequence
    reverse  from the last step to the first; outputs stand at their input's time
    lengths  whether a lengths operand follows the sequences: past row b's length the carries stay untouched
    pad      what the outputs hold there: "zero", or "repeat" (the row's previous output, zero before the first)
    until    a carry, [B] or [B,1]: a row in which it is not zero when a step begins is done, as if past its length;
             when all rows are done, the loop ends. A carry []: the loop ends for all rows at once, and no other carry
             needs a batch. "": every step runs
    """

    carries: tuple[str, ...]
    xs: tuple[str, ...]
    ys: tuple[str, ...]
    steps: Dim
    reverse: bool = False
    lengths: bool = False
    pad: str = "zero"
    until: str = ""


class Scan:
    """Named access to a scan op's groups."""

    def __init__(self, op: Op) -> None:
        assert isinstance(op.attrs, ScanAttrs)
        self.op = op
        self.attrs = op.attrs

    @property
    def body(self) -> Block:
        return self.op.blocks[0]

    @property
    def inits(self) -> tuple[Value, ...]:
        return self.op.operands[: len(self.attrs.carries)]

    @property
    def xs(self) -> tuple[Value, ...]:
        n = len(self.attrs.carries)
        return self.op.operands[n : n + len(self.attrs.xs)]

    @property
    def lengths(self) -> Value | None:
        return self.op.operands[-1] if self.attrs.lengths else None

    @property
    def until(self) -> int | None:
        """Which carry says that a row is done."""
        return self.attrs.carries.index(self.attrs.until) if self.attrs.until else None

    @property
    def carry_args(self) -> list[Value]:
        return self.body.args[: len(self.attrs.carries)]

    @property
    def x_args(self) -> list[Value]:
        return self.body.args[len(self.attrs.carries) :]

    @property
    def next_carries(self) -> tuple[Value, ...]:
        return self.body.terminator.operands[: len(self.attrs.carries)]

    @property
    def emitted(self) -> tuple[Value, ...]:
        """The body's values that become the output sequences."""
        return self.body.terminator.operands[len(self.attrs.carries) :]

    @property
    def finals(self) -> tuple[Value, ...]:
        return self.op.results[: len(self.attrs.carries)]

    @property
    def ys(self) -> tuple[Value, ...]:
        return self.op.results[len(self.attrs.carries) :]


def infer_scan(types: Types, attrs: ScanAttrs, blocks: tuple[Block, ...]) -> Types:
    nc, nx = len(attrs.carries), len(attrs.xs)
    names = (*attrs.carries, *attrs.xs)
    if len(types) != nc + nx + attrs.lengths:
        raise ShapeError(f"scan: expected {nc} carries, {nx} sequences and {int(attrs.lengths)} lengths, "
                         f"got {len(types)} operands")
    if attrs.pad not in ("zero", "repeat"):
        raise ShapeError(f"scan: pad must be 'zero' or 'repeat', got {attrs.pad!r}")
    for group in (attrs.carries, attrs.xs, attrs.ys):
        if len(set(group)) != len(group):
            raise ShapeError(f"scan: names within a group must differ, got {list(group)}")
    TensorType(I32, (attrs.steps,))  # it is a size
    if len(blocks) != 1 or len(blocks[0].args) != nc + nx:
        raise ShapeError(f"scan: expected one body with {nc + nx} arguments")
    for name, t, arg in zip(names[:nc], types[:nc], blocks[0].args, strict=False):
        if t != arg.type:
            raise ShapeError(f"scan: carry {name} starts as {t} but the body takes {arg.type}")
    for name, t, arg in zip(names[nc:], types[nc : nc + nx], blocks[0].args[nc:], strict=True):
        if t.rank < 1 or t.shape[0] != attrs.steps:
            raise ShapeError(f"scan: sequence {name} must have leading dim {attrs.steps}, got {t}")
        if t.with_shape(t.shape[1:]) != arg.type:
            raise ShapeError(f"scan: a step of sequence {name} is {t.with_shape(t.shape[1:])} "
                             f"but the body takes {arg.type}")
    if attrs.lengths and (types[-1].dtype not in (I32, I64) or types[-1].rank != 1):
        raise ShapeError(f"scan: lengths must be i32[B] or i64[B], got {types[-1]}")
    end = blocks[0].terminator
    if not isinstance(end.attrs, YieldAttrs) or end.attrs.carries != nc or len(end.operands) != nc + len(attrs.ys):
        raise ShapeError(f"scan: the body must yield {nc} carries and {len(attrs.ys)} outputs")
    out = [v.type for v in end.operands]
    for name, t, got in zip(attrs.carries, types, out, strict=False):
        if t != got:
            raise ShapeError(f"scan: carry {name} enters a step as {t} and leaves it as {got}; "
                             "a state keeps its shape and dtype")
    if attrs.lengths:
        _expect_batch("lengths", types[-1].shape[0], attrs, out)
    if attrs.until:
        _check_until(attrs, out)
    return (*out[:nc], *(t.with_shape((attrs.steps, *t.shape)) for t in out[nc:]))


def _expect_batch(what: str, batch: Dim, attrs: ScanAttrs, out: Sequence[TensorType]) -> None:
    """Rows that end apart from each other: everything that a step makes has the batch in front."""
    for name, t in zip((*attrs.carries, *attrs.ys), out, strict=True):
        if t.rank < 1 or t.shape[0] != batch:
            raise ShapeError(f"scan: with {what}, {name} must have the batch {batch} as its first dim, got {t}")


def _check_until(attrs: ScanAttrs, out: Sequence[TensorType]) -> None:
    if attrs.until not in attrs.carries:
        raise ShapeError(f"scan: until must name one of the carries {list(attrs.carries)}, got {attrs.until!r}")
    t = out[attrs.carries.index(attrs.until)]
    if t.rank == 0:
        return
    if t.rank > 2 or t.shape[1:] not in ((), (1,)):
        raise ShapeError(f"scan: until takes a carry [B], [B,1] or [], got {attrs.until} of type {t}")
    _expect_batch("until", t.shape[0], attrs, out)


def check_lengths(lengths: Array, steps: int, layer: str = "") -> None:
    if lengths.size and (lengths.min() < 0 or lengths.max() > steps):
        where = f"layer {layer!r}: " if layer else ""
        raise InputError(f"{where}lengths must be in 0..{steps} (the number of steps), "
                         f"got {lengths.min()}..{lengths.max()}")


def _evaluate(ctx: EvalContext, op: Op, args: Sequence[Array]) -> Sequence[Array]:
    s = Scan(op)
    nc, nx = len(s.attrs.carries), len(s.attrs.xs)
    (steps,) = resolve((s.attrs.steps,), ctx.dims)
    carries, xs = list(args[:nc]), args[nc : nc + nx]
    lengths = args[-1] if s.attrs.lengths else None
    if lengths is not None:
        check_lengths(lengths, steps, op.layer)
    ys = [np.zeros_like(args[0], ctx.array_dtype(y.type.dtype), "C", shape=resolve(y.shape, ctx.dims)) if args
          else np.zeros(resolve(y.shape, ctx.dims), ctx.array_dtype(y.type.dtype)) for y in s.ys]
    before: int | None = None  # time of the step run before this one
    for t in reversed(range(steps)) if s.attrs.reverse else range(steps):
        active = None if lengths is None else t < lengths
        if s.until is not None:
            running = as_array(carries[s.until] == 0)
            if running.ndim:
                active = running.reshape(-1) if active is None else active & running.reshape(-1)
            if not running.any():
                _pad_rest(ys, t, before, s.attrs)
                break
        out = ctx.run_block(s.body, [*carries, *(x[t] for x in xs)])
        new, emitted = out[:nc], out[nc:]
        if active is None:
            carries = new
        else:
            carries = [_where(active, n, o) for n, o in zip(new, carries, strict=True)]
            repeat = s.attrs.pad == "repeat" and before is not None
            emitted = [_where(active, e, y[before] if repeat else np.zeros_like(e))
                       for e, y in zip(emitted, ys, strict=True)]
        for y, e in zip(ys, emitted, strict=True):
            y[t] = e
        before = t
    return [*carries, *ys]


def _pad_rest(ys: Sequence[Array], t: int, before: int | None, attrs: ScanAttrs) -> None:
    """Fill the outputs of the steps from ``t`` on, which no row runs; zeros are there already."""
    if attrs.pad == "repeat" and before is not None:
        for y in ys:
            y[slice(None, t + 1) if attrs.reverse else slice(t, None)] = y[before]


def _where(rows: Array, a: Array, b: Array) -> Array:
    return as_array(np.where(rows.reshape(-1, *([1] * (a.ndim - 1))), a, b))


def _cost(op: Op, dims: Dims) -> Cost:
    s = Scan(op)
    (steps,) = resolve((s.attrs.steps,), dims)
    body = Cost()
    for inner in s.body.body:
        body = body + inner.opdef.cost(inner, dims)
    return body * steps


SCAN = OpDef("scan", infer_scan, _evaluate, _cost, ScanAttrs, frozenset({"region"}))
