"""Functions on tensors, for cells and for composing models: elementwise, shapes, reductions."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from rnngraph.errors import TraceError
from rnngraph.ir import DTYPES, I32, I64, Dim, DType, Shape, Value, dims
from rnngraph.ir import ops as ir_ops
from rnngraph.ir.size_ops import IOTA, SIZE, IotaAttrs, SizeAttrs
from rnngraph.nn.context import active
from rnngraph.nn.conv_transpose import conv_transpose
from rnngraph.nn.convolution import conv
from rnngraph.nn.einsum import einsum
from rnngraph.nn.indexing import (
    expand,
    gather_elements,
    gather_nd,
    reverse_sequence,
    scatter_elements,
    scatter_nd,
    take,
    tile,
    trilu,
)
from rnngraph.nn.normalization import (
    batch_norm,
    group_norm,
    instance_norm,
    layer_norm,
    local_response_norm,
    lp_normalize,
    rms_norm,
)
from rnngraph.nn.numeric import (
    acos,
    acosh,
    arg_largest,
    argmin,
    asin,
    asinh,
    atan,
    atanh,
    bitwise_and,
    bitwise_not,
    bitwise_or,
    bitwise_xor,
    ceil,
    cos,
    cosh,
    cumsum,
    fmod,
    isinf,
    isnan,
    logical_xor,
    mod,
    round,
    shift_left,
    shift_right,
    sin,
    sinh,
    tan,
    top_k,
)
from rnngraph.nn.padding import pad
from rnngraph.nn.pooling import average_pool, lp_pool, max_pool, max_pool_with_indices
from rnngraph.nn.reductions import all, any, max, mean, min, prod, sum
from rnngraph.nn.tensor import Operand, Tensor, check_bool, composable, elementwise, matmul, operand, value_of, wrap

__all__ = [
    "abs", "acos", "acosh", "all", "any", "arange", "arg_largest", "argmax", "argmin", "asin", "asinh", "atan",
    "atanh", "average_pool", "batch_norm", "bitwise_and", "bitwise_not", "bitwise_or", "bitwise_xor", "cast", "ceil",
    "clip", "concat", "conv", "conv_transpose", "cos", "cosh", "cumsum", "einsum", "elu", "equal", "erf", "exp",
    "expand", "exponential", "floor", "fmod", "gather_elements", "gather_nd", "gelu", "group_norm", "hard_sigmoid",
    "hard_sigmoid_keras2", "instance_norm", "isinf", "isnan", "layer_norm", "leaky_relu", "linear",
    "local_response_norm", "log", "logical_and", "logical_not", "logical_or", "logical_xor", "lp_normalize",
    "lp_pool", "matmul", "max", "max_pool", "max_pool_with_indices", "maximum", "mean", "min", "minimum", "mod",
    "not_equal", "one_hot", "ones_like", "pad", "prod", "relu", "relu6", "reshape", "reverse", "reverse_sequence",
    "rms_norm", "round", "scatter_elements", "scatter_nd", "selu", "shift_left", "shift_right", "sigmoid", "sign",
    "silu", "sin", "sinh", "size_of", "softmax", "softplus", "softsign", "split", "sqrt", "square", "sum", "take",
    "tan", "tanh", "tile", "top_k", "transpose", "trilu", "where", "zeros_like",
]

# --- elementwise --------------------------------------------------------------------------------------------


def tanh(x: Tensor) -> Tensor:
    return elementwise(ir_ops.TANH, x)


def sigmoid(x: Tensor) -> Tensor:
    return elementwise(ir_ops.SIGMOID, x)


def relu(x: Tensor) -> Tensor:
    return elementwise(ir_ops.RELU, x)


def exp(x: Tensor) -> Tensor:
    return elementwise(ir_ops.EXP, x)


def log(x: Tensor) -> Tensor:
    return elementwise(ir_ops.LOG, x)


def sqrt(x: Tensor) -> Tensor:
    return elementwise(ir_ops.SQRT, x)


def square(x: Tensor) -> Tensor:
    return x * x


def abs(x: Tensor) -> Tensor:
    return elementwise(ir_ops.ABS, x)


def sign(x: Tensor) -> Tensor:
    return elementwise(ir_ops.SIGN, x)


def floor(x: Tensor) -> Tensor:
    return elementwise(ir_ops.FLOOR, x)


def erf(x: Tensor) -> Tensor:
    return elementwise(ir_ops.ERF, x)


def minimum(a: Operand, b: Operand) -> Tensor:
    return elementwise(ir_ops.MIN, a, b)


def maximum(a: Operand, b: Operand) -> Tensor:
    return elementwise(ir_ops.MAX, a, b)


def clip(x: Tensor, low: float, high: float) -> Tensor:
    """x held within low..high."""
    return minimum(maximum(x, low), high)


def equal(a: Operand, b: Operand) -> Tensor:
    return elementwise(ir_ops.EQ, a, b)


def not_equal(a: Operand, b: Operand) -> Tensor:
    return elementwise(ir_ops.NE, a, b)


def logical_and(a: Operand, b: Operand) -> Tensor:
    return elementwise(ir_ops.AND, a, b)


def logical_or(a: Operand, b: Operand) -> Tensor:
    return elementwise(ir_ops.OR, a, b)


def logical_not(x: Tensor) -> Tensor:
    return elementwise(ir_ops.NOT, x)


@composable
def where(condition: Tensor, a: Operand, b: Operand) -> Tensor:
    """a where the bool ``condition`` holds, b elsewhere; the three broadcast."""
    if not isinstance(condition, Tensor):
        raise TraceError(f"where: expected a bool tensor as condition, got {condition!r}")
    check_bool("where", condition)
    values = [operand(a), operand(b)]
    if not [v for v in values if isinstance(v, Value)]:
        values[0] = value_of(values[0])
    return wrap(active().builder.elementwise(ir_ops.SELECT, condition.value(), *values))


@composable
def cast(x: Tensor, dtype: DType | str) -> Tensor:
    """x in another dtype: an IR dtype or its name ("f32", "i32", ...)."""
    return wrap(active().builder.cast(x.value(), _dtype("cast", dtype)))


def _dtype(op: str, dtype: DType | str) -> DType:
    if isinstance(dtype, str) and dtype not in DTYPES:
        raise TraceError(f"{op}: expected one of {', '.join(DTYPES)}, got {dtype!r}")
    return DTYPES[dtype] if isinstance(dtype, str) else dtype


@composable
def sequence_mask(lengths: Tensor, steps: Dim) -> Tensor:
    """bool[batch, steps], true at the first ``lengths`` (int [batch]) steps of each row (TensorFlow's sequence_mask).

    ``steps`` is a number or a dim such as ``x.shape[1]``. A recurrent layer that gets the mask runs with the lengths
    themselves; those that the model computes are first held within 0..steps.
    """
    if lengths.dtype.kind != "int" or lengths.rank != 1:
        raise TraceError(f"sequence_mask: expected lengths int[batch], got {lengths.type}")
    b, given = active().builder, lengths.value()
    shape = (*given.shape, steps)
    times = (b.const(np.arange(steps, dtype=given.type.dtype.numpy)) if isinstance(steps, int)
             else b.op(IOTA, attrs=IotaAttrs(dims.parse(steps), given.type.dtype)))
    mask = b.op(ir_ops.GT, b.broadcast(given, shape, (0,)), b.broadcast(times, shape, (1,)))
    active().mask_lengths[mask] = given if given.op is None else _held(given, steps)
    return wrap(mask)


def _held(lengths: Value, steps: Dim) -> Value:
    """Computed lengths within 0..steps, as a loop takes them."""
    b = active().builder
    wide = b.cast(lengths, I64 if lengths.type.dtype.itemsize > 4 else I32)
    most = b.op(SIZE, attrs=SizeAttrs(steps, wide.type.dtype))
    return b.elementwise(ir_ops.MAX, b.elementwise(ir_ops.MIN, wide, most), 0)


@composable
def zeros_like(x: Tensor) -> Tensor:
    return wrap(active().builder.zeros(x.type))


@composable
def ones_like(x: Tensor) -> Tensor:
    return wrap(active().builder.full(1, x.shape, x.dtype))


# --- activations --------------------------------------------------------------------------------------------


def linear(x: Tensor) -> Tensor:
    """x itself."""
    return x


def exponential(x: Tensor) -> Tensor:
    return exp(x)


def hard_sigmoid(x: Tensor) -> Tensor:
    """clip(x / 6 + 0.5, 0, 1), as in Keras 3 and PyTorch."""
    return clip(x * (1.0 / 6.0) + 0.5, 0.0, 1.0)


def hard_sigmoid_keras2(x: Tensor) -> Tensor:
    """clip(0.2 x + 0.5, 0, 1), as in Keras 2 and ONNX."""
    return clip(x * 0.2 + 0.5, 0.0, 1.0)


def relu6(x: Tensor) -> Tensor:
    return minimum(relu(x), 6.0)


def elu(x: Tensor, alpha: float = 1.0) -> Tensor:
    """x above 0, alpha (exp x - 1) below."""
    return relu(x) + alpha * (exp(minimum(x, 0.0)) - 1.0)


def selu(x: Tensor) -> Tensor:
    return 1.0507009873554805 * elu(x, 1.6732632423543772)


def softplus(x: Tensor) -> Tensor:
    """log(1 + exp x), without overflow."""
    return relu(x) + log(1.0 + exp(-abs(x)))


def softsign(x: Tensor) -> Tensor:
    return x / (1.0 + abs(x))


def leaky_relu(x: Tensor, negative_slope: float = 0.2) -> Tensor:
    return relu(x) + negative_slope * minimum(x, 0.0)


def gelu(x: Tensor) -> Tensor:
    """x times the normal distribution function at x, by erf (not the tanh approximation)."""
    return 0.5 * x * (1.0 + erf(x * (1.0 / math.sqrt(2.0))))


def silu(x: Tensor) -> Tensor:
    return x * sigmoid(x)


@composable
def softmax(x: Tensor, axis: int = -1) -> Tensor:
    """exp(x) over its sum along ``axis``, shifted by the maximum so that nothing overflows."""
    e = exp(x - max(x, axis, keepdims=True))
    return e / sum(e, axis, keepdims=True)


# --- shapes -------------------------------------------------------------------------------------------------


@composable
def concat(xs: Sequence[Tensor], axis: int = -1) -> Tensor:
    """Tensors joined along ``axis``, whose sizes add up: of [batch, time] and [batch, 2], [batch, time+2]."""
    if not xs:
        raise TraceError("concat: expected at least one tensor, got none")
    return wrap(active().builder.concat([value_of(x) for x in xs], _axis("concat", xs[0], axis)))


@composable
def split(x: Tensor, parts: int | Sequence[Dim], axis: int = -1) -> tuple[Tensor, ...]:
    """Equal parts, or parts of the given sizes (numbers or dims), along ``axis``."""
    axis = _axis("split", x, axis)
    b, v = active().builder, x.value()
    if isinstance(parts, int):
        return tuple(wrap(p) for p in b.split(v, parts, axis))
    parts = [dims.parse(p) for p in parts]
    if dims.add(*parts) != v.shape[axis]:
        raise TraceError(f"split: sizes {list(parts)} do not add up to axis {axis} of {x.type}")
    starts = [dims.add(*parts[:i]) for i in range(len(parts))]
    return tuple(wrap(b.slice(v, axis, start, size)) for start, size in zip(starts, parts, strict=True))


@composable
def reshape(x: Tensor, shape: Shape) -> Tensor:
    """x in another shape of as many elements, one dim of which may be -1: what is left. Dims may be computed sizes.

    Raises ShapeError where the sizes differ, or where -1 is not known to be a whole number.

    >>> from rnngraph.nn import Input, ops
    >>> x = Input(("batch", "time", 64))
    >>> ops.reshape(x, ("batch*time", 64)).shape, ops.reshape(x, ("batch", -1, 32)).shape
    (('batch*time', 64), ('batch', '2*time', 32))
    """
    wanted = [dims.parse(d) for d in shape]
    if -1 in wanted:
        rest = dims.mul(*(d for i, d in enumerate(wanted) if i != wanted.index(-1)))
        wanted[wanted.index(-1)] = dims.floordiv(dims.mul(*x.shape), rest)
    return wrap(active().builder.reshape(x.value(), tuple(wanted)))


def arange(size: Dim, dtype: DType | str = "i32") -> Tensor:
    """dtype[size]: 0, 1, .. size-1, the numbers of the steps where ``size`` is the time of an input.

    Within a layer or a function of a model, not while composing one. InputError, in a call, where they do not fit the
    dtype.

    >>> import numpy as np, rnngraph as rg
    >>> class Countdown(rg.nn.Layer):
    ...     def call(self, x):
    ...         return rg.nn.ops.size_of(x.shape[1], "f32") - rg.nn.ops.arange(x.shape[1], "f32")
    >>> rg.compile(Countdown(), rg.Input(("batch", "time", 1)))(np.zeros((1, 3, 1), np.float32))
    array([3., 2., 1.], dtype=float32)
    """
    attrs = IotaAttrs(dims.parse(size), _dtype("arange", dtype))
    return wrap(active().builder.op(IOTA, attrs=attrs))


def size_of(dim: Dim, dtype: DType | str = "i32") -> Tensor:
    """dtype[]: the size that a dim has in a call, as a number to compute with; see `arange`."""
    attrs = SizeAttrs(dims.parse(dim), _dtype("size_of", dtype))
    return wrap(active().builder.op(SIZE, attrs=attrs))


@composable
def transpose(x: Tensor, perm: Sequence[int]) -> Tensor:
    return wrap(active().builder.transpose(x.value(), perm))


@composable
def reverse(x: Tensor, axis: int) -> Tensor:
    return wrap(active().builder.reverse(x.value(), _axis("reverse", x, axis)))


@composable
def argmax(x: Tensor, axis: int = -1, dtype: DType | str = "i32") -> Tensor:
    """Where along ``axis`` (of integer size) the largest element stands, the first of equals; numpy's argmax.

    ``dtype="f32"`` keeps the index a float, which a natively compiled loop can carry on. In a row with NaN the index is
    some one of the row.
    """
    axis = _axis("argmax", x, axis)
    size = x.shape[axis]
    if not isinstance(size, int) or size < 1:
        raise TraceError(f"argmax: axis {axis} must have an integer size >= 1, got {x.type}")
    places = _places(size, x.rank - 1 - axis)
    found = where(x == max(x, axis, keepdims=True), places + zeros_like(x), float(size - 1))
    return cast(min(found, axis), dtype)


@composable
def one_hot(indices: Tensor, depth: int) -> Tensor:
    """f32[..., depth]: 1 at the index, 0 elsewhere; all 0 for an index outside of 0..depth-1. Indices may be floats."""
    if not isinstance(depth, int) or isinstance(depth, bool) or depth < 1:
        raise TraceError(f"one_hot: depth must be a number >= 1, got {depth!r}")
    wide = reshape(cast(indices, "f32"), (*indices.shape, 1))
    return where(wide == _places(depth, 0), 1.0, 0.0)


def _places(size: int, behind: int) -> Tensor:
    """0, 1, ... along the first of 1 + ``behind`` axes."""
    return wrap(active().builder.const(np.arange(size, dtype=np.float32).reshape(size, *[1] * behind), hint="places"))


def _axis(op: str, x: Tensor, axis: int) -> int:
    if not -x.rank <= axis < x.rank:
        raise TraceError(f"{op}: axis {axis} does not fit {x.type} of rank {x.rank}")
    return axis % x.rank
