"""Python's own operators on sizes: what they give are Dims and numbers."""

from __future__ import annotations

import math
from typing import Any

from rnngraph.errors import ImportModelError
from rnngraph.frontends.torch.program import Node
from rnngraph.frontends.torch.registry import handler
from rnngraph.ir import Dim, dims
from rnngraph.nn.tensor import Tensor


@handler("aten.sym_size")
def sym_size(node: Node, self: Tensor, dim: int) -> Dim:
    return self.shape[dim]


@handler("aten.sym_numel")
def sym_numel(node: Node, self: Tensor) -> Dim:
    return dims.mul(*self.shape)


@handler("operator.getitem", raw=True)
def getitem(node: Node, **given: Any) -> Any:
    source, index = given.values()
    if not isinstance(source, list | tuple) or not isinstance(index, int):
        raise ImportModelError(f"cannot take element {index!r} of {source!r}")
    return source[index]


_ON_DIMS: dict[str, Any] = {"add": dims.add, "mul": dims.mul, "sub": dims.sub, "floordiv": dims.floordiv,
                            "mod": dims.mod, "max": dims.maximum, "min": dims.minimum}
_ON_NUMBERS: dict[str, Any] = {
    "add": lambda a, b: a + b, "mul": lambda a, b: a * b, "sub": lambda a, b: a - b, "floordiv": lambda a, b: a // b,
    "mod": lambda a, b: a % b, "max": max, "min": min}


@handler(*(f"operator.{name}" for name in _ON_DIMS))
def on_sizes(node: Node, **given: Any) -> Any:
    """Integers as Dims; other numbers as Python computes them."""
    name, values = node.op.removeprefix("operator."), list(given.values())
    if all(isinstance(v, int | str) for v in values):
        return _ON_DIMS[name](*values)
    if any(isinstance(v, str) for v in values):
        raise ImportModelError(f"cannot compute {name} of {', '.join(map(str, values))}: sizes are whole numbers")
    return _ON_NUMBERS[name](*values)


@handler("operator.neg")
def negative(node: Node, **given: Any) -> Any:
    (value,) = given.values()
    return dims.sub(0, value) if isinstance(value, int | str) else -value


@handler("operator.pow")
def power(node: Node, **given: Any) -> Any:
    base, exponent = given.values()
    if isinstance(base, str) and isinstance(exponent, int) and 0 <= exponent <= 8:
        return dims.mul(*[base] * exponent)
    return _numbers(node, base, exponent, compute=lambda a, b: a**b)


@handler("operator.truediv", "operator.float", "operator.int", "math.floor", "math.ceil", "math.trunc", "math.sqrt",
         "torch._sym_sqrt", "torch.sym_sqrt")
def on_numbers(node: Node, **given: Any) -> Any:
    name = node.op.rpartition(".")[2].removeprefix("_").removeprefix("sym_")
    functions: dict[str, Any] = {"truediv": lambda a, b: a / b, "float": float, "int": int, "floor": math.floor,
                                 "ceil": math.ceil, "trunc": math.trunc, "sqrt": math.sqrt}
    if name == "int" and all(isinstance(v, str) for v in given.values()):
        return next(iter(given.values()))
    return _numbers(node, *given.values(), compute=functions[name])


def _numbers(node: Node, *values: Any, compute: Any) -> Any:
    if any(not isinstance(v, int | float) for v in values):
        raise ImportModelError(f"cannot compute {node.op} of {', '.join(map(str, values))} while a size is open; give "
                               "dynamic_shapes in which it is a number")
    try:
        return compute(*values)
    except (ArithmeticError, ValueError) as e:
        raise ImportModelError(f"{node.op} of {values}: {e}") from None
