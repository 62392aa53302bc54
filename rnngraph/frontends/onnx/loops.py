"""Loop: counted ones are scans of the IR, a computed condition ends a scan, and where values change their form the
steps are unrolled."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rnngraph.errors import ImportModelError
from rnngraph.frontends.depends import DependsOnStep, is_data
from rnngraph.frontends.imported import NeedsSize
from rnngraph.frontends.known import Known, as_dims
from rnngraph.frontends.onnx.grown_states import grown_states
from rnngraph.frontends.onnx.proto import Graph, Node
from rnngraph.frontends.onnx.registry import Item
from rnngraph.frontends.onnx.scan_body import Body, FormChanged, tensors_of
from rnngraph.frontends.onnx.walker import Missing, tensor_of, walker
from rnngraph.ir import F32, Dim, Value, dims
from rnngraph.ir import ops as ir_ops
from rnngraph.ir.induction import Affine, counters, needed
from rnngraph.nn import ops
from rnngraph.nn.context import active
from rnngraph.nn.tensor import Tensor, wrap

ENDLESS = 2**31 - 1  # the trip count of a loop that only its condition ends
MAX_UNROLLED = 4096  # steps of a loop that is unrolled


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
        told = counted_by_condition(node, body, trips, None if start else condition, carried)
        if told is not None and told.exact:
            found = _counted(node, body, told.steps, carried, sure=True)
            assert found is not None
            return found
        if start is None and len(body.outputs) > 1 + len(carried) and not is_data(_tensor(condition)):
            walker().known(node, condition)  # asks for sizes
        most = trips if told is None else told.steps
        return _while(node, body, most, condition if start is None else None, carried)
    except (FormChanged, DependsOnStep) as e:
        if isinstance(trips, str):
            raise NeedsSize(sorted(dims.symbols_of(trips)), str(e)) from None
        if start is None:
            if is_data(_tensor(condition)):
                raise
            walker().known(node, condition)  # asks for sizes
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
    try:
        known = walker().known(node, condition)
    except NeedsSize:  # 0 < time
        return None
    if known is None or known.symbolic or known.array.size != 1:
        raise ImportModelError(f"{node}: expected one bool as its condition")
    return bool(known.array.reshape(-1)[0])


def _counted(node: Node, body: Graph, trips: Dim, carried: Sequence[Item], *,
             sure: bool = False) -> tuple[Item, ...] | None:
    """A loop whose condition stays true, or is ``sure`` to for so many steps; None where its body computes another."""
    if trips == 0 and len(body.outputs) == 1 + len(carried):
        return tuple(carried)
    if any(isinstance(c, list) or c is None for c in carried):
        raise FormChanged(f"{node}: it carries a sequence")
    states = tensors_of(node, carried)
    traced = Body(trips, states, [ops.arange(trips, "i64")])
    with traced.open():
        items = walker().body(body, [traced.sequences[0], Known(np.array(True)), *traced.states])
        if not sure and not _stays_true(items[0]):
            traced.drop()
            return None
        if any(isinstance(i, list) and not isinstance(i, Missing) for i in items[1:]):
            raise FormChanged(f"{node}: it carries a sequence")
        tensors = tensors_of(node, items[1:])
        grown = grown_states(traced, tensors[: len(states)])
    new = [traced.states[i] if i in grown else t for i, t in enumerate(tensors[: len(states)])]
    finals, ys = traced.close(node, new, [*tensors[len(states) :], *(g.piece for g in grown.values())])
    for (i, state), pieces in zip(grown.items(), ys[len(ys) - len(grown) :], strict=True):
        finals[i] = state.joined(states[i], pieces)
    return (*finals, *ys[: len(ys) - len(grown)])


def _stays_true(condition: Item) -> bool:
    return isinstance(condition, Known) and condition.array.size == 1 and bool(condition.array.reshape(-1)[0])


@dataclass(frozen=True, slots=True)
class Count:
    """How often a loop runs: so often, or, where it is not ``exact``, at most."""

    steps: Dim
    exact: bool


def counted_by_condition(node: Node, body: Graph, trips: Dim | None, condition: Item,
                         carried: Sequence[Item]) -> Count | None:
    """How often a loop runs whose condition compares a counter with a size; None where nothing bounds it.

    Where it compares something else too, that may end it before. A step is traced to see what its condition is.
    ``condition`` is that of the first step, None where it holds.
    """
    if any(isinstance(c, list) or c is None for c in carried):
        return None
    states, listed = tensors_of(node, carried), list(walker().unsupported)
    counter = wrap(active().builder.const(np.asarray(0, np.int64)))
    traced = Body(ENDLESS, [*states, counter], [])
    with traced.open():
        items = walker().body(body, [traced.states[-1], Known(np.array(True)), *traced.states[:-1]])
        walker().unsupported[:] = listed  # they are listed when the loop is traced for good
        tensors = tensors_of(node, items)
        arguments = [t.value() for t in traced.states[:-1]]
        known = counters(arguments, [s.value() for s in states], [t.value() for t in tensors[1 : 1 + len(states)]])
        after, all_after = needed(tensors[0].value(), {**known, traced.states[-1].value(): Affine(0, 1)})
    traced.drop()
    first, all_first = ([], True) if condition is None else needed(_tensor(condition).value(), {})
    by_first = {f.margin for f in first}
    exact = bool(after) and all_after and all_first
    if by_first and by_first != {a.before().margin for a in after}:
        exact = False  # the steps do not go on by the condition that lets the first one run
    counts: list[Dim] = [] if trips is None else [trips]
    for a in after:
        from_first = a.before().margin in by_first
        steps = a.before().steps() if from_first else a.steps()
        if steps is not None:
            counts.append(steps if from_first else dims.add(steps, 1))
        elif not a.always:
            exact = False
    return Count(dims.minimum(*counts), exact) if counts else None


def _tensor(condition: Item) -> Tensor:
    tensor = tensor_of(condition)
    assert tensor is not None
    return tensor


def _while(node: Node, body: Graph, trips: Dim | None, condition: Item, carried: Sequence[Item]) -> tuple[Item, ...]:
    """A loop that its condition may end. How long its outputs are would follow from data, so it has none."""
    if len(body.outputs) > 1 + len(carried):
        raise ImportModelError(f"{node}: its condition is computed, so the length of its scan outputs is known only "
                               "when the model runs")
    states = tensors_of(node, carried)
    b = active().builder
    done = b.const(0.0, F32) if condition is None else _done(tensor_of(condition))
    counter = wrap(b.const(np.asarray(0, np.int64)))
    traced = Body(ENDLESS if trips is None else trips, [*states, counter, wrap(done)], [])
    with traced.open():
        number = traced.states[-2]
        items = walker().body(body, [number, Known(np.array(True)), *traced.states[:-2]])
        tensors = tensors_of(node, items)
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


def _unrolled(node: Node, body: Graph, trips: int | None, carried: Sequence[Item]) -> tuple[Item, ...]:
    """Step by step, with every number known: for states that change their form."""
    state: list[Item] = list(carried)
    emitted: list[list[Tensor]] = []
    for number in itertools.count() if trips is None else range(trips):
        if number >= MAX_UNROLLED or (trips or 0) > MAX_UNROLLED:
            often = trips or f"more than {MAX_UNROLLED}"
            raise ImportModelError(f"{node}: it would be unrolled {often} times, which is too often")
        items = walker().body(body, [Known(np.asarray(number, np.int64)), Known(np.array(True)), *state])
        state = items[1 : 1 + len(state)]
        emitted.append(tensors_of(node, items[1 + len(state) :]))
        if not _flag_or_fail(node, items[0]):
            break
    outputs = [ops.concat([ops.reshape(t, (1, *t.shape)) for t in parts], 0) if len(parts) > 1 else
               ops.reshape(parts[0], (1, *parts[0].shape)) for parts in map(list, zip(*emitted, strict=True))]
    if not emitted and len(body.outputs) > 1 + len(state):
        raise ImportModelError(f"{node}: it runs no step, so the shape of its scan outputs is not known")
    return (*state, *outputs)


def _flag_or_fail(node: Node, condition: Item) -> bool:
    if isinstance(condition, Tensor) and not is_data(condition):
        condition = walker().known(node, condition)  # asks for sizes
    flag = _flag(node, condition)
    if flag is None:
        raise ImportModelError(f"{node}: its condition is computed, while its values change their form")
    return flag
