"""A cell over time in IR: as one scan, or unrolled into straight-line ops."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rnngraph.errors import ShapeError, TraceError
from rnngraph.ir import SCAN, Block, Builder, ScanAttrs, Value, make_op
from rnngraph.ir import ops as ir_ops
from rnngraph.nn.context import Steps, active
from rnngraph.nn.tensor import wrap

if TYPE_CHECKING:  # cells run over sequences by this module
    from rnngraph.nn.cell import Cell, States


@dataclass(frozen=True, slots=True, eq=False)
class Loop:
    """What a loop runs over.

    sequence  [time, batch, features]
    initial   the first states, in the order of ``states``
    pad       what the outputs hold past a row's length: "repeat" or "zero"
    emit      whether the output of every step is wanted, or the last one
    mask      bool [time, batch]: where it is false, a step leaves the states alone, and its output is the one of the
              step before (zeros before the first), or zero (``pad``); not together with lengths
    """

    cell: Cell
    states: States
    sequence: Value
    initial: list[Value]
    lengths: Value | None
    reverse: bool
    pad: str
    emit: bool
    mask: Value | None = None


@dataclass(slots=True, eq=False)
class ScanSteps(Steps):
    """The steps of a scan: slices of further sequences become arguments of the body."""

    body: Block = field(kw_only=True)
    sequences: dict[Value, Value] = field(default_factory=dict)  # outer sequence -> the body's argument

    def of(self, sequence: Value, hint: str) -> Value:
        if sequence not in self.sequences:
            self.sequences[sequence] = self.body.add_arg(sequence.type.with_shape(sequence.shape[1:]), hint)
        return self.sequences[sequence]


@dataclass(slots=True, eq=False)
class _UnrolledSteps(Steps):
    """The steps of an unrolled loop, of which ``now`` is being traced."""

    builder: Builder = field(kw_only=True)
    now: int = 0

    def begin(self, t: int) -> None:
        self.now = t
        self.uses.clear()

    def of(self, sequence: Value, hint: str) -> Value:
        return step_of(self.builder, sequence, self.now)


def step_of(b: Builder, sequence: Value, t: int) -> Value:
    """Step ``t`` of a sequence [steps, ...]."""
    return b.reshape(b.slice(sequence, 0, t, 1), sequence.shape[1:])


def scanned(loop: Loop) -> tuple[Value, list[Value]]:
    """One scan; returns the output sequence [time, batch, ...], or the last output, and the final states.

    The last output is the final value of the carry that holds it; where no state is the output, a carry
    ``y_last`` is added.
    """
    trace = active()
    body = Block()
    carries = [body.add_arg(v.type, n) for n, v in zip(loop.states.names, loop.initial, strict=True)]
    x = body.add_arg(loop.sequence.type.with_shape(loop.sequence.shape[1:]), "x")
    steps = ScanSteps(loop.sequence.shape[0], body=body)
    with trace.body(body), trace.over(steps):
        out, new_states = loop.cell.checked_step(wrap(x), [wrap(c) for c in carries])
        y, new = out.value(), [t.value() for t in new_states]
        kept = y in new and (loop.mask is None or (loop.pad == "repeat" and _is_zero(loop.initial[new.index(y)])))
        last = None
        if not kept and (not loop.emit or (loop.mask is not None and loop.pad == "repeat")):
            _check_batch(loop, y)
            last = _insert_arg(body, len(carries), y)
        if loop.mask is not None:
            y, new = _masked(loop, steps.of(loop.mask, "mask"), y, new, carries, last)
    names, initial = list(loop.states.names), list(loop.initial)
    if last is not None:
        names.append("y_last")
        initial.append(trace.builder.zeros(y.type))
        new.append(y)
    emitted = {"y": y} if loop.emit else {}
    body.append(make_op(ir_ops.YIELD, (*new, *emitted.values()), ir_ops.YieldAttrs(len(new)),
                        layer=trace.layer))
    more = [f"x{i}" for i in range(1, 1 + len(steps.sequences))]
    attrs = ScanAttrs(tuple(names), ("x", *more), tuple(emitted), loop.sequence.shape[0], loop.reverse,
                      loop.lengths is not None,
                      loop.pad if loop.emit and loop.lengths is not None else "zero")
    operands = (*initial, loop.sequence, *steps.sequences, *(() if loop.lengths is None else (loop.lengths,)))
    op = trace.builder.insert(make_op(SCAN, operands, attrs, (body,), trace.layer))
    for result, name in zip(op.results, (*names, *emitted), strict=True):
        result.hint = name
    output = op.results[-1] if loop.emit else op.results[new.index(y)]
    return output, list(op.results[: len(carries)])


def _insert_arg(body: Block, index: int, like: Value) -> Value:
    """A further carry argument in front of the sequences' arguments."""
    added = body.add_arg(like.type, "y_last")
    body.args.insert(index, body.args.pop())
    for i, arg in enumerate(body.args):
        arg.index = i
    return added


def _masked(loop: Loop, keep: Value, y: Value, new: list[Value], old: list[Value],
            last: Value | None) -> tuple[Value, list[Value]]:
    """The output and the states of a step under its mask ``keep`` [batch].

    ``last`` is the carry of the output before; where there is none, the state that is the output stands for it.
    """
    b = active().builder
    states = [_select(b, keep, n, o) for n, o in zip(new, old, strict=True)]
    if loop.pad == "zero":
        return _select(b, keep, y, b.zeros(y.type)), states
    return (states[new.index(y)] if last is None else _select(b, keep, y, last)), states


def _is_zero(v: Value) -> bool:
    """A state that starts as a constant zero."""
    while v.op is not None and v.op.opdef is ir_ops.BROADCAST:
        v = v.op.operands[0]
    return v.op is not None and isinstance(v.op.attrs, ir_ops.ConstAttrs) and v.op.attrs.value.splat == 0


def _check_batch(loop: Loop, y: Value) -> None:
    batch = loop.sequence.shape[1]
    if not y.shape or y.shape[0] != batch:
        raise ShapeError(f"{loop.cell.label}: the output of step must start with the batch {batch}, got "
                         f"{y.type}")


def unrolled(loop: Loop) -> tuple[Value, list[Value]]:
    """The same as `scanned` without a loop; TraceError unless the number of steps is an integer >= 1."""
    trace = active()
    b = trace.builder
    steps = loop.sequence.shape[0]
    if not isinstance(steps, int) or steps < 1:
        raise TraceError(f"layer {trace.path!r}: unroll=True needs an integer number of steps >= 1, got "
                         f"{steps!r}; give the Input's time dim as a number, or leave unroll away")
    states, last = list(loop.initial), None
    outputs: dict[int, Value] = {}
    unrolling = _UnrolledSteps(steps, builder=b)
    for t in reversed(range(steps)) if loop.reverse else range(steps):
        unrolling.begin(t)
        with trace.over(unrolling):
            out, new_states = loop.cell.checked_step(wrap(step_of(b, loop.sequence, t)), [wrap(s) for s in states])
        y, new = out.value(), [s.value() for s in new_states]
        _check_batch(loop, y)
        before = last if last is not None else b.zeros(y.type)
        last = _past(b, loop, t, y, before)
        outputs[t] = last if loop.pad == "repeat" else _past(b, loop, t, y, b.zeros(y.type))
        if loop.mask is not None:
            last = outputs[t]
        states = [_past(b, loop, t, n, s) for n, s in zip(new, states, strict=True)]
    assert last is not None
    if not loop.emit:
        return last, states
    pieces = [b.reshape(outputs[t], (1, *outputs[t].shape)) for t in range(steps)]
    return b.concat(pieces, 0), states


def _past(b: Builder, loop: Loop, t: int, new: Value, old: Value) -> Value:
    """new in the rows whose length is above t, or whose mask is true there, old in the others."""
    if loop.mask is not None:
        return _select(b, step_of(b, loop.mask, t), new, old)
    if loop.lengths is None:
        return new
    lengths = loop.lengths
    active_rows = b.op(ir_ops.GT, lengths, b.broadcast(b.const(t, lengths.type.dtype), lengths.shape, ()))
    return _select(b, active_rows, new, old)


def _select(b: Builder, rows: Value, new: Value, old: Value) -> Value:
    return b.op(ir_ops.SELECT, b.broadcast(rows, new.shape, (0,)), new, old)
