"""The streaming form of a graph: every state of its recurrences comes in and goes out, so that chunks can follow."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from rnngraph.errors import StreamError
from rnngraph.ir import Builder, Graph, Op, Rnn, Scan, TensorType, Value, ops
from rnngraph.ir.ops import BroadcastAttrs, ConstAttrs
from rnngraph.rewrite.scan_edit import add_carry, fresh_name, set_next, sweep
from rnngraph.runtime.timeflow import TimeFlow, recurrences, refused, time_symbol

LENGTHS = "lengths"


@dataclass(frozen=True, slots=True)
class StateSpec:
    """One state: its name and type, its axis of the batch, and the program's output that it goes out by."""

    name: str
    type: TensorType
    batch: int | None
    output: int


@dataclass(frozen=True, slots=True)
class StreamPlan:
    """How a program is called step by step.

    graph    the model's inputs, then the states; the model's outputs, then those states that are not among them
    inputs   per input of the model: which axis is time, None for an input without time
    axes     per output of the model: which axis is time; None: it is the output as of now
    start    the states at the beginning of a stream, in order, from constants and inputs without time
    """

    graph: Graph
    time: str
    inputs: tuple[int | None, ...]
    axes: tuple[int | None, ...]
    states: tuple[StateSpec, ...]
    start: Graph

    @property
    def lengths(self) -> int | None:
        """Which input gives the rows' lengths."""
        names = self.graph.input_names[: len(self.inputs)]
        return names.index(LENGTHS) if LENGTHS in names else None


def streaming(traced: Graph) -> StreamPlan:
    """The plan of a graph. StreamError, naming layer and reason, when steps depend on later ones."""
    graph = traced.clone()
    sweep(graph.block)  # what nobody reads need not run step by step
    time = time_symbol(graph)
    flow = TimeFlow(graph, time)
    names = list(graph.output_names)
    axes = tuple(flow.axis(v, None) for v in graph.outputs)
    states = _States(graph)
    for op in recurrences(graph):
        if flow.steps(op) == time:
            states.take(op)
    if not states.starts:
        raise StreamError(f"graph {graph.name!r} has no states: its loop over {time!r} carries nothing")
    start = _start(graph, states.starts)
    inputs = states.connect()
    outputs = list(graph.outputs)
    slots = []
    for name, final in zip(states.starts, states.finals, strict=True):
        if final not in outputs:
            outputs.append(final)
            names.append(fresh_name(name, names))
        slots.append(outputs.index(final))
    _replace_return(graph, outputs, names)
    own = len(graph.inputs) - len(inputs)
    specs = tuple(StateSpec(name, v.type, _batch_axis(place[0], v.type), slot)
                  for name, v, place, slot in zip(states.starts, inputs, states.places, slots, strict=True))
    return StreamPlan(graph, time, tuple(flow.axis(v, None) for v in graph.inputs[:own]), axes, specs, start)


def _batch_axis(op: Op, state: TensorType) -> int | None:
    """A scan's states start with the batch, an rnn node's with layers and directions."""
    if op.name == "rnn":
        return 1
    return 0 if state.rank else None


class _States:
    """The states of a graph's recurrences, in order: where they start, and where they end."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.starts: dict[str, Value] = {}  # by name: the value that the state starts as
        self.places: list[tuple[Op, int]] = []  # the operand that takes it
        self.finals: list[Value] = []
        self.calls: Counter[str] = Counter()

    def take(self, op: Op) -> None:
        """The states of a scan or an rnn node."""
        layer = self.layer_name(op)
        if op.name == "rnn":
            node = Rnn(op)
            found = [("h", node.h0, node.h_n)]
            found += [("c", node.c0, node.c_n)] if node.c0 is not None and node.c_n is not None else []
            for k, (name, init, final) in enumerate(found):
                self.add(f"{layer}{name}", init, (op, 1 + k), final)
            if node.lengths is not None and node.attrs.pad == "repeat":
                raise refused(op, "with lengths, an rnn node that repeats outputs has no state that holds the last one")
            return
        if Scan(op).attrs.lengths and Scan(op).attrs.pad == "repeat":
            _keep_last_outputs(op)
        s = Scan(op)
        for k, (name, init, final) in enumerate(zip(s.attrs.carries, s.inits, s.finals, strict=True)):
            self.add(f"{layer}{name}", init, (op, k), final)

    def layer_name(self, op: Op) -> str:
        """The layer's path with a dot; later recurrences of one layer are told apart as `trace` tells its calls."""
        number = self.calls[op.layer]
        self.calls[op.layer] += 1
        parts = [op.layer, *([f"call{number}"] if number else [])]
        return "".join(f"{p}." for p in parts if p)

    def add(self, name: str, init: Value, place: tuple[Op, int], final: Value) -> None:
        self.starts[name] = init
        self.places.append(place)
        self.finals.append(final)

    def connect(self) -> list[Value]:
        """Let every state come in by an input of its own; returns them. An input that did nothing else goes."""
        inputs = []
        for (name, init), (op, k) in zip(self.starts.items(), self.places, strict=True):
            given = self.graph.add_input(init.type, fresh_name(f"{name}{'_' if name[-1].isdigit() else ''}0",
                                                               self.graph.input_names))
            op.set_operand(k, given)
            inputs.append(given)
        sweep(self.graph.block)
        for v in [v for v in self.graph.inputs if v not in inputs and not v.uses and v in self.starts.values()]:
            self.graph.block.remove_arg(v.index)
        return inputs


def _keep_last_outputs(op: Op) -> None:
    """Past a row's length outputs repeat the last one, which may lie in an earlier chunk: make it a state.

    y = where(lengths == 0, the last output, y): within a chunk, the scan itself repeats."""
    s = Scan(op)
    lengths, names = s.lengths, s.attrs.ys
    assert lengths is not None
    assert op.parent is not None
    for name, y, value in zip(names, s.ys, s.emitted, strict=True):
        if not y.uses:
            continue
        b = Builder.at(op)
        same = [i for i, v in enumerate(Scan(op).next_carries) if v is value and _is_zero(Scan(op).inits[i])]
        if not same:
            add_carry(op, f"{name}_last", b.zeros(value.type))
            new = len(Scan(op).attrs.carries) - 1
            set_next(op, Scan(op).attrs.carries[new], value)
            same = [new]
        users = list(y.uses)
        after = Builder(op.parent, op.parent.ops[op.parent.ops.index(op) + 1], op.layer)
        last = after.broadcast(Scan(op).finals[same[0]], y.shape, tuple(range(1, y.type.rank)))
        none = after.op(ops.EQ, lengths, after.broadcast(after.const(0, lengths.type.dtype), lengths.shape, ()))
        kept = after.op(ops.SELECT, after.broadcast(none, y.shape, (1,)), last, y)
        for user, i in users:
            user.set_operand(i, kept)


def _is_zero(v: Value) -> bool:
    op = v.op
    if op is not None and isinstance(op.attrs, BroadcastAttrs):
        op = op.operands[0].op
    return op is not None and isinstance(op.attrs, ConstAttrs) and op.attrs.value.splat == 0


def _start(graph: Graph, starts: dict[str, Value]) -> Graph:
    """A graph that computes the states' first values. States that are inputs of the graph start at zero."""
    copy = graph.clone()
    found: dict[Value, Value] = dict(zip(graph.inputs, copy.inputs, strict=True))
    for old, new in zip(graph.block.ops, copy.block.ops, strict=True):
        found.update(zip(old.results, new.results, strict=True))
    b = Builder(copy.block, copy.block.terminator)
    outputs = [b.zeros(v.type) if v in graph.inputs and _only_starts(v, starts) else found[v] for v in starts.values()]
    _replace_return(copy, outputs, list(starts))
    sweep(copy.block)
    for v in list(copy.inputs):
        if not v.uses:
            copy.block.remove_arg(v.index)
    return copy


def _only_starts(v: Value, starts: dict[str, Value]) -> bool:
    """Whether an input is nothing but the start of states."""
    return len(v.uses) == sum(s is v for s in starts.values())


def _replace_return(graph: Graph, outputs: list[Value], names: list[str]) -> None:
    graph.block.terminator.erase()
    Builder(graph.block).ret(dict(zip(names, outputs, strict=True)))
