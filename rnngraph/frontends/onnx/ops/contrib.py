"""ONNX Runtime's own ops (domain com.microsoft): fused products and convolutions, quantized arithmetic, GELUs."""

from __future__ import annotations

from collections.abc import Callable

from rnngraph.errors import ImportModelError
from rnngraph.frontends.onnx.broadcasting import common_shape
from rnngraph.frontends.onnx.ops.activations import tanh_gelu
from rnngraph.frontends.onnx.ops.convolution import convolved
from rnngraph.frontends.onnx.ops.matrices import gemm, product, scaled
from rnngraph.frontends.onnx.ops.quantization import dequantize_linear, dynamically, quantize_linear, rounded
from rnngraph.frontends.onnx.proto import Node
from rnngraph.frontends.onnx.registry import handler
from rnngraph.frontends.onnx.whole import whole_product
from rnngraph.ir import F32, F64
from rnngraph.nn import ops
from rnngraph.nn.tensor import Tensor

MS = "com.microsoft"
handler("QuantizeLinear", domain=MS)(quantize_linear)
handler("DequantizeLinear", domain=MS)(dequantize_linear)


# --- fused ops ----------------------------------------------------------------------------------------------------


def _activated(node: Node, x: Tensor, parameters: list[float]) -> Tensor:
    """The attribute ``activation`` with its parameters, alpha first; none leaves x as it is."""
    name = node.attr("activation", "")
    first, second = (*parameters, None, None)[:2]
    table: dict[str, Callable[[], Tensor]] = {
        "": lambda: x, "Relu": lambda: ops.relu(x), "Tanh": lambda: ops.tanh(x), "Sigmoid": lambda: ops.sigmoid(x),
        "LeakyRelu": lambda: ops.leaky_relu(x, 0.01 if first is None else first),
        "Clip": lambda: ops.clip(x, -3.4028235e38 if first is None else first,
                                 3.4028235e38 if second is None else second),
        "HardSigmoid": lambda: ops.clip(x * (0.2 if first is None else first) + (0.5 if second is None else second),
                                        0.0, 1.0),
    }
    if name not in table:
        raise ImportModelError(f"{node}: activation must be one of {', '.join(n for n in table if n)}, got {name!r}")
    return table[name]()


@handler("FusedMatMul", "TransposeMatMul", domain=MS)
def fused_matmul(node: Node, a: Tensor, b: Tensor) -> Tensor:
    """alpha A' B', where ' turns the last two axes."""
    if node.attr("transBatchA", 0) or node.attr("transBatchB", 0):
        raise ImportModelError(f"{node}: transBatchA and transBatchB are not supported")
    a, b = (_turned(x) if node.attr(name, 0) else x for x, name in ((a, "transA"), (b, "transB")))
    return scaled(product(node, a, b), node.attr("alpha", 1.0))


def _turned(x: Tensor) -> Tensor:
    return x if x.rank < 2 else ops.transpose(x, (*range(x.rank - 2), x.rank - 1, x.rank - 2))


@handler("FusedGemm", domain=MS)
def fused_gemm(node: Node, a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
    given = [node.attributes[n] for n in ("activation_alpha", "activation_beta") if n in node.attributes]
    return _activated(node, gemm(node, a, b, c), given)


@handler("FusedConv", domain=MS)
def fused_conv(node: Node, x: Tensor, w: Tensor, b: Tensor | None = None, z: Tensor | None = None) -> Tensor:
    out = convolved(node, x, w, b)
    return _activated(node, out if z is None else out + z, list(node.attributes.get("activation_params", [])))


@handler("Gelu", domain=MS)
def gelu(node: Node, x: Tensor) -> Tensor:
    return ops.gelu(x)


@handler("BiasGelu", domain=MS)
def bias_gelu(node: Node, x: Tensor, bias: Tensor) -> Tensor:
    return ops.gelu(x + bias)


@handler("FastGelu", domain=MS)
def fast_gelu(node: Node, x: Tensor, bias: Tensor | None = None) -> Tensor:
    return tanh_gelu(x if bias is None else x + bias)


@handler("QuickGelu", domain=MS)
def quick_gelu(node: Node, x: Tensor) -> Tensor:
    return x * ops.sigmoid(x * node.attr("alpha", 1.702))


@handler("SkipLayerNormalization", domain=MS)
def skip_layer_norm(node: Node, x: Tensor, skip: Tensor, gamma: Tensor, beta: Tensor | None = None,
                    bias: Tensor | None = None) -> tuple[Tensor | None, ...]:
    """The normalized sum of x, skip and bias; the sum is the fourth output."""
    total = x + skip
    total = total if bias is None else total + bias
    out = ops.layer_norm(total, gamma, beta, epsilon=node.attr("epsilon", 1e-12))
    if any(node.outputs[1:3]):
        raise ImportModelError(f"{node}: the mean and the deviation as outputs are not supported")
    return out, None, None, total


# --- quantized ops ------------------------------------------------------------------------------------------------


@handler("MatMulIntegerToFloat", domain=MS)
def matmul_integer_to_float(node: Node, a: Tensor, b: Tensor, a_scale: Tensor, b_scale: Tensor,
                            a_zero: Tensor | None = None, b_zero: Tensor | None = None,
                            bias: Tensor | None = None) -> Tensor:
    """(A - a_zero) (B - b_zero), exact, times the scales; plus the bias."""
    return _to_float(node, a, b, a_scale, b_scale, a_zero, b_zero, bias)


def _to_float(node: Node, a: Tensor, b: Tensor, a_scale: Tensor, b_scale: Tensor, a_zero: Tensor | None,
              b_zero: Tensor | None, bias: Tensor | None) -> Tensor:
    out = ops.cast(whole_product(node, a, a_zero, b, b_zero), F32) * (_one(a_scale) * _one(b_scale))
    return out if bias is None else out + bias


@handler("DynamicQuantizeMatMul", domain=MS)
def dynamic_quantize_matmul(node: Node, a: Tensor, b: Tensor, b_scale: Tensor, b_zero: Tensor | None = None,
                            bias: Tensor | None = None) -> Tensor:
    """A is quantized by its own range, as by DynamicQuantizeLinear."""
    whole, scale, zero = dynamically(a)
    return _to_float(node, whole, b, scale, b_scale, zero, b_zero, bias)


def _one(v: Tensor) -> Tensor:
    return ops.reshape(v, ()) if v.shape == (1,) else v


def _decoded(x: Tensor, scale: Tensor, zero: Tensor | None) -> Tensor:
    wide = ops.cast(x, F32)
    return (wide if zero is None else wide - ops.cast(_one(zero), F32)) * _one(scale)


def _encoded(x: Tensor, scale: Tensor, zero: Tensor | None, like: Tensor) -> Tensor:
    dtype = like.dtype if zero is None else zero.dtype
    return rounded(x / _one(scale), 0.0 if zero is None else ops.cast(_one(zero), F32), dtype)


@handler("QLinearAdd", "QLinearMul", domain=MS)
def q_linear_binary(node: Node, a: Tensor, a_scale: Tensor, a_zero: Tensor | None, b: Tensor, b_scale: Tensor,
                    b_zero: Tensor | None, y_scale: Tensor, y_zero: Tensor | None = None) -> Tensor:
    common_shape(node, [a.shape, b.shape])
    x, y = _decoded(a, a_scale, a_zero), _decoded(b, b_scale, b_zero)
    return _encoded(x + y if node.op_type == "QLinearAdd" else x * y, y_scale, y_zero, a)


@handler("QLinearSigmoid", "QLinearLeakyRelu", domain=MS)
def q_linear_unary(node: Node, x: Tensor, x_scale: Tensor, x_zero: Tensor | None, y_scale: Tensor,
                   y_zero: Tensor | None = None) -> Tensor:
    wide = _decoded(x, x_scale, x_zero)
    leaky = node.op_type == "QLinearLeakyRelu"
    out = ops.leaky_relu(wide, node.attr("alpha", 0.01)) if leaky else ops.sigmoid(wide)
    return _encoded(out, y_scale, y_zero, x)


@handler("QLinearConcat", domain=MS)
def q_linear_concat(node: Node, y_scale: Tensor, y_zero: Tensor, *parts: Tensor) -> Tensor:
    """``parts``: a tensor, its scale and its zero point, and again."""
    if not parts or len(parts) % 3:
        raise ImportModelError(f"{node}: expected each tensor with its scale and zero point, got {len(parts)} inputs")
    wide = [_decoded(*parts[i : i + 3]) for i in range(0, len(parts), 3)]
    return _encoded(ops.concat(wide, node.attr("axis", 0)), y_scale, y_zero, parts[0])


@handler("QGemm", domain=MS)
def q_gemm(node: Node, a: Tensor, a_scale: Tensor, a_zero: Tensor, b: Tensor, b_scale: Tensor, b_zero: Tensor,
           c: Tensor | None = None, y_scale: Tensor | None = None, y_zero: Tensor | None = None) -> Tensor:
    """alpha A' B' + C, where C counts in the product of the scales; floats without y_scale."""
    a, b = (_turned(x) if node.attr(name, 0) else x for x, name in ((a, "transA"), (b, "transB")))
    whole = ops.cast(whole_product(node, a, a_zero, b, b_zero), F64) * node.attr("alpha", 1.0)
    by = ops.cast(_one(a_scale), F64) * ops.cast(_one(b_scale), F64)
    out = (whole if c is None else whole + ops.cast(c, F64)) * by
    if y_scale is None or y_zero is None:
        return ops.cast(out, F32)
    return rounded(out / ops.cast(_one(y_scale), F64), ops.cast(_one(y_zero), F64), y_zero.dtype)
