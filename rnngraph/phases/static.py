"""Values known at compile time: constants and moves of constants. Weights must be, because they are packed once."""

from __future__ import annotations

from rnngraph.ir import Array, Interpreter, Value

_MOVES = frozenset({"slice", "concat", "transpose", "reshape", "reverse", "broadcast", "cast", "neg", "add", "sub",
                    "mul", "matmul"})


def is_static(value: Value) -> bool:
    """Whether ``value`` is a constant, or simple static-shaped arithmetic and moves of constants."""
    op = value.op
    if op is None or any(isinstance(d, str) for d in value.shape):
        return False
    return op.name == "const" or (op.name in _MOVES and all(is_static(v) for v in op.operands))


def static_array(value: Value) -> Array:
    """The array of a static value."""
    run = Interpreter({})

    def visit(v: Value) -> None:
        if v not in run.env:
            assert v.op is not None
            for operand in v.op.operands:
                visit(operand)
            run.run_op(v.op)

    visit(value)
    return run.env[value]
