"""Unrolls the scans of a graph, as exporters write them: a copy of the step for each element of the sequences."""

from __future__ import annotations

from rnngraph.ir import Builder, Graph, Op, Scan, Value
from rnngraph.ir.clone import inline_block
from rnngraph.passes import run


def unrolled(graph: Graph, *, fold: bool = True) -> Graph:
    """A copy without scans. Their steps must be numbers, and rows must not end by lengths or a condition.

    ``fold``: constants of the first step are folded and its zeros vanish, as far as the passes see it.
    """
    copy = graph.clone()
    for op in [op for op in copy.walk() if op.name == "scan"]:
        _unroll(op)
    run("canonicalize,fold-constants,canonicalize,cse,dce" if fold else "cse,dce", copy)
    return copy


def _unroll(op: Op) -> None:
    scan, b = Scan(op), Builder.at(op)
    steps = scan.attrs.steps
    assert isinstance(steps, int)
    assert scan.lengths is None
    assert not scan.attrs.until
    assert op.parent is not None
    states = list(scan.inits)
    outputs: list[list[Value]] = [[] for _ in scan.ys]
    for t in reversed(range(steps)) if scan.attrs.reverse else range(steps):
        args = dict(zip(scan.carry_args, states, strict=True))
        for arg, x in zip(scan.x_args, scan.xs, strict=True):
            args[arg] = b.reshape(b.slice(x, 0, t, 1), arg.shape)
        values = inline_block(scan.body, args, op.parent, op.parent.ops.index(op))
        states = values[: len(states)]
        for found, v in zip(outputs, values[len(states) :], strict=True):
            found.append(b.reshape(v, (1, *v.shape)))
    for final, state in zip(scan.finals, states, strict=True):
        final.replace_by(state)
    for y, found in zip(scan.ys, outputs, strict=True):
        y.replace_by(b.concat(found[::-1] if scan.attrs.reverse else found, 0))
    op.erase()
