"""Ops on two tensors, or on a tensor and a number. Comparisons give 0 and 1 in the operands' dtype."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from rnngraph.errors import ImportModelError
from rnngraph.frontends.mxnet.registry import handler
from rnngraph.frontends.mxnet.symbol import Node
from rnngraph.frontends.mxnet.walker import same
from rnngraph.ir import BOOL, OpDef
from rnngraph.ir import ops as ir_ops
from rnngraph.nn import ops
from rnngraph.nn.tensor import Operand, Tensor, elementwise

Binary: TypeAlias = Callable[[Operand, Operand], Tensor]


def _plain(opdef: OpDef) -> Binary:
    return lambda a, b: elementwise(opdef, a, b)


def _comparison(opdef: OpDef) -> Binary:
    def compare(a: Operand, b: Operand) -> Tensor:
        like = a if isinstance(a, Tensor) else b
        assert isinstance(like, Tensor)
        return ops.cast(elementwise(opdef, a, b), like.dtype)

    return compare


def _logical(function: Callable[[Tensor, Tensor], Tensor]) -> Binary:
    def combine(a: Operand, b: Operand) -> Tensor:
        like = a if isinstance(a, Tensor) else b
        assert isinstance(like, Tensor)
        return ops.cast(function(truth(a, like), truth(b, like)), like.dtype)

    return combine


def truth(x: Operand, like: Tensor) -> Tensor:
    """bool: where x is not 0."""
    if isinstance(x, Tensor):
        return x if x.dtype is BOOL else ops.not_equal(x, 0)
    return ops.not_equal(ops.zeros_like(like), 0) if x == 0 else ops.equal(ops.zeros_like(like), 0)


def _mod(a: Operand, b: Operand) -> Tensor:
    """The remainder with the divisor's sign; 0 by a divisor of 0."""
    if not isinstance(b, Tensor):
        assert isinstance(a, Tensor)
        return ops.zeros_like(a) if b == 0 else ops.mod(a, b)
    empty = ops.equal(b, 0)
    return ops.where(empty, 0, ops.mod(a, ops.where(empty, 1, b)))


def _hypot(a: Operand, b: Operand) -> Tensor:
    return ops.sqrt(elementwise(ir_ops.ADD, a * a, b * b))


FUNCTIONS: dict[str, Binary] = {
    "add": _plain(ir_ops.ADD), "sub": _plain(ir_ops.SUB), "mul": _plain(ir_ops.MUL), "div": _plain(ir_ops.DIV),
    "power": _plain(ir_ops.POW), "maximum": _plain(ir_ops.MAX), "minimum": _plain(ir_ops.MIN), "mod": _mod,
    "hypot": _hypot, "equal": _comparison(ir_ops.EQ), "not_equal": _comparison(ir_ops.NE),
    "greater": _comparison(ir_ops.GT), "greater_equal": _comparison(ir_ops.GE), "lesser": _comparison(ir_ops.LT),
    "lesser_equal": _comparison(ir_ops.LE), "logical_and": _logical(ops.logical_and),
    "logical_or": _logical(ops.logical_or), "logical_xor": _logical(ops.logical_xor),
}
COMPARISONS = {"equal": ir_ops.EQ, "not_equal": ir_ops.NE, "greater": ir_ops.GT, "greater_equal": ir_ops.GE,
               "less": ir_ops.LT, "less_equal": ir_ops.LE}  # of mx.np, whose results are bools
# MXNet's names: by shape rule, and those of old files and of mx.np.
_SAME_SHAPE = {
    **{f"elemwise_{n}": n for n in ("add", "sub", "mul", "div")}, **{f"_{n}": n for n in FUNCTIONS},
    "_Plus": "add", "_plus": "add", "_Minus": "sub", "_minus": "sub", "_Mul": "mul", "_Div": "div", "_Mod": "mod",
    "_Power": "power", "_Maximum": "maximum", "_Minimum": "minimum", "_Hypot": "hypot", "_Equal": "equal",
    "_Not_Equal": "not_equal", "_Greater": "greater", "_Greater_Equal": "greater_equal", "_Lesser": "lesser",
    "_Lesser_Equal": "lesser_equal", "_grad_add": "add",
}
_BROADCAST = {
    **{f"broadcast_{n}": n for n in FUNCTIONS}, "broadcast_plus": "add", "broadcast_minus": "sub",
    "_npi_add": "add", "_npi_subtract": "sub", "_npi_multiply": "mul", "_npi_true_divide": "div", "_npi_power": "power",
    "_npi_maximum": "maximum", "_npi_minimum": "minimum", "_npi_mod": "mod",
}
_SCALAR = {
    **{f"_{n}_scalar": n for n in FUNCTIONS}, "_plus_scalar": "add", "_minus_scalar": "sub", "_PlusScalar": "add",
    "_MinusScalar": "sub", "_MulScalar": "mul", "_DivScalar": "div", "_PowerScalar": "power",
    "_MaximumScalar": "maximum", "_MinimumScalar": "minimum", "_ModScalar": "mod", "_EqualScalar": "equal",
    "_NotEqualScalar": "not_equal", "_GreaterScalar": "greater", "_GreaterEqualScalar": "greater_equal",
    "_LesserScalar": "lesser", "_LesserEqualScalar": "lesser_equal", "_npi_add_scalar": "add",
    "_npi_subtract_scalar": "sub", "_npi_multiply_scalar": "mul", "_npi_true_divide_scalar": "div",
    "_npi_power_scalar": "power", "_npi_maximum_scalar": "maximum", "_npi_minimum_scalar": "minimum",
    "_npi_mod_scalar": "mod",
}
_TURNED = {  # the number stands on the left
    "_rminus_scalar": "sub", "_rdiv_scalar": "div", "_rpower_scalar": "power", "_rmod_scalar": "mod",
    "_RMinusScalar": "sub", "_RDivScalar": "div", "_RPowerScalar": "power", "_RModScalar": "mod",
    "_npi_rsubtract_scalar": "sub", "_npi_rtrue_divide_scalar": "div", "_npi_rpower_scalar": "power",
    "_npi_rmod_scalar": "mod",
}


@handler(*_SAME_SHAPE)
def same_shape(node: Node, a: Tensor, b: Tensor) -> Tensor:
    """An op on two tensors of one shape."""
    same(node, a.shape, b.shape)
    if a.shape != b.shape:
        raise ImportModelError(f"{node}: expected two tensors of one shape, got {a.type} and {b.type}")
    return FUNCTIONS[_SAME_SHAPE[node.op]](a, b)


@handler(*_BROADCAST)
def broadcast(node: Node, a: Tensor, b: Tensor) -> Tensor:
    """An op with numpy's broadcasting."""
    if a.rank == b.rank and 1 not in (*a.shape, *b.shape):
        same(node, a.shape, b.shape)
    return FUNCTIONS[_BROADCAST[node.op]](a, b)


def scalar_of(node: Node, x: Tensor) -> float:
    """The number of a node, whole where the tensor is of integers."""
    value = node.attrs.number("scalar", 0.0 if not node.attrs.given("scalar") else None)
    if x.dtype.kind != "int":
        return value
    if value != int(value):
        raise ImportModelError(f"{node}: the number {value} on integers {x.type}; cast them to floats first")
    return int(value)


@handler(*_SCALAR)
def scalar(node: Node, x: Tensor) -> Tensor:
    """A tensor and a number."""
    return FUNCTIONS[_SCALAR[node.op]](x, scalar_of(node, x))


@handler(*_TURNED)
def turned(node: Node, x: Tensor) -> Tensor:
    """A number and a tensor."""
    value = scalar_of(node, x)
    if _TURNED[node.op] == "mod":
        return _mod(ops.zeros_like(x) + value, x)
    return FUNCTIONS[_TURNED[node.op]](value, x)


@handler(*(f"_npi_{n}" for n in COMPARISONS))
def comparison(node: Node, a: Tensor, b: Tensor) -> Tensor:
    return elementwise(COMPARISONS[node.op.removeprefix("_npi_")], a, b)


@handler(*(f"_npi_{n}_scalar" for n in COMPARISONS))
def scalar_comparison(node: Node, x: Tensor) -> Tensor:
    return elementwise(COMPARISONS[node.op.removeprefix("_npi_").removesuffix("_scalar")], x, scalar_of(node, x))


@handler("add_n", "ElementWiseSum")
def add_n(node: Node, first: Tensor, *others: Tensor) -> Tensor:
    total = first
    for x in others:
        total = same_sum(node, total, x)
    return total


def same_sum(node: Node, a: Tensor, b: Tensor) -> Tensor:
    same(node, a.shape, b.shape)
    return a + b


@handler("where", "_npi_where")
def where(node: Node, condition: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """A condition of a's shape, or a vector that chooses rows."""
    same(node, a.shape, b.shape)
    if condition.rank == 1 and a.rank > 1:
        condition = ops.reshape(condition, (condition.shape[0], *[1] * (a.rank - 1)))
    elif condition.rank == a.rank:
        same(node, condition.shape, a.shape)
    return ops.where(truth(condition, condition), a, b)
