"""What a traced value follows from: constants (then it is known), sizes, inputs of the model, or computed data."""

from __future__ import annotations

import numpy as np

from rnngraph.errors import ImportModelError
from rnngraph.frontends.imported import NeedsSize, NeedsValue
from rnngraph.frontends.known import Known
from rnngraph.ir import Array, Interpreter, Value
from rnngraph.ir.dims import symbols_of
from rnngraph.nn.context import active
from rnngraph.nn.tensor import Tensor

MAX_ELEMENTS = 2**24  # of any value on the way
MAX_INPUT_RANK = 1  # floats that decide a structure are scalars and vectors; larger ones are data


class DependsOnStep(ImportModelError):
    """What must be known differs from step to step of a loop."""


def known_value(tensor: Tensor, why: str) -> Known:
    """The value of a tensor that follows from constants alone.

    `NeedsSize` where it depends on sizes, `NeedsValue` where it depends on inputs that may be asked for (integers,
    bools and small floats); ImportModelError where it depends on other data, DependsOnStep on a step of a loop.
    """
    value = tensor.value()
    leaves, symbols = _leaves(value)
    data = [v for v in leaves if not _askable(v)]
    if any(v.block is not active().graph.block for v in data):
        raise DependsOnStep(f"{why}: its shape or structure depends on the step of a loop ({data[0]!r})")
    if data:
        raise ImportModelError(f"{why}: its shape or structure depends on computed data ({data[0]!r}), which is known "
                               "only when the model runs")
    if leaves:
        raise NeedsValue([v.hint for v in leaves], why)
    if symbols:
        raise NeedsSize(sorted(symbols), why)
    return Known(evaluate_constant(value), value.type.dtype if value.type.dtype.name == "bf16" else None)


def is_data(tensor: Tensor) -> bool:
    """Whether the value is known only when the model runs, whatever small inputs and sizes are known before."""
    return any(not _askable(v) for v in _leaves(tensor.value())[0])


def constant_value(tensor: Tensor) -> Array | None:
    """The value of a tensor that follows from constants alone, else None."""
    value = tensor.value()
    leaves, symbols = _leaves(value)
    return None if leaves or symbols else evaluate_constant(value)


def _leaves(value: Value) -> tuple[list[Value], set[str]]:
    """The block arguments and the sizes that a value follows from."""
    leaves: dict[Value, None] = {}
    symbols: set[str] = set()
    seen: set[Value] = set()
    stack = [value]
    while stack:
        at = stack.pop()
        if at in seen:
            continue
        seen.add(at)
        if at.op is None:
            leaves[at] = None
            continue
        symbols.update(s for d in at.shape if isinstance(d, str) for s in symbols_of(d))
        if at.op.name == "size":
            dim = getattr(at.op.attrs, "dim", 0)
            symbols.update(symbols_of(dim) if isinstance(dim, str) else ())
        stack.extend(at.op.operands)
        for block in at.op.blocks:
            stack.extend(block.captures())
    return list(leaves), symbols


def _askable(leaf: Value) -> bool:
    own_input = leaf.block is active().graph.block
    return own_input and (leaf.type.dtype.kind != "float" or leaf.type.rank <= MAX_INPUT_RANK)


def evaluate_constant(value: Value) -> Array:
    """The value of what follows from constants alone, by the reference evaluation."""
    interpreter = Interpreter({})
    order: list[Value] = []
    stack = [(value, False)]
    done: set[Value] = set()
    while stack:  # operands first, without recursion: chains may be long
        at, ready = stack.pop()
        if at in done:
            continue
        if ready:
            done.add(at)
            order.append(at)
            continue
        stack.append((at, True))
        assert at.op is not None
        stack.extend((v, False) for v in (*at.op.operands, *(c for b in at.op.blocks for c in b.captures())))
    with np.errstate(all="ignore"):  # NaN and inf are values here, not accidents
        for at in order:
            assert at.op is not None
            if at not in interpreter.env:
                _check_size(at)
                interpreter.run_op(at.op)
    return np.asarray(interpreter.env[value])


def _check_size(value: Value) -> None:
    count = 1
    for d in value.shape:
        count *= d if isinstance(d, int) else 1
    if count > MAX_ELEMENTS and value.op is not None and value.op.name != "const":
        raise ImportModelError(f"a value of {value.type} is too large to be computed while the model is read")
