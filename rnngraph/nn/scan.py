"""scan: a plain function over time, for those who come from Theano's or JAX's scan and need no cell."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from rnngraph.errors import ShapeError, TraceError
from rnngraph.ir import SCAN, Block, ScanAttrs, Value, make_op
from rnngraph.ir import ops as ir_ops
from rnngraph.nn.context import active
from rnngraph.nn.loop import ScanSteps
from rnngraph.nn.tensor import composed, like, tensors_in, wrap


def scan(step: Callable[..., tuple[Any, Any]], initial: Any, sequences: Any, *, constants: Sequence[Any] = (),
         reverse: bool = False) -> tuple[Any, Any]:
    """Run ``step`` over the first axis of ``sequences``; the final carries, and the outputs of all steps.

    step       (carry, x, *constants) -> (new carry, y); a carry keeps its shapes and dtypes
    initial    the first carry: a tensor [batch, n], or tensors in nested tuples, lists and dicts
    sequences  a tensor [time, batch, n], or tensors in nested tuples, lists and dicts; x has their structure
    constants  what every step may use besides (Theano's non_sequences)
    reverse    from the last step to the first; the outputs stand at their input's time (Theano's go_backwards)

    ``step`` may give None, a tensor or a structure as y. Raises TraceError or ShapeError for a step that breaks this.
    After `theano.scan` and `jax.lax.scan`.

    Example (an exponential moving average):
        >>> import numpy as np, rnngraph as rg
        >>> from rnngraph.nn import ops
        >>> x = rg.Input(("batch", "time", 3))
        >>> def average(h, x):
        ...     h = 0.9 * h + 0.1 * x
        ...     return h, h
        >>> last, y = rg.scan(average, ops.zeros_like(x[:, 0]), ops.transpose(x, (1, 0, 2)))
        >>> rg.compile(rg.nn.Model(x, last))(np.ones((1, 22, 3), np.float32)).round(2)
        array([[0.9, 0.9, 0.9]], dtype=float32)
    """
    finals, ys = composed(lambda given: _traced(step, given[0], given[1], given[2], reverse),
                          (initial, sequences, tuple(constants)))
    return finals, ys


def _traced(step: Callable[..., tuple[Any, Any]], initial: Any, sequences: Any, constants: Sequence[Any],
            reverse: bool) -> tuple[Any, Any]:
    trace = active()
    starts = [t.value() for t in tensors_in(initial)]
    values = [t.value() for t in tensors_in(sequences)]
    count = _steps(values)
    body = Block()
    carries = [body.add_arg(v.type, f"c{i}") for i, v in enumerate(starts)]
    xs = [body.add_arg(v.type.with_shape(v.shape[1:]), f"x{i}") for i, v in enumerate(values)]
    steps = ScanSteps(count, body=body)
    with trace.body(body), trace.over(steps):
        carry, x = like(initial, map(wrap, carries)), like(sequences, map(wrap, xs))
        result = step(carry, x, *constants)
        if not isinstance(result, tuple) or len(result) != 2:
            raise TraceError(f"scan: step must return (new carry, y), got {result!r}")
        new = [t.value() for t in tensors_in(result[0])]
        ys = [t.value() for t in tensors_in(result[1])]
    _check_carries(starts, new)
    body.append(make_op(ir_ops.YIELD, (*new, *ys), ir_ops.YieldAttrs(len(new)), layer=trace.layer))
    inner = [*values, *steps.sequences]
    attrs = ScanAttrs(tuple(f"c{i}" for i in range(len(starts))), tuple(f"x{i}" for i in range(len(inner))),
                      tuple(f"y{i}" for i in range(len(ys))), count, reverse)
    op = trace.builder.insert(make_op(SCAN, (*starts, *inner), attrs, (body,), trace.layer))
    out = [wrap(v) for v in op.results]
    return like(result[0], out[: len(new)]), like(result[1], out[len(new) :])


def _steps(values: Sequence[Value]) -> Any:
    if not values:
        raise TraceError("scan: expected at least one sequence; for a loop without one use rg.while_loop")
    counts = {v.shape[0] if v.shape else None for v in values}
    if len(counts) != 1 or None in counts:
        raise ShapeError(f"scan: the sequences must agree in their first axis, time, got "
                         f"{', '.join(str(v.type) for v in values)}")
    return counts.pop()


def _check_carries(before: Sequence[Value], after: Sequence[Value]) -> None:
    if [v.type for v in before] != [v.type for v in after]:
        old, new = (", ".join(str(v.type) for v in values) for values in (before, after))
        raise TraceError(f"scan: the carry enters a step as ({old}) and leaves it as ({new}); it keeps its shapes and "
                         "dtypes")
