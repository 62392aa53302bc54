"""com.microsoft.DynamicQuantizeLSTM: 8-bit weights, decoded, and activations that are rounded as ONNX Runtime does.

x is quantised as a whole, each row of h in every step by itself, with the scale and zero point that its range gives,
as DynamicQuantizeLinear has it. What follows is float arithmetic on the rounded values. These are the numbers of ONNX
Runtime for one row, and for more where it has a thread for each: with fewer, the rows of a thread share one range.
Where the CPU has no instruction for u8 by i8, it also holds sums of two products within 16 bits, which weights beyond
+-64 may exceed.
"""

from __future__ import annotations

from rnngraph.errors import ImportModelError
from rnngraph.frontends.onnx.cells import OnnxLSTM
from rnngraph.frontends.onnx.ops.quantization import range_of
from rnngraph.frontends.onnx.ops.recurrent import lstm_of
from rnngraph.frontends.onnx.proto import Node
from rnngraph.frontends.onnx.registry import handler
from rnngraph.ir import Shape
from rnngraph.nn import ops
from rnngraph.nn.tensor import Tensor


class QuantizedLSTM(OnnxLSTM):
    """An LSTM whose recurrent product sees each row of h as 8 bits can hold it."""

    def step(self, x: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        return super().step(x, {**state, "h": through_8_bits(state["h"], -1)})


@handler("DynamicQuantizeLSTM", domain="com.microsoft")
def dynamic_quantize_lstm(node: Node, x: Tensor, w: Tensor, r: Tensor, b: Tensor | None, lengths: Tensor | None,
                          h0: Tensor | None, c0: Tensor | None, p: Tensor | None, w_scale: Tensor, w_zero: Tensor,
                          r_scale: Tensor, r_zero: Tensor) -> tuple[Tensor, ...]:
    """W is [D, I, 4H] and R [D, H, 4H] of 8 bits; scales and zero points are [D], or [D, 4H]."""
    wide = decoded(node, "W", w, w_scale, w_zero), decoded(node, "R", r, r_scale, r_zero)
    return lstm_of(node, QuantizedLSTM, through_8_bits(x), *wide, b, lengths, h0, c0, p)


def decoded(node: Node, name: str, q: Tensor, scale: Tensor, zero: Tensor) -> Tensor:
    """(q - zero) * scale in ONNX's layout, [D, 4H, ...]."""
    if q.rank != 3 or q.dtype.kind != "int" or q.dtype.itemsize != 1:
        raise ImportModelError(f"{node}: expected {name} of 8 bits and rank 3, got {q.type}")
    whole = ops.cast(q, "f32") - _beside(node, name, q, ops.cast(zero, "f32"))
    return ops.transpose(whole * _beside(node, name, q, scale), (0, 2, 1))


def _beside(node: Node, name: str, q: Tensor, v: Tensor) -> Tensor:
    directions, _, columns = q.shape
    shapes: dict[Shape, Shape] = {(directions,): (directions, 1, 1), (directions, columns): (directions, 1, columns)}
    if v.shape not in shapes:
        raise ImportModelError(f"{node}: expected a scale and a zero point of {name} of shape {[directions]} or "
                               f"{[directions, columns]}, got {v.type}")
    return ops.reshape(v, shapes[v.shape])


def through_8_bits(x: Tensor, axis: int | None = None) -> Tensor:
    """What is left of x in 8 bits with one scale, or one for each row along ``axis``."""
    scale, zero = range_of(x, axis)
    return (ops.clip(ops.round(x / scale) + zero, 0.0, 255.0) - zero) * scale
