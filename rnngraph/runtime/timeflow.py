"""How time flows through a graph: which values have a step for each step of the input, and which ops mix steps.

A graph can run step by step when step t of everything that it computes follows from step t of its inputs and from the
states of forward scans. The time symbol says where time is: a value whose shape holds it is *timed*. What is not is
*fixed* (constants, inputs without time: the same at every step) or *now* (the state of a scan after the steps so far).
"""

from __future__ import annotations

from enum import Enum

from rnngraph.errors import StreamError
from rnngraph.ir import Graph, Op, Rnn, Scan, Value, dims
from rnngraph.ir.dims import is_symbol, symbols_of
from rnngraph.ir.ops import AxisAttrs, ConcatAttrs, RandomMaskAttrs, ReduceAttrs, SliceAttrs
from rnngraph.ir.size_ops import IotaAttrs, SizeAttrs


class Flow(Enum):
    FIXED = "fixed"
    NOW = "now"
    TIMED = "timed"


def time_symbol(graph: Graph) -> str:
    """The symbol that the graph's recurrences run over. StreamError when there is none, or more than one."""
    steps: dict[str, str] = {}
    for op in recurrences(graph):
        dim = Rnn(op).x.shape[0] if op.name == "rnn" else Scan(op).attrs.steps
        if isinstance(dim, str):
            if not is_symbol(dim):
                raise refused(op, f"it runs over {dim} steps, and not one step for each step of an input")
            steps.setdefault(dim, op.layer or op.name)
    if len(steps) > 1:
        found = ", ".join(f"layer {layer!r} over {dim!r}" for dim, layer in steps.items())
        raise StreamError(f"the model cannot run step by step: its recurrences run over different time dims ({found}); "
                          "stream the part that runs over one of them")
    if not steps:
        raise StreamError("the model cannot run step by step: no layer recurs over a symbolic time dim; give the "
                          "Input's time as a symbol, as in Input(('batch', 'time', 80)), and leave unroll away")
    return next(iter(steps))


def recurrences(graph: Graph) -> list[Op]:
    """The scans and rnn nodes of the graph's own block."""
    return [op for op in graph.block.body if op.name in ("scan", "rnn")]


class TimeFlow:
    """The flow of every value of a graph's own block. StreamError names the first layer that mixes steps."""

    def __init__(self, graph: Graph, time: str) -> None:
        self.time = time
        self.flows: dict[Value, Flow] = {}
        for v in graph.inputs:
            self.flows[v] = Flow.TIMED if self.axis(v, None) is not None else Flow.FIXED
        for op in graph.block.body:
            self.visit(op)

    def axis(self, v: Value, op: Op | None) -> int | None:
        """Which axis of ``v`` is time."""
        what = f"%{v.hint}" if v.hint else "a value"
        if computed := [d for d in v.shape if d != self.time and self.time in symbols_of(d)]:
            raise refused(op, f"{what} of type {v.type} has the size {computed[0]}, and not one step for each of "
                              f"{self.time!r}")
        found = [i for i, d in enumerate(v.shape) if d == self.time]
        if len(found) > 1:
            raise refused(op, f"{what} of type {v.type} has {self.time!r} twice: every step meets every other one")
        return found[0] if found else None

    def visit(self, op: Op) -> None:
        reads = list(dict.fromkeys([*op.operands, *(v for b in op.blocks for v in b.captures())]))
        flows = {self.flows[v] for v in reads}
        axes = [self.axis(r, op) for r in op.results]
        self.counting(op)
        if op.name in ("scan", "rnn") and self.steps(op) == self.time:
            self.recurrence(op)
        elif Flow.TIMED in flows:
            reason = self.mixing(op)
            if reason is not None:
                raise refused(op, reason)
        elif Flow.NOW in flows and any(a is not None for a in axes):
            raise refused(op, "every step would read the state behind the last one")
        elif isinstance(op.attrs, RandomMaskAttrs) and axes[0] is not None:
            raise refused(op, "its dropout draws the masks of all steps at once; compile with training=False")
        now = Flow.NOW if Flow.TIMED in flows or Flow.NOW in flows else Flow.FIXED
        for r, axis in zip(op.results, axes, strict=True):
            self.flows[r] = Flow.TIMED if axis is not None else now

    def counting(self, op: Op) -> None:
        """Refuse what numbers the steps, or reads how many there are, and bodies with values that have time."""
        for inner in op.walk():
            a = inner.attrs
            sizes = [a.size] if isinstance(a, IotaAttrs) else [a.dim] if isinstance(a, SizeAttrs) else []
            if any(self.time in symbols_of(d) for d in sizes):
                raise refused(op, "it numbers all steps, or reads how many there are")
            if inner is not op and any(self.time in symbols_of(d) for r in inner.results for d in r.shape):
                raise refused(op, f"each of its steps computes a whole sequence, {inner.result.type}")

    @staticmethod
    def steps(op: Op) -> object:
        return Rnn(op).x.shape[0] if op.name == "rnn" else Scan(op).attrs.steps

    # --- recurrences ------------------------------------------------------------------------------------------------

    def recurrence(self, op: Op) -> None:
        backwards = "it runs from the last step to the first (Bidirectional, go_backwards)"
        if op.name == "rnn":
            node = Rnn(op)
            if node.attrs.direction != "forward":
                raise refused(op, backwards)
            states, sequences = [node.h0, *([node.c0] if node.c0 is not None else [])], [node.x]
        else:
            s = Scan(op)
            if s.attrs.reverse:
                raise refused(op, backwards)
            states, sequences = list(s.inits), list(s.xs)
        for v in states:
            if self.flows[v] is not Flow.FIXED:
                named = f" %{v.hint}" if v.hint else ""
                raise refused(op, f"its initial state{named} follows from the input sequence")
        outside = [v for v in op.operands if v not in states and v not in sequences]
        for v in (*outside, *(v for b in op.blocks for v in b.captures())):
            if self.flows[v] is Flow.TIMED:
                raise refused(op, f"each of its steps reads the whole sequence %{v.hint} of type {v.type}")
            if self.flows[v] is Flow.NOW:
                raise refused(op, f"each of its steps reads %{v.hint}, the state of another layer behind its last step")

    # --- the other ops ----------------------------------------------------------------------------------------------

    def mixing(self, op: Op) -> str | None:
        """Why an op that reads a timed value mixes its steps; None when it does not."""
        a, timed = op.attrs, [v for v in op.operands if self.flows[v] is Flow.TIMED]
        axes = [self.axis(v, op) for v in timed]
        if "elementwise" in op.opdef.tags or op.name in ("transpose", "cast", "broadcast"):
            return None
        match op.name:
            case "slice" | "concat" | "softmax" | "reverse":
                assert isinstance(a, SliceAttrs | ConcatAttrs | AxisAttrs)
                return f"a {op.name} along time" if a.axis in axes else None
            case "reshape":
                return None if self.keeps(op) else f"a reshape of {timed[0].type} to {op.result.type}"
            case "matmul":
                return self.contracts(op)
            case "gather":
                return "a lookup in a table that has time" if self.flows[op.operands[0]] is Flow.TIMED else None
            case "take":
                assert isinstance(a, AxisAttrs)
                along = self.flows[op.operands[0]] is Flow.TIMED and self.axis(op.operands[0], op) == a.axis
                return "a take along time" if along else None
        if op.name in ("scan", "rnn"):
            return f"it recurs over {self.steps(op)!r}, not over {self.time!r}"
        if isinstance(a, ReduceAttrs):
            return f"a {op.name} over time" if any(x in a.axes for x in axes) else None
        return f"a {op.name} of {timed[0].type} is not known to work step by step"

    def keeps(self, op: Op) -> bool:
        """Whether a reshape leaves the elements in front of the time axis, and those behind it, together."""
        before, after = self.axis(op.operands[0], op), self.axis(op.result, op)
        if before is None or after is None:
            return False
        return dims.mul(*op.operands[0].shape[:before]) == dims.mul(*op.result.shape[:after])

    def contracts(self, op: Op) -> str | None:
        left, right = op.operands
        a, b = self.axis(left, op), self.axis(right, op)
        if a == left.type.rank - 1 or b in (right.type.rank - 2, right.type.rank - 1):
            return "a matmul over time (attention over all steps)"
        return None


def refused(op: Op | None, reason: str) -> StreamError:
    where = f"layer {op.layer!r}" if op is not None and op.layer else "the graph"
    return StreamError(f"{where} cannot run step by step: {reason}")

