"""Values known at compile time: constants and moves of constants. Weights must be, because they are packed once."""

from __future__ import annotations

from rnngraph.ir import Array, Interpreter, Op, Rnn, Value

_MOVES = frozenset({"slice", "concat", "transpose", "reshape", "reverse", "broadcast", "cast", "neg", "add", "sub",
                    "mul", "matmul"})


def is_static(value: Value) -> bool:
    """Whether ``value`` is a constant, or simple static-shaped arithmetic and moves of constants."""
    todo, seen = [value], {value}
    while todo:
        v = todo.pop()
        op = v.op
        if op is None or any(isinstance(d, str) for d in v.shape) or op.name not in _MOVES | {"const"}:
            return False
        fresh = [x for x in op.operands if x not in seen]
        seen.update(fresh)
        todo.extend(fresh)
    return True


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


def constant_weights(op: Op) -> bool | str:
    """Whether all weights of an rnn node are static; which one is not."""
    node = Rnn(op)
    for layer in range(node.attrs.num_layers):
        for d in range(len(node.attrs.reverses)):
            for name, w in zip(("W", "R", "bW", "bR", "P"), node.weights(layer, d), strict=False):
                if not is_static(w):
                    return f"{name} of layer {layer} is computed at run time"
    return True
