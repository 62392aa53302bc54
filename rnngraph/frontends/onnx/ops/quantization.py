"""Quantized ops, decoded: float arithmetic that rounds where the integers would."""

from __future__ import annotations

from rnngraph.errors import ImportModelError
from rnngraph.frontends.axes import axis_of
from rnngraph.frontends.onnx.ops.arithmetic import dtype_of_code
from rnngraph.frontends.onnx.proto import Node
from rnngraph.frontends.onnx.registry import handler
from rnngraph.frontends.onnx.whole import whole_conv, whole_product
from rnngraph.ir import DTYPES, F32, F64, Dim, DType, dims
from rnngraph.nn import ops
from rnngraph.nn.tensor import Tensor

U8 = DTYPES["u8"]


def _beside(node: Node, v: Tensor, x: Tensor) -> Tensor:
    """A scale or zero point as it broadcasts to x: one for all, one for each place of an axis, or one for a block."""
    if v.rank == 0 or v.shape == (1,):
        return ops.reshape(v, ())
    axis = axis_of(node, node.attr("axis", 1), x.rank)
    if v.rank == 1:
        return ops.reshape(v, (v.shape[0], *[1] * (x.rank - 1 - axis)))
    block = node.attr("block_size", 0)
    if v.rank != x.rank or block < 1:
        raise ImportModelError(f"{node}: expected one scale, one for each place of axis {axis}, or blocks, got "
                               f"{v.type}")
    count: Dim = v.shape[axis]
    wide = ops.reshape(v, (*v.shape[:axis], count, 1, *v.shape[axis + 1 :]))
    each = ops.expand(wide, (*v.shape[:axis], count, block, *v.shape[axis + 1 :]))
    whole = ops.reshape(each, (*v.shape[:axis], dims.mul(count, block), *v.shape[axis + 1 :]))
    more = dims.sub(dims.mul(count, block), x.shape[axis])
    return ops.pad(whole, [0] * x.rank, [dims.sub(0, more) if i == axis else 0 for i in range(x.rank)])


def rounded(x: Tensor, zero: Tensor | float, dtype: DType) -> Tensor:
    """round(x) + zero held within the dtype's range, as that dtype; halves go to the even neighbour."""
    bits = 8 * dtype.itemsize
    low, high = (0, 2**bits - 1) if dtype.name.startswith("u") else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    return ops.cast(ops.clip(ops.round(x) + zero, float(low), float(high)), dtype)


@handler("QuantizeLinear")
def quantize_linear(node: Node, x: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
    """saturate(round(x / scale) + zero), of the zero point's dtype, that of output_dtype, or u8."""
    code = node.attr("output_dtype", 0)
    dtype = zero.dtype if zero is not None else dtype_of_code(node, code) if code else U8
    if dtype.kind != "int" or dtype.itemsize > 2:
        raise ImportModelError(f"{node}: expected u8, i8, u16 or i16, got {dtype}")
    precision = node.attr("precision", 0)
    wide = dtype_of_code(node, precision) if precision else F32 if x.dtype.itemsize < 4 or x.dtype.kind == "int" \
        else scale.dtype if scale.dtype.itemsize >= 4 else x.dtype
    quotient = ops.cast(x, wide) / _beside(node, ops.cast(scale, wide), x)
    return rounded(ops.cast(quotient, F32), 0.0 if zero is None else _beside(node, ops.cast(zero, F32), x), dtype)


@handler("DequantizeLinear")
def dequantize_linear(node: Node, x: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
    """(x - zero) * scale, of the scale's dtype or that of output_dtype."""
    code = node.attr("output_dtype", 0)
    dtype = dtype_of_code(node, code) if code else scale.dtype
    between = F32 if x.dtype.itemsize <= 2 else "i32"  # in which the difference is exact
    apart = ops.cast(x, between)
    if zero is not None:
        apart = apart - _beside(node, ops.cast(zero, between), x)
    wide = F32 if dtype.itemsize < 4 else dtype
    return ops.cast(ops.cast(apart, wide) * _beside(node, ops.cast(scale, wide), x), dtype)


@handler("DynamicQuantizeLinear")
def dynamic_quantize_linear(node: Node, x: Tensor) -> tuple[Tensor, ...]:
    return dynamically(x)


def dynamically(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """x as u8 with the scale and the zero point that its range gives; the range holds 0."""
    scale, zero = range_of(x)
    return rounded(x / scale, zero, U8), scale, ops.cast(zero, U8)


def range_of(x: Tensor, axes: int | None = None) -> tuple[Tensor, Tensor]:
    """The scale, and the zero point as a float, with which 8 bits hold the range of x and 0; of all of it, or along
    an axis, which then has size 1."""
    if axes is None:
        x = ops.reshape(x, (1, -1)) if x.rank < 2 else x
        least, most = ops.min(ops.min(x, -1)), ops.max(ops.max(x, -1))  # along rows first: that is done natively
    else:
        least, most = ops.min(x, axes, keepdims=True), ops.max(x, axes, keepdims=True)
    low = ops.minimum(least, 0.0)
    spread = ops.maximum(most, 0.0) - low
    scale = ops.where(ops.equal(spread, 0.0), 1.0, spread / 255.0)
    return scale, ops.clip(ops.round(0.0 - low / scale), 0.0, 255.0)


@handler("QLinearMatMul")
def q_linear_matmul(node: Node, a: Tensor, a_scale: Tensor, a_zero: Tensor, b: Tensor, b_scale: Tensor,
                    b_zero: Tensor, y_scale: Tensor, y_zero: Tensor) -> Tensor:
    out = ops.cast(whole_product(node, a, a_zero, b, b_zero), F64)
    by = _across(a_scale, a, row=True) * _across(b_scale, b, row=False) / _across(y_scale, a, row=True)
    return rounded(out * by, _across(y_zero, a, row=True), y_zero.dtype)


def _across(v: Tensor, x: Tensor, *, row: bool) -> Tensor:
    """A scale (or zero point) as f64: one for all, or one for each row of x, or column."""
    wide = ops.cast(v, F64)
    if v.rank == 0 or v.shape == (1,):
        return ops.reshape(wide, ())
    return ops.reshape(wide, (*v.shape, 1)) if v.rank == 1 and row and x.rank > 1 else wide


@handler("QLinearConv")
def q_linear_conv(node: Node, x: Tensor, x_scale: Tensor, x_zero: Tensor, w: Tensor, w_scale: Tensor, w_zero: Tensor,
                  y_scale: Tensor, y_zero: Tensor, bias: Tensor | None = None) -> Tensor:
    """Scales and zero points of the weights may be one for each filter; the bias counts in x_scale * w_scale."""
    out = ops.cast(whole_conv(node, x, x_zero, w, w_zero), F64)
    if bias is not None:
        out = out + ops.reshape(ops.cast(bias, F64), (*bias.shape, *[1] * (x.rank - 2)))
    by = ops.cast(x_scale, F64) * ops.cast(w_scale, F64) / ops.cast(y_scale, F64)
    per = ops.reshape(by, (by.shape[0], *[1] * (x.rank - 2))) if by.rank == 1 and by.shape != (1,) else \
        ops.reshape(by, ())
    return rounded(out * per, ops.reshape(ops.cast(y_zero, F64), ()), y_zero.dtype)


@handler("ConvInteger")
def conv_integer(node: Node, x: Tensor, w: Tensor, x_zero: Tensor | None = None,
                 w_zero: Tensor | None = None) -> Tensor:
    return whole_conv(node, x, x_zero, w, w_zero)


@handler("MatMulInteger")
def matmul_integer(node: Node, a: Tensor, b: Tensor, a_zero: Tensor | None = None,
                   b_zero: Tensor | None = None) -> Tensor:
    return whole_product(node, a, a_zero, b, b_zero)
