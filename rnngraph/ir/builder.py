"""Builder: makes ops at a place in a block, checks them by the typing rule, inserts the broadcasts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np

from rnngraph.errors import ShapeError, SizesDiffer
from rnngraph.ir import dims, ops
from rnngraph.ir.core import Block, Graph, Op, Value
from rnngraph.ir.opdef import NO_ATTRS, Array, Attrs, Literal, OpDef
from rnngraph.ir.scan import SCAN, ScanAttrs
from rnngraph.ir.types import F32, Dim, DType, Shape, TensorType


def make_op(opdef: OpDef, operands: Sequence[Value] = (), attrs: Attrs = NO_ATTRS,
            blocks: tuple[Block, ...] = (), layer: str = "") -> Op:
    """A detached op whose result types come from its typing rule; ShapeError (naming the layer) when it fails."""
    if not isinstance(attrs, opdef.attrs):
        raise ShapeError(f"{opdef.name}: attributes must be {opdef.attrs.__name__}, got {type(attrs).__name__}")
    try:
        types = opdef.infer(tuple(v.type for v in operands), attrs, blocks)
    except ShapeError as e:
        raise (e.at(f"layer {layer!r}") if layer else e) from None
    op = Op(opdef, attrs, layer, blocks=blocks)
    for block in blocks:
        block.parent = op
    op.set_operands(operands)
    op.results = tuple(Value(t, op, i) for i, t in enumerate(types))
    return op


class Builder:
    """Inserts ops at the end of ``block``, or before ``before``; ``layer`` is written on each."""

    def __init__(self, block: Block, before: Op | None = None, layer: str = "") -> None:
        self.block = block
        self.before = before
        self.layer = layer

    @classmethod
    def at(cls, op: Op) -> Builder:
        """A builder that inserts right before ``op`` and inherits its layer."""
        assert op.parent is not None
        return cls(op.parent, op, op.layer)

    @contextmanager
    def named(self, layer: str) -> Iterator[Builder]:
        """Within this context ops carry ``layer``."""
        old, self.layer = self.layer, layer
        try:
            yield self
        finally:
            self.layer = old

    def insert(self, op: Op) -> Op:
        if self.before is None:
            self.block.append(op)
        else:
            self.block.insert(self.block.ops.index(self.before), op)
        return op

    def op(self, opdef: OpDef, *operands: Value, attrs: Attrs = NO_ATTRS, hint: str = "") -> Value:
        """Insert an op with one result and return the result."""
        result = self.insert(make_op(opdef, operands, attrs, layer=self.layer)).result
        result.hint = hint
        return result

    # --- values ---------------------------------------------------------------------------------------------

    def const(self, array: Array | float | int, dtype: DType | None = None, hint: str = "") -> Value:
        """A constant; a Python number needs ``dtype`` or becomes f32."""
        if not isinstance(array, np.ndarray | np.generic):
            dtype = dtype or F32
            array = np.asarray(array, dtype.numpy)
        return self.op(ops.CONST, attrs=ops.ConstAttrs(Literal(np.asarray(array), dtype)), hint=hint)

    def full(self, value: float, shape: Shape, dtype: DType = F32) -> Value:
        """A tensor filled with ``value``; dims may be symbols."""
        return self.broadcast(self.const(value, dtype), shape, ())

    def zeros(self, type: TensorType) -> Value:
        return self.full(0.0 if type.dtype.is_float else 0, type.shape, type.dtype)

    # --- shape ----------------------------------------------------------------------------------------------

    def broadcast(self, x: Value, shape: Shape, axes: tuple[int, ...] | None = None) -> Value:
        """Repeat ``x`` to ``shape``; without ``axes`` its axes are the last ones (numpy's rule)."""
        if axes is None:
            axes = tuple(range(len(shape) - x.type.rank, len(shape)))
        if x.type.shape == tuple(shape):
            return x
        return self.op(ops.BROADCAST, x, attrs=ops.BroadcastAttrs(tuple(shape), axes))

    def concat(self, values: Sequence[Value], axis: int = -1) -> Value:
        if len(values) == 1:
            return values[0]
        return self.op(ops.CONCAT, *values, attrs=ops.ConcatAttrs(axis % values[0].type.rank))

    def slice(self, x: Value, axis: int, start: Dim, size: Dim, step: int = 1) -> Value:
        axis %= x.type.rank
        if start == 0 and step == 1 and size == x.shape[axis]:
            return x
        return self.op(ops.SLICE, x, attrs=ops.SliceAttrs(axis, start, size, step))

    def split(self, x: Value, parts: int, axis: int = -1) -> list[Value]:
        """Equal slices; ``parts`` must be known to divide the size of the axis."""
        dim = x.shape[axis % x.type.rank]
        size = dims.floordiv(dim, parts)
        if dims.mul(size, parts) != dim:
            raise ShapeError(f"split: cannot cut dim {dim} of {x.type} into {parts} equal parts")
        return [self.slice(x, axis, dims.mul(size, i), size) for i in range(parts)]

    def reshape(self, x: Value, shape: Shape) -> Value:
        if x.type.shape == tuple(shape):
            return x
        return self.op(ops.RESHAPE, x, attrs=ops.ReshapeAttrs(tuple(shape)))

    def transpose(self, x: Value, perm: Sequence[int]) -> Value:
        if list(perm) == list(range(len(perm))):
            return x
        return self.op(ops.TRANSPOSE, x, attrs=ops.TransposeAttrs(tuple(perm)))

    def reverse(self, x: Value, axis: int) -> Value:
        return self.op(ops.REVERSE, x, attrs=ops.AxisAttrs(axis % x.type.rank))

    # --- arithmetic (operands broadcast by numpy's rule, made explicit) -----------------------------------------

    def unify(self, *values: Value | float) -> list[Value]:
        """Values of one shape, numbers becoming constants and smaller shapes broadcast ops."""
        tensors = [v for v in values if isinstance(v, Value)]
        floats = [v for v in tensors if v.type.dtype.kind != "bool"] or tensors
        shape = broadcast_shapes([v.shape for v in tensors])
        out = []
        for v in values:
            v = v if isinstance(v, Value) else self.const(v, floats[0].type.dtype)
            out.append(self.expand(v, shape))
        return out

    def expand(self, x: Value, shape: Shape) -> Value:
        """numpy-style broadcast of ``x`` to ``shape`` (dims of size 1 repeat, leading dims are added)."""
        if x.shape == shape:
            return x
        lead = len(shape) - x.type.rank
        keep = [i for i, d in enumerate(x.shape) if not (d == 1 and shape[lead + i] != 1)]
        squeezed = self.reshape(x, tuple(x.shape[i] for i in keep))
        return self.broadcast(squeezed, shape, tuple(lead + i for i in keep))

    def elementwise(self, opdef: OpDef, *values: Value | float, hint: str = "") -> Value:
        return self.op(opdef, *self.unify(*values), hint=hint)

    def add(self, a: Value | float, b: Value | float) -> Value:
        return self.elementwise(ops.ADD, a, b)

    def sub(self, a: Value | float, b: Value | float) -> Value:
        return self.elementwise(ops.SUB, a, b)

    def mul(self, a: Value | float, b: Value | float) -> Value:
        return self.elementwise(ops.MUL, a, b)

    def div(self, a: Value | float, b: Value | float) -> Value:
        return self.elementwise(ops.DIV, a, b)

    def tanh(self, x: Value) -> Value:
        return self.op(ops.TANH, x)

    def sigmoid(self, x: Value) -> Value:
        return self.op(ops.SIGMOID, x)

    def matmul(self, a: Value, b: Value, hint: str = "") -> Value:
        return self.op(ops.MATMUL, a, b, hint=hint)

    def cast(self, x: Value, dtype: DType) -> Value:
        return x if x.type.dtype == dtype else self.op(ops.CAST, x, attrs=ops.CastAttrs(dtype))

    def reduce(self, opdef: OpDef, x: Value, axes: Sequence[int]) -> Value:
        return self.op(opdef, x, attrs=ops.ReduceAttrs(tuple(sorted(a % x.type.rank for a in axes))))

    # --- regions ----------------------------------------------------------------------------------------------

    def scan(self, carries: Mapping[str, Value], xs: Mapping[str, Value],
             body: Callable[[Builder, dict[str, Value], dict[str, Value]],
                            tuple[Mapping[str, Value], Mapping[str, Value]]],
             *, steps: Dim | None = None, lengths: Value | None = None, reverse: bool = False,
             pad: str = "zero", until: str = "",
             hints: Mapping[str, str] | None = None) -> tuple[dict[str, Value], dict[str, Value]]:
        """A loop over time. ``body(builder, carries, xs) -> (next carries, outputs)`` is called once to trace a step;
        returns the final carries and the output sequences, by name."""
        if steps is None:
            if not xs:
                raise ShapeError(f"layer {self.layer!r}: scan without sequences needs steps=")
            steps = next(iter(xs.values())).shape[0]
        block = Block()
        c = {n: block.add_arg(v.type, n) for n, v in carries.items()}
        x = {n: block.add_arg(v.type.with_shape(v.shape[1:]), n) for n, v in xs.items()}
        new, ys = body(Builder(block, layer=self.layer), c, x)
        if list(new) != list(carries):
            raise ShapeError(f"layer {self.layer!r}: a step must return the carries {list(carries)}, got {list(new)}")
        block.append(make_op(ops.YIELD, (*new.values(), *ys.values()), ops.YieldAttrs(len(new)), layer=self.layer))
        attrs = ScanAttrs(tuple(carries), tuple(xs), tuple(ys), steps, reverse, lengths is not None, pad, until)
        operands = (*carries.values(), *xs.values(), *((lengths,) if lengths is not None else ()))
        op = self.insert(make_op(SCAN, operands, attrs, (block,), self.layer))
        for r, n in zip(op.results, (*attrs.carries, *attrs.ys), strict=True):
            r.hint = n
        return (dict(zip(attrs.carries, op.results, strict=False)),
                dict(zip(attrs.ys, op.results[len(new):], strict=True)))

    def ret(self, outputs: Mapping[str, Value]) -> None:
        """End a graph's block."""
        self.insert(make_op(ops.RETURN, tuple(outputs.values()), ops.ReturnAttrs(tuple(outputs))))


def broadcast_shapes(shapes: Sequence[Shape]) -> Shape:
    """numpy's rule on symbolic shapes; ShapeError when dims differ."""
    rank = max(len(s) for s in shapes)
    out: list[Dim] = []
    for i in range(rank):
        sizes = [s[i - rank + len(s)] for s in shapes if i - rank + len(s) >= 0]
        big = [d for d in sizes if d != 1] or [1]
        if any(d != big[0] for d in big):
            shown = " and ".join(f"[{','.join(map(str, s))}]" for s in shapes)
            other = next(d for d in big if d != big[0])
            raise SizesDiffer(f"shapes {shown} do not broadcast: dim {i} is {' and '.join(map(str, sizes))}", big[0],
                              other)
        out.append(big[0])
    return tuple(out)


def build_graph(inputs: Mapping[str, TensorType], body: Callable[[Builder, dict[str, Value]], Mapping[str, Value]],
                name: str = "main") -> Graph:
    """A graph with ``inputs`` whose outputs are what ``body(builder, values)`` returns."""
    graph = Graph(name)
    values = {n: graph.add_input(t, n) for n, t in inputs.items()}
    b = Builder(graph.block)
    b.ret(body(b, values))
    return graph
