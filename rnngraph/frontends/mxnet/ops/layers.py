"""FullyConnected, activations, softmax, Dropout, Embedding."""

from __future__ import annotations

from rnngraph.errors import ImportModelError
from rnngraph.frontends.imported import NeedsSize
from rnngraph.frontends.mxnet.ops.unary import FUNCTIONS
from rnngraph.frontends.mxnet.registry import handler
from rnngraph.frontends.mxnet.symbol import Node
from rnngraph.ir import DTYPES, Dim, DType, dims
from rnngraph.ir import ops as ir_ops
from rnngraph.nn import ops
from rnngraph.nn.context import active
from rnngraph.nn.tensor import Tensor, wrap

ACTIVATIONS = ("relu", "sigmoid", "tanh", "softrelu", "softsign", "log_sigmoid", "mish")
SLOPES = ("leaky", "elu", "prelu", "selu", "gelu", "gelu_tanh", "rrelu")
_DTYPES = {"float32": "f32", "float64": "f64", "float16": "f16", "bfloat16": "bf16", "uint8": "u8", "int8": "i8",
           "int32": "i32", "int64": "i64", "bool": "bool"}


def dtype_attr(node: Node, default: str = "float32") -> DType:
    """The attribute dtype, as a dtype of the IR."""
    name = node.attrs.text("dtype", default)
    if name not in _DTYPES:
        raise ImportModelError(f"{node}: dtype must be one of {', '.join(_DTYPES)}, got {name!r}")
    return DTYPES[_DTYPES[name]]


@handler("FullyConnected")
def fully_connected(node: Node, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x W' + b; with ``flatten`` on all axes but the first together."""
    if node.attrs.flag("flatten", True) and x.rank != 2:
        if x.rank < 1:
            raise ImportModelError(f"{node}: expected at least one axis, got {x.type}")
        x = ops.reshape(x, (x.shape[0], dims.mul(*x.shape[1:])))
    if isinstance(x.shape[-1], str):
        raise NeedsSize(sorted(dims.symbols_of(x.shape[-1])), f"{node} takes {x.shape[-1]} features")
    units = node.attrs.integer("num_hidden")
    if weight.shape != (units, x.shape[-1]):
        raise ImportModelError(f"{node}: a weight of {weight.type} does not fit {units} units on {x.type}")
    out = ops.matmul(x, ops.transpose(weight, (1, 0)))
    return out if bias is None or node.attrs.flag("no_bias") else out + bias


@handler("Activation")
def activation(node: Node, x: Tensor) -> Tensor:
    return FUNCTIONS[node.attrs.choice("act_type", "", ACTIVATIONS)](x)


def _leaky_names(node: Node) -> tuple[str, ...]:
    return ("output", "mask") if node.attrs.text("act_type", "leaky") == "rrelu" else ("output",)


@handler("LeakyReLU", outputs=_leaky_names)
def leaky_relu(node: Node, x: Tensor, gamma: Tensor | None = None) -> Tensor | tuple[Tensor, Tensor]:
    kind, slope = node.attrs.choice("act_type", "leaky", SLOPES), node.attrs.number("slope", 0.25)
    if kind == "prelu":
        if gamma is None:
            raise ImportModelError(f"{node}: act_type prelu needs a gamma")
        wide = gamma if gamma.rank != 1 or gamma.shape == (1,) or x.rank < 2 else ops.reshape(
            gamma, (gamma.shape[0], *[1] * (x.rank - 2)))
        return ops.relu(x) + wide * ops.minimum(x, 0.0)
    if kind == "rrelu":  # the mean of its slopes, as MXNet at inference
        slope = (node.attrs.number("lower_bound", 0.125) + node.attrs.number("upper_bound", 0.334)) / 2
        return ops.leaky_relu(x, slope), ops.zeros_like(x)
    if kind == "leaky":
        return ops.leaky_relu(x, slope)
    if kind == "elu":
        return ops.elu(x, slope)
    if kind == "gelu_tanh":
        return 0.5 * x * (1.0 + ops.tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)))
    return ops.selu(x) if kind == "selu" else ops.gelu(x)


@handler("softmax", "softmin")
def softmax(node: Node, x: Tensor, length: Tensor | None = None) -> Tensor:
    axis = node.attrs.integer("axis", -1)
    x = _tempered(node, -x if node.op == "softmin" else x)
    if length is None or not node.attrs.flag("use_length"):
        return ops.softmax(x, axis)
    axis %= x.rank
    inside = _within(x, length, axis)
    out = ops.softmax(ops.where(inside, x, float("-inf")), axis)
    return ops.where(inside, out, 0.0)


@handler("log_softmax")
def log_softmax(node: Node, x: Tensor) -> Tensor:
    return log_of_softmax(_tempered(node, x), node.attrs.integer("axis", -1))


def log_of_softmax(x: Tensor, axis: int) -> Tensor:
    shifted = x - ops.max(x, axis, keepdims=True)
    return shifted - ops.log(ops.sum(ops.exp(shifted), axis, keepdims=True))


def _tempered(node: Node, x: Tensor) -> Tensor:
    return x / node.attrs.number("temperature") if node.attrs.given("temperature") else x


def _within(x: Tensor, length: Tensor, axis: int) -> Tensor:
    """bool: places along ``axis`` before the length, which has x's shape without the axis."""
    places = ops.reshape(ops.arange(x.shape[axis], "f32"), (x.shape[axis], *[1] * (x.rank - 1 - axis)))
    wide = ops.reshape(length, (*length.shape[:axis], 1, *length.shape[axis:]))
    return places < ops.cast(wide, "f32")


@handler("SoftmaxActivation")
def softmax_activation(node: Node, x: Tensor) -> Tensor:
    """Over the channels, axis 1, or over the last axis."""
    return ops.softmax(x, 1 if node.attrs.choice("mode", "instance", ("instance", "channel")) == "channel" else -1)


def flat_softmax(x: Tensor) -> Tensor:
    """Over all axes but the first together."""
    if x.rank <= 2:
        return ops.softmax(x, -1)
    flat = ops.softmax(ops.reshape(x, (x.shape[0], dims.mul(*x.shape[1:]))), -1)
    return ops.reshape(flat, x.shape)


@handler("Dropout", uses=1)
def dropout(node: Node, x: Tensor) -> Tensor:
    """x itself, as at inference; unless its mode is always."""
    if node.attrs.text("mode", "training") == "always" and node.attrs.number("p", 0.5) > 0:
        raise ImportModelError(f"{node}: mode always draws random numbers at inference too, which is not supported")
    return x


@handler("Embedding")
def embedding(node: Node, index: Tensor, weight: Tensor) -> Tensor:
    """Rows of the weight; an index beyond its ends takes the first or the last row."""
    if weight.rank != 2:
        raise ImportModelError(f"{node}: expected a weight [words, features], got {weight.type}")
    rows = clipped(index, weight.shape[0])
    return wrap(active().builder.op(ir_ops.GATHER, weight.value(), rows.value()))


def clipped(index: Tensor, size: Dim) -> Tensor:
    """An index as i32, held within an axis; it may come as floats."""
    if isinstance(size, str):
        whole = ops.cast(index, "i32")
        return ops.maximum(ops.minimum(whole, ops.cast(ops.size_of(size), "i32") - 1), 0)
    # held as floats where it comes as such: a cast of a float beyond the integers has no meaning
    return ops.cast(ops.clip(index, 0, size - 1), "i32")
