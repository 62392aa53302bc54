"""Operations of Keras 3 in functional models (x * 2, keras.ops.concatenate): they have no weights and no code."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from rnngraph.errors import ShapeError
from rnngraph.frontends.keras.config import Config
from rnngraph.ir import dims, make_op
from rnngraph.ir.ops import RESHAPE, ReshapeAttrs
from rnngraph.nn import ops
from rnngraph.nn.activations import ACTIVATIONS
from rnngraph.nn.context import active
from rnngraph.nn.tensor import Tensor, composable, wrap

BINARY: dict[str, Callable[..., Any]] = {
    "Add": lambda a, b: a + b, "Subtract": lambda a, b: a - b, "Multiply": lambda a, b: a * b,
    "TrueDivide": lambda a, b: a / b, "Divide": lambda a, b: a / b, "Power": lambda a, b: a**b,
    "Maximum": ops.maximum, "Minimum": ops.minimum, "Matmul": lambda a, b: a @ b, "Equal": ops.equal,
    "NotEqual": ops.not_equal, "Greater": lambda a, b: a > b, "GreaterEqual": lambda a, b: a >= b,
    "Less": lambda a, b: a < b, "LessEqual": lambda a, b: a <= b, "LogicalAnd": ops.logical_and,
    "LogicalOr": ops.logical_or}
UNARY: dict[str, Callable[..., Any]] = {
    "Absolute": ops.abs, "Abs": ops.abs, "Exp": ops.exp, "Log": ops.log, "Sqrt": ops.sqrt, "Square": ops.square,
    "Negative": lambda x: -x, "Sign": ops.sign, "Floor": ops.floor, "LogicalNot": ops.logical_not,
    **{"".join(word.title() for word in name.split("_")): f for name, f in ACTIVATIONS.items()
       if name in ("relu", "relu6", "sigmoid", "tanh", "silu", "softplus", "softsign", "selu", "hard_sigmoid")}}
REDUCTIONS: dict[str, Callable[..., Any]] = {"Mean": ops.mean, "Sum": ops.sum, "Max": ops.max, "Min": ops.min,
                                            "Any": ops.any, "All": ops.all}


@composable
def _expand(x: Tensor, axis: int) -> Tensor:
    at = axis % (x.rank + 1)
    return ops.reshape(x, (*x.shape[:at], 1, *x.shape[at:]))


@composable
def _stacked(xs: Sequence[Tensor], axis: int) -> Tensor:
    return ops.concat([_expand(x, axis) for x in xs], axis)


AT_AN_AXIS: dict[str, Callable[..., Any]] = {
    "Concatenate": ops.concat, "Softmax": ops.softmax, "ExpandDims": _expand,
    "Stack": _stacked, "Flip": ops.reverse, "Argmax": ops.argmax}
KNOWN = (*BINARY, *UNARY, *REDUCTIONS, *AT_AN_AXIS, "Reshape", "Transpose", "Squeeze", "GetItem", "ZerosLike",
         "OnesLike", "Where")


def is_operation(c: Config) -> bool:
    """In HDF5 files classes have no module; a layer's config has more than an operation's."""
    bare = not c.module and c.keras >= 3 and "trainable" not in c.values
    return ".ops" in c.module or (bare and c.class_name in KNOWN)


def function(c: Config) -> Callable[..., Any]:
    """What an operation computes on tensors of a model under composition."""
    name = c.class_name
    if name in BINARY or name in UNARY:
        c.done()
        return BINARY.get(name) or UNARY[name]
    if name in REDUCTIONS:
        axis, keep = c.get("axis", None), c.flag("keepdims", False)
        c.done()
        return lambda x: REDUCTIONS[name](x, axis, keepdims=keep)
    if name in AT_AN_AXIS:
        at = c.axis("axis", 0 if name == "Stack" else -1)
        if name == "Argmax" and c.flag("keepdims", False):
            raise c.fail("keepdims of argmax is not supported")
        c.done()
        return lambda x: AT_AN_AXIS[name](x, at)
    if name == "Where":
        c.done()
        return ops.where
    if name == "Squeeze":
        axes = c.get("axis", None)
        c.done()
        return lambda x: _squeeze(x, axes)
    if name == "Reshape":
        shape = c.get("newshape", ())
        c.done()
        return lambda x, given=None: _reshape(x, given or shape)
    if name == "Transpose":
        order = c.get("axes", None)
        c.done()
        return lambda x: ops.transpose(x, order or list(range(x.rank))[::-1])
    if name in ("ZerosLike", "OnesLike"):
        dtype = c.get("dtype", None)
        c.used.add("dtype")
        return lambda x: _filled(x, float(name == "OnesLike"), dtype == "bool")
    if name == "GetItem":
        c.done()
        return lambda x, key: x[tuple(key) if isinstance(key, list) else key]
    raise c.fail(f"this operation is not supported; known are {', '.join(KNOWN)}")


@composable
def with_mask(x: Tensor, mask: Tensor) -> Tensor:
    """x, and behind it ``mask`` is its mask, whatever masks other uses of x have."""
    trace = active()
    if trace.time_masks.get(x.value()) is mask.value():
        return x
    op = make_op(RESHAPE, (x.value(),), ReshapeAttrs(x.shape), layer=trace.builder.layer)
    own = wrap(trace.builder.insert(op).results[0])
    trace.time_masks[own.value()] = mask.value()
    return own


@composable
def _filled(x: Tensor, value: float, flags: bool) -> Tensor:
    out = ops.cast(ops.zeros_like(x), "f32") + value
    return out > 0.5 if flags else ops.cast(out, x.dtype)


@composable
def _squeeze(x: Tensor, axes: Any) -> Tensor:
    gone = [a % x.rank for a in ([axes] if isinstance(axes, int) else axes)] if axes is not None else [
        i for i, d in enumerate(x.shape) if d == 1]
    return ops.reshape(x, tuple(d for i, d in enumerate(x.shape) if i not in gone))


@composable
def _reshape(x: Tensor, shape: Sequence[Any]) -> Tensor:
    """As ``keras.ops.reshape``."""
    known = dims.mul(*(d for d in shape if d not in (None, -1)))
    if list(shape).count(-1) + list(shape).count(None) > 1 or known == 0:
        raise ShapeError(f"reshape: expected at most one open size, got {list(shape)}")
    return ops.reshape(x, tuple(dims.floordiv(dims.mul(*x.shape), known) if d in (None, -1) else d for d in shape))
