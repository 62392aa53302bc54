"""A loop in which every row of the batch decides for itself when it is done: what while_loop and raw_rnn share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rnngraph.errors import ShapeError, TraceError
from rnngraph.ir import BOOL, I32, SCAN, Block, Dim, ScanAttrs, Value, make_op
from rnngraph.ir import ops as ir_ops
from rnngraph.nn.context import active
from rnngraph.nn.loop import ScanSteps
from rnngraph.nn.tensor import Tensor, wrap


@dataclass(frozen=True, slots=True)
class Made:
    """What a step makes: the new carries, f32[batch, 1] that is 1 in the rows that are done, and the outputs."""

    carries: Sequence[Tensor]
    done: Value
    outputs: Sequence[Tensor]


def row_loop(initial: Sequence[Tensor], done: Value, step: Callable[[Sequence[Tensor], Tensor], Made], max_steps: Dim,
          pad: str) -> tuple[list[Tensor], list[Tensor], Tensor]:
    """A scan that ends early: the final carries, the output sequences [max_steps, batch, ...], the steps per row."""
    trace = active()
    if isinstance(max_steps, bool) or not isinstance(max_steps, int | str) or (
            isinstance(max_steps, int) and max_steps < 1):
        raise TraceError(f"layer {trace.path!r}: max_steps must be a number >= 1 or a symbol, got {max_steps!r}")
    counter = trace.builder.zeros(done.type)
    starts = [*(t.value() for t in initial), done, counter]
    block = Block()
    args = [block.add_arg(v.type, n) for v, n in zip(starts, _names(len(initial)), strict=True)]
    steps = ScanSteps(max_steps, body=block)
    with trace.body(block), trace.over(steps):
        time = trace.builder.add(args[-1], 1.0)
        made = step([wrap(a) for a in args[:-2]], wrap(time))
        new = [t.value() for t in made.carries]
        _check(starts[:-2], new)
        ys = [t.value() for t in made.outputs]
    block.append(make_op(ir_ops.YIELD, (*new, made.done, time, *ys), ir_ops.YieldAttrs(len(starts)), layer=trace.layer))
    attrs = ScanAttrs(_names(len(initial)), tuple(f"x{i}" for i in range(len(steps.sequences))),
                      tuple(f"y{i}" for i in range(len(ys))), max_steps, pad=pad if ys else "zero", until="done")
    op = trace.builder.insert(make_op(SCAN, (*starts, *steps.sequences), attrs, (block,), trace.layer))
    ran = op.results[len(starts) - 1]
    count = trace.builder.cast(trace.builder.reshape(ran, ran.shape[:1]), I32)
    return ([wrap(v) for v in op.results[: len(initial)]], [wrap(v) for v in op.results[len(starts) :]], wrap(count))


def _names(count: int) -> tuple[str, ...]:
    return (*(f"s{i}" for i in range(count)), "done", "steps")


def done_rows(rows: object, batch: Dim, *, negate: bool = False) -> Value:
    """1 in the rows that ``rows`` (bool) marks, or does not mark, as f32[batch, 1]: a carry of a native loop."""
    if not isinstance(rows, Tensor) or rows.dtype is not BOOL or rows.shape not in ((batch,), (batch, 1)):
        got = rows.type if isinstance(rows, Tensor) else repr(rows)
        raise TraceError(f"layer {active().path!r}: the condition must be bool[{batch}] or bool[{batch},1], one for "
                         f"each row, got {got}")
    b = active().builder
    one, zero = (b.full(v, rows.shape) for v in (1.0, 0.0))
    first, second = (zero, one) if negate else (one, zero)
    return b.reshape(b.op(ir_ops.SELECT, rows.value(), first, second), (batch, 1))


def batch_of(tensors: Sequence[Tensor], what: str) -> Dim:
    """The dim in front of all tensors."""
    dims = {t.shape[0] if t.rank else None for t in tensors}
    if len(dims) != 1 or None in dims:
        raise ShapeError(f"expected {what} to be tensors [batch, ...] of one batch, got "
                         f"{', '.join(str(t.type) for t in tensors) or 'none'}")
    (dim,) = dims
    assert dim is not None
    return dim


def _check(before: Sequence[Value], after: Sequence[Value]) -> None:
    if [v.type for v in before] != [v.type for v in after]:
        old, new = (", ".join(str(v.type) for v in values) for values in (before, after))
        raise TraceError(f"layer {active().path!r}: a step gets ({old}) and makes ({new}); a loop's state keeps its "
                         "structure, shapes and dtypes")
