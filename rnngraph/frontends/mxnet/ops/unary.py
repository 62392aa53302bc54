"""Functions of one tensor, element by element."""

from __future__ import annotations

import math
from collections.abc import Callable

from rnngraph.frontends.mxnet.ops.elementwise import truth
from rnngraph.frontends.mxnet.registry import handler
from rnngraph.frontends.mxnet.symbol import Node
from rnngraph.nn import ops
from rnngraph.nn.tensor import Tensor


def _trunc(x: Tensor) -> Tensor:
    return ops.sign(x) * ops.floor(ops.abs(x))


def _rint(x: Tensor) -> Tensor:
    """The nearest whole number; of two, the lower one."""
    return ops.ceil(x - 0.5)


def _round(x: Tensor) -> Tensor:
    """The nearest whole number; of two, the one away from 0."""
    return ops.sign(x) * ops.floor(ops.abs(x) + 0.5)


def _cbrt(x: Tensor) -> Tensor:
    return ops.sign(x) * ops.abs(x) ** (1.0 / 3.0)


def _log1p(x: Tensor) -> Tensor:
    """log(1 + x), by Kahan's correction: exact where x is small."""
    u = 1.0 + x
    near = ops.equal(u, 1.0)
    return ops.where(near, x, ops.log(u) * (x / ops.where(near, 1.0, u - 1.0)))


def _expm1(x: Tensor) -> Tensor:
    """exp(x) - 1 as 2 tanh(x/2) / (1 - tanh(x/2)): exact where x is small."""
    t = ops.tanh(ops.clip(x, -1.0, 1.0) * 0.5)
    return ops.where(ops.abs(x) < 1.0, 2.0 * t / (1.0 - t), ops.exp(x) - 1.0)


FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": ops.relu, "sigmoid": ops.sigmoid, "tanh": ops.tanh, "exp": ops.exp, "log": ops.log, "sqrt": ops.sqrt,
    "square": ops.square, "abs": ops.abs, "sign": ops.sign, "floor": ops.floor, "ceil": ops.ceil, "rint": _rint,
    "round": _round, "trunc": _trunc, "fix": _trunc, "erf": ops.erf, "softsign": ops.softsign, "sin": ops.sin,
    "cos": ops.cos, "tan": ops.tan, "arcsin": ops.asin, "arccos": ops.acos, "arctan": ops.atan, "sinh": ops.sinh,
    "cosh": ops.cosh, "arcsinh": ops.asinh, "arccosh": ops.acosh, "arctanh": ops.atanh, "cbrt": _cbrt,
    "log1p": _log1p, "expm1": _expm1, "negative": lambda x: -x, "rsqrt": lambda x: 1.0 / ops.sqrt(x),
    "rcbrt": lambda x: 1.0 / _cbrt(x), "reciprocal": lambda x: 1.0 / x,
    "log2": lambda x: ops.log(x) * math.log2(math.e), "log10": lambda x: ops.log(x) * math.log10(math.e),
    "degrees": lambda x: x * (180.0 / math.pi),
    "radians": lambda x: x * (math.pi / 180.0), "logical_not": lambda x: ops.cast(~truth(x, x), x.dtype),
    "softrelu": ops.softplus, "mish": lambda x: x * ops.tanh(ops.softplus(x)),
    "log_sigmoid": lambda x: -ops.softplus(-x),
}
_NAMES = {**{n: n for n in FUNCTIONS}, **{f"_npi_{n}": n for n in FUNCTIONS}, "_npx_relu": "relu",
          "_npx_sigmoid": "sigmoid", "_npi_absolute": "abs"}


@handler(*_NAMES)
def function(node: Node, x: Tensor) -> Tensor:
    return FUNCTIONS[_NAMES[node.op]](x)


@handler("_copy", "identity", "BlockGrad", "stop_gradient", "_npi_copy", "_np_copy", "MakeLoss", "make_loss",
         "_identity_with_attr_like_rhs", uses=1)
def identity(node: Node, x: Tensor) -> Tensor:
    return x


@handler("clip")
def clip(node: Node, x: Tensor) -> Tensor:
    return ops.clip(x, node.attrs.number("a_min"), node.attrs.number("a_max"))


@handler("hard_sigmoid")
def hard_sigmoid(node: Node, x: Tensor) -> Tensor:
    return ops.clip(x * node.attrs.number("alpha", 0.2) + node.attrs.number("beta", 0.5), 0.0, 1.0)


@handler("smooth_l1")
def smooth_l1(node: Node, x: Tensor) -> Tensor:
    """Squares near 0, absolute values beyond 1 / scalar**2."""
    s = node.attrs.number("scalar", 1.0) ** 2
    return ops.where(ops.abs(x) < 1.0 / s, 0.5 * s * x * x, ops.abs(x) - 0.5 / s)
