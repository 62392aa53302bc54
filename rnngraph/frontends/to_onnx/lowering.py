"""What ONNX has no op for, rewritten in the IR: rnn nodes that its LSTM, GRU and RNN cannot say become scans; scans
that rows end for themselves become scans that keep each row's states.

Of these a loop without sequences and outputs, as `rnngraph.while_loop` makes it, ends when all rows are done, by ONNX's
Loop; the others run all their steps.
"""

from __future__ import annotations

from rnngraph.frontends.to_onnx.recurrent import expressible
from rnngraph.ir import I64, Builder, Graph, Op, Scan, Value, expand_rnn
from rnngraph.ir import ops as ir_ops
from rnngraph.ir.clone import inline_block
from rnngraph.ir.size_ops import IOTA, IotaAttrs


def lower(graph: Graph) -> None:
    """Rewrite ``graph`` in place."""
    for op in list(graph.walk()):
        if op.name == "rnn" and not expressible(op):
            _replace(op, expand_rnn(Builder.at(op), op))
    for op in [op for op in graph.walk() if op.name == "scan"][::-1]:  # inner ones first
        s = Scan(op)
        if is_loop(s) or s.lengths is not None or s.until is not None or not s.attrs.xs:
            _replace(op, _plain(op))


def is_loop(s: Scan) -> bool:
    """Whether ONNX's Loop says a scan: it only has states, and an end."""
    return s.until is not None and s.lengths is None and not s.attrs.xs and not s.attrs.ys


def _replace(op: Op, values: list[Value]) -> None:
    for old, new in zip(op.results, values, strict=True):
        old.replace_by(new)
    op.erase()


def _plain(op: Op) -> list[Value]:
    """The scan without lengths and until: a step's number decides which rows still go on."""
    s, b, loop = Scan(op), Builder.at(op), is_loop(Scan(op))
    dtype = I64 if s.lengths is None else s.lengths.type.dtype
    numbers = {} if loop else {"step": b.op(IOTA, attrs=IotaAttrs(s.attrs.steps, dtype), hint="t")}
    ends = s.lengths is not None or s.until is not None
    carries = dict(zip(s.attrs.carries, s.inits, strict=True))
    kept = {f"last_{n}": b.zeros(y.type.with_shape(y.shape[1:])) for n, y in zip(s.attrs.ys, s.ys, strict=True)
            } if ends and s.attrs.pad == "repeat" else {}

    def body(inner: Builder, c: dict[str, Value], xs: dict[str, Value]) -> tuple[dict[str, Value], dict[str, Value]]:
        own = list(c.values())[: len(carries)]
        args = dict(zip(s.body.args, [*own, *(xs[n] for n in s.attrs.xs)], strict=True))
        outputs = inline_block(s.body, args, inner.block, len(inner.block.ops))
        new, made = outputs[: len(carries)], outputs[len(carries) :]
        if ends:
            active = _active(inner, s, own, xs.get("step"))
            new = [_where(inner, active, n, o) for n, o in zip(new, own, strict=True)]
            before = [c[f"last_{n}"] if kept else inner.zeros(y.type) for n, y in zip(s.attrs.ys, made, strict=True)]
            made = [_where(inner, active, y, p) for y, p in zip(made, before, strict=True)]
        after = dict(zip(kept, made, strict=True)) if kept else {}
        return ({**dict(zip(carries, new, strict=True)), **after}, dict(zip(s.attrs.ys, made, strict=True)))

    finals, ys = b.scan({**carries, **kept}, {**dict(zip(s.attrs.xs, s.xs, strict=True)), **numbers}, body,
                        steps=s.attrs.steps, reverse=s.attrs.reverse, until=s.attrs.until if loop else "")
    return [*(finals[n] for n in carries), *ys.values()]


def _active(b: Builder, s: Scan, carries: list[Value], step: Value | None) -> Value:
    """bool[batch], or bool[] where all rows end together: who still goes on."""
    parts = []
    if s.lengths is not None and step is not None:
        parts.append(b.op(ir_ops.LT, b.broadcast(step, s.lengths.shape, ()), s.lengths))
    if s.until is not None:
        parts.append(running(b, carries[s.until]))
    shape = max((p.shape for p in parts), key=len)
    both = [b.broadcast(p, shape, tuple(range(p.type.rank))) for p in parts]
    return both[0] if len(both) == 1 else b.op(ir_ops.AND, *both)


def running(b: Builder, done: Value) -> Value:
    """bool[batch], or bool[]: the rows whose carry does not say yet that they are done."""
    flat = b.reshape(done, done.shape[:1])
    if flat.type.dtype.kind == "bool":
        return b.op(ir_ops.NOT, flat)
    return b.op(ir_ops.EQ, flat, b.broadcast(b.const(0, flat.type.dtype), flat.shape, ()))


def _where(b: Builder, active: Value, new: Value, old: Value) -> Value:
    return b.op(ir_ops.SELECT, b.broadcast(active, new.shape, tuple(range(active.type.rank))), new, old)
