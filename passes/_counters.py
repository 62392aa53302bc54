"""Counters of a loop, without a state."""

from __future__ import annotations

from rnngraph.ir import Builder, Dim, Op, Scan, Value, dims
from rnngraph.ir.induction import of_scan
from rnngraph.ir.size_ops import IOTA, SIZE, IotaAttrs, SizeAttrs
from rnngraph.rewrite.scan_edit import add_x, simplify


def number_steps(op: Op) -> None:
    """States of a scan that count become the number of the step, and what they end as a size."""
    scan = Scan(op)
    counting = {arg: at for arg, at in of_scan(scan).items() if arg in scan.carry_args}
    if not counting:
        return
    b = Builder.at(op)
    for arg, at in counting.items():
        steps = b.op(IOTA, attrs=IotaAttrs(scan.attrs.steps, arg.type.dtype))
        number = add_x(op, "step", steps)
        scan = Scan(op)
        inside = Builder(scan.body, before=scan.body.ops[0])
        value = inside.add(inside.mul(number, _number(inside, at.step, arg)), _number(inside, at.start, arg))
        final = op.results[scan.carry_args.index(arg)]
        change = -at.step if scan.attrs.reverse else at.step
        first = at.reversed(scan.attrs.steps).start if scan.attrs.reverse else at.start
        end = _number(b, dims.add(first, dims.mul(change, scan.attrs.steps)), arg)
        final.replace_by(b.reshape(end, final.shape))
        arg.replace_by(inside.reshape(value, arg.shape))
    simplify(op)


def _number(b: Builder, dim: Dim, like: Value) -> Value:
    dtype = like.type.dtype
    return b.const(dim, dtype) if isinstance(dim, int) else b.op(SIZE, attrs=SizeAttrs(dim, dtype))
