"""Scan and Loop as scans of the IR; loops whose values change their form are unrolled."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from rnngraph.errors import ImportModelError
from rnngraph.frontends.depends import DependsOnStep, is_data
from rnngraph.frontends.imported import NeedsSize
from rnngraph.frontends.known import Known, as_dims
from rnngraph.frontends.onnx.proto import Graph, Node
from rnngraph.frontends.onnx.registry import Item
from rnngraph.frontends.onnx.slices import axis_of
from rnngraph.frontends.onnx.walker import Missing, tensor_of, walker
from rnngraph.ir import F32, SCAN, Block, Dim, ScanAttrs, Value, dims, make_op
from rnngraph.ir import ops as ir_ops
from rnngraph.nn import ops
from rnngraph.nn.context import active
from rnngraph.nn.loop import ScanSteps
from rnngraph.nn.tensor import Tensor, Traced, wrap

ENDLESS = 2**31 - 1  # the trip count of a loop that only its condition ends
MAX_UNROLLED = 4096  # steps of a loop that is unrolled


# --- Scan -------------------------------------------------------------------------------------------------------


def scan_9(node: Node, inputs: Sequence[Item]) -> tuple[Item, ...]:
    """States, then sequences along their axes and in their directions."""
    body, count = node.graph("body"), node.attr("num_scan_inputs", 0)
    tensors = _tensors(node, inputs)
    if not 0 < count <= len(tensors) or len(body.inputs) != len(tensors):
        raise ImportModelError(f"{node}: num_scan_inputs is {count}, with {len(tensors)} inputs and a body that takes "
                               f"{len(body.inputs)}")
    states, sequences = tensors[:-count], tensors[-count:]
    outputs = len(body.outputs) - len(states)
    axes, directions = _each(node, "scan_input_axes", count), _each(node, "scan_input_directions", count)
    out_axes, out_directions = _each(node, "scan_output_axes", outputs), _each(node, "scan_output_directions", outputs)
    reverse = all(directions)
    moved = []
    for x, axis, backwards in zip(sequences, axes, directions, strict=True):
        x = moved_axis(x, axis_of(node, axis, x.rank), 0)
        moved.append(ops.reverse(x, 0) if backwards and not reverse else x)
    finals, ys = _scanned(node, body, states, moved, moved[0].shape[0], reverse=reverse)
    found = []
    for y, axis, backwards in zip(ys, out_axes, out_directions, strict=True):
        y = ops.reverse(y, 0) if bool(backwards) != reverse else y
        found.append(moved_axis(y, 0, axis_of(node, axis, y.rank)))
    return (*finals, *found)


def scan_8(node: Node, inputs: Sequence[Item]) -> tuple[Item, ...]:
    """As opset 8 has it: everything has the batch in front, the body does not, and rows may have lengths."""
    body, count = node.graph("body"), node.attr("num_scan_inputs", 0)
    lengths = walker().known(node, inputs[0]) if inputs and inputs[0] is not None else None
    tensors = _tensors(node, inputs[1:])
    if not 0 < count <= len(tensors) or len(body.inputs) != len(tensors):
        raise ImportModelError(f"{node}: num_scan_inputs is {count}, with {len(tensors)} inputs")
    batch, steps = tensors[-1].shape[0], tensors[-1].shape[1]
    if not isinstance(batch, int):
        raise NeedsSize(sorted(dims.symbols_of(batch)), f"{node} runs its body for each row by itself")
    rows = [steps] * batch if lengths is None else list(as_dims(lengths, str(node)))
    directions = _each(node, "directions", count)
    results = []
    for row, length in enumerate(rows):
        own = [ops.reshape(t[row : row + 1], t.shape[1:]) for t in tensors]
        sequences = [_cut(x, length) for x in own[-count:]]
        sequences = [ops.reverse(x, 0) if d else x for x, d in zip(sequences, directions, strict=True)]
        finals, ys = _scanned(node, body, own[:-count], sequences, length)
        results.append([*finals, *(_padded(y, steps) for y in ys)])
    stacked = zip(*results, strict=True)
    return tuple(ops.concat([ops.reshape(t, (1, *t.shape)) for t in parts], 0) if batch > 1 else
                 ops.reshape(parts[0], (1, *parts[0].shape)) for parts in stacked)


def _cut(x: Tensor, length: Dim) -> Tensor:
    return wrap(active().builder.slice(x.value(), 0, 0, length))


def _padded(y: Tensor, steps: Dim) -> Tensor:
    """Zeros behind a row's length."""
    rest = dims.sub(steps, y.shape[0])
    if rest == 0:
        return y
    b = active().builder
    return ops.concat([y, wrap(b.zeros(y.type.with_shape((rest, *y.shape[1:]))))], 0)


def _each(node: Node, name: str, count: int) -> list[int]:
    values = node.ints(name, [0] * count)
    if values is None or len(values) != count:
        raise ImportModelError(f"{node}: expected {count} numbers as {name}, got {values}")
    return list(values)


def moved_axis(x: Tensor, source: int, target: int) -> Tensor:
    """The tensor with one axis moved."""
    order = [i for i in range(x.rank) if i != source]
    order.insert(target, source)
    return ops.transpose(x, order)


def _tensors(node: Node, items: Sequence[Item]) -> list[Tensor]:
    found = [tensor_of(i) for i in items]
    if None in [None if t is None else 0 for t in found]:
        raise ImportModelError(f"{node}: expected tensors, one of them is absent")
    return [t for t in found if t is not None]


def _scanned(node: Node, body: Graph, states: Sequence[Tensor], sequences: Sequence[Tensor], steps: Dim, *,
             reverse: bool = False) -> tuple[list[Tensor], list[Tensor]]:
    """One scan over axis 0 of ``sequences``: the final states and the output sequences."""
    traced = Body(steps, states, sequences)
    with traced.open():
        items = walker().body(body, [*traced.states, *traced.sequences])
        tensors = _tensors(node, items)
    return traced.close(node, tensors[: len(states)], tensors[len(states) :], reverse=reverse)


# --- the body of a scan -----------------------------------------------------------------------------------------


class Body:
    """A scan under construction: its block's arguments as tensors."""

    def __init__(self, steps: Dim, states: Sequence[Tensor], sequences: Sequence[Tensor]) -> None:
        self.count = steps
        self.initial = [s.value() for s in states]
        self.over = [s.value() for s in sequences]
        self.block = Block()
        carries = [self.block.add_arg(v.type, f"s{i}") for i, v in enumerate(self.initial)]
        steps_of = [self.block.add_arg(v.type.with_shape(v.shape[1:]), f"x{i}") for i, v in enumerate(self.over)]
        self.steps = ScanSteps(steps, body=self.block)
        self._carries, self._xs = carries, steps_of
        self.states: list[Tensor] = []
        self.sequences: list[Tensor] = []

    @contextmanager
    def open(self) -> Iterator[None]:
        """Ops within belong to a step; after an exception none of them is left."""
        trace = active()
        try:
            with trace.body(self.block), trace.over(self.steps):
                self.states = [wrap(v) for v in self._carries]
                self.sequences = [wrap(v) for v in self._xs]
                yield
        except BaseException:
            self.drop()
            raise

    def close(self, node: Node, new: Sequence[Tensor], ys: Sequence[Tensor], *, reverse: bool = False,
              until: int | None = None) -> tuple[list[Tensor], list[Tensor]]:
        """Insert the scan: the final states and the outputs of all steps. ``until``: the state that ends it."""
        trace = active()
        for i, (before, after) in enumerate(zip(self.initial, new, strict=True)):
            if before.type != after.type:
                self.drop()
                raise FormChanged(f"{node}: state {i} enters a step as {before.type} and leaves it as {after.type}")
        values = [*(t._value if isinstance(t, Traced) else t.value() for t in (*new, *ys))]
        self.block.append(make_op(ir_ops.YIELD, values, ir_ops.YieldAttrs(len(new)), layer=trace.layer))
        over = [*self.over, *self.steps.sequences]
        attrs = ScanAttrs(tuple(f"s{i}" for i in range(len(new))), tuple(f"x{i}" for i in range(len(over))),
                          tuple(f"y{i}" for i in range(len(ys))), self.count, reverse,
                          until="" if until is None else f"s{until}")
        op = trace.builder.insert(make_op(SCAN, (*self.initial, *over), attrs, (self.block,), trace.layer))
        out: list[Tensor] = [wrap(v) for v in op.results]
        return out[: len(new)], out[len(new) :]

    def drop(self) -> None:
        """Forget what was traced."""
        for op in reversed(self.block.ops.copy()):
            op.erase()


class FormChanged(ImportModelError):
    """A state of a loop does not keep its shape, dtype or kind."""


# --- Loop -------------------------------------------------------------------------------------------------------


def loop(node: Node, count: Item, condition: Item, carried: Sequence[Item]) -> tuple[Item, ...]:
    """A trip count, a condition, or both. Counted loops are scans over 0, 1, ...; a computed condition ends them."""
    body = node.graph("body")
    if len(body.inputs) != 2 + len(carried) or len(body.outputs) < 1 + len(carried):
        raise ImportModelError(f"{node}: a body for {len(carried)} carried values takes {2 + len(carried)} inputs and "
                               f"gives {1 + len(carried)} outputs or more; got {len(body.inputs)}, {len(body.outputs)}")
    trips = _trips(node, count)
    start = _flag(node, condition)
    if start is False:
        trips, start = 0, True
    try:
        if start is True and trips is not None:
            found = _counted(node, body, trips, carried)
            if found is not None:
                return found
        return _while(node, body, trips, condition if start is None else None, carried)
    except (FormChanged, DependsOnStep) as e:
        if not isinstance(trips, int):
            known = () if trips is None else sorted(dims.symbols_of(trips))
            if known:
                raise NeedsSize(known, str(e)) from None
            raise
        return _unrolled(node, body, trips, carried)


def _trips(node: Node, count: Item) -> Dim | None:
    """The trip count; None where there is none."""
    if count is None:
        return None
    known = walker().known(node, count)
    assert known is not None
    values = as_dims(known, str(node))
    if len(values) != 1:
        raise ImportModelError(f"{node}: expected one number as its trip count, got {list(values)}")
    (trips,) = values
    if isinstance(trips, int):
        return None if trips >= ENDLESS else max(trips, 0)
    return dims.maximum(trips, 0)


def _flag(node: Node, condition: Item) -> bool | None:
    """A known bool; None where it is computed."""
    if condition is None:
        return True
    if isinstance(condition, Tensor) and is_data(condition):
        return None
    known = walker().known(node, condition)
    if known is None or known.symbolic or known.array.size != 1:
        raise ImportModelError(f"{node}: expected one bool as its condition")
    return bool(known.array.reshape(-1)[0])


def _counted(node: Node, body: Graph, trips: Dim, carried: Sequence[Item]) -> tuple[Item, ...] | None:
    """A loop whose condition stays true; None where its body computes another."""
    if trips == 0 and len(body.outputs) == 1 + len(carried):
        return tuple(carried)
    if any(isinstance(c, list) or c is None for c in carried):
        raise FormChanged(f"{node}: it carries a sequence")
    states = _tensors(node, carried)
    traced = Body(trips, states, [ops.arange(trips, "i64")])
    with traced.open():
        items = walker().body(body, [traced.sequences[0], Known(np.array(True)), *traced.states])
        if not (isinstance(items[0], Known) and items[0].array.size == 1 and items[0].array.reshape(-1)[0]):
            traced.drop()
            return None
        if any(isinstance(i, list) and not isinstance(i, Missing) for i in items[1:]):
            raise FormChanged(f"{node}: it carries a sequence")
        tensors = _tensors(node, items[1:])
    finals, ys = traced.close(node, tensors[: len(states)], tensors[len(states) :])
    return (*finals, *ys)


def _while(node: Node, body: Graph, trips: Dim | None, condition: Item, carried: Sequence[Item]) -> tuple[Item, ...]:
    """A loop that its condition may end. How long its outputs are would follow from data, so it has none."""
    if len(body.outputs) > 1 + len(carried):
        raise ImportModelError(f"{node}: its condition is computed, so the length of its scan outputs is known only "
                               "when the model runs")
    states = _tensors(node, carried)
    b = active().builder
    done = b.const(0.0, F32) if condition is None else _done(tensor_of(condition))
    counter = wrap(b.const(np.asarray(0, np.int64)))
    traced = Body(ENDLESS if trips is None else trips, [*states, counter, wrap(done)], [])
    with traced.open():
        number = traced.states[-2]
        items = walker().body(body, [number, Known(np.array(True)), *traced.states[:-2]])
        tensors = _tensors(node, items)
        ended = wrap(_done(tensors[0]))
        following = number + wrap(active().builder.const(np.asarray(1, np.int64)))
    new = [*tensors[1:], following, ended]
    finals, _ = traced.close(node, new, [], until=len(new) - 1)
    return tuple(finals[:-2])


def _done(condition: Tensor | None) -> Value:
    """1.0 where the condition does not hold."""
    assert condition is not None
    b = active().builder
    flag = b.reshape(condition.value(), ())
    return b.op(ir_ops.SELECT, flag, b.const(0.0, F32), b.const(1.0, F32))


def _unrolled(node: Node, body: Graph, trips: int, carried: Sequence[Item]) -> tuple[Item, ...]:
    """Step by step, with every number known: for states that change their form."""
    if trips > MAX_UNROLLED:
        raise ImportModelError(f"{node}: it would be unrolled {trips} times, which is too often")
    state: list[Item] = list(carried)
    emitted: list[list[Tensor]] = []
    for number in range(trips):
        items = walker().body(body, [Known(np.asarray(number, np.int64)), Known(np.array(True)), *state])
        state = items[1 : 1 + len(state)]
        emitted.append(_tensors(node, items[1 + len(state) :]))
        if not _flag_or_fail(node, items[0]):
            break
    outputs = [ops.concat([ops.reshape(t, (1, *t.shape)) for t in parts], 0) if len(parts) > 1 else
               ops.reshape(parts[0], (1, *parts[0].shape)) for parts in map(list, zip(*emitted, strict=True))]
    if not emitted and len(body.outputs) > 1 + len(state):
        raise ImportModelError(f"{node}: it runs no step, so the shape of its scan outputs is not known")
    return (*state, *outputs)


def _flag_or_fail(node: Node, condition: Item) -> bool:
    flag = _flag(node, condition)
    if flag is None:
        raise ImportModelError(f"{node}: its condition is computed, while its values change their form")
    return flag
