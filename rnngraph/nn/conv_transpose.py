"""Transposed convolution, composed of zeros between the elements and a convolution; part of `rnngraph.nn.ops`."""

from __future__ import annotations

from rnngraph.errors import ShapeError
from rnngraph.ir import dims
from rnngraph.nn.context import active
from rnngraph.nn.convolution import Padding, Sizes, conv, pads, sizes
from rnngraph.nn.padding import pad
from rnngraph.nn.tensor import Tensor, composable, wrap


@composable
def conv_transpose(x: Tensor, kernel: Tensor, *, strides: Sizes = 1, padding: Padding = "valid",
                   output_padding: Sizes = 0, dilation: Sizes = 1, groups: int = 1) -> Tensor:
    """The transpose of a convolution over the spatial dims of x ("deconvolution").

    x               [batch, ..., *spatial dims, channels], float; spatial dims may be symbolic
    kernel          [*size, channels / groups, filters], integers; the element at place t of the size is what an input
                    adds to the output t * dilation behind the place where it stands
    strides         the distance of the inputs' places in the output
    padding         how much of the output is cut off: "valid" (none), "same" (the size is stride * n), a number, a
                    number per spatial dim, or a pair (in front, behind) per spatial dim
    output_padding  what the output is longer behind
    dilation, groups  as of `conv`

    Returns [batch, ..., stride * (n - 1) + dilation * (size - 1) + 1 - padding + output_padding, filters].

    >>> from rnngraph.nn import Input, ops
    >>> ops.conv_transpose(Input(("batch", "time", 4)), Input((3, 4, 8), name="k"), strides=2).shape
    ('batch', '2*time+1', 8)
    """
    n = kernel.rank - 2
    size = [d for d in kernel.shape[:n] if isinstance(d, int)]
    if n < 1 or x.rank < n + 2 or len(size) < n:
        raise ShapeError("conv_transpose: expected x [batch, *spatial dims, channels] and a kernel [*size, channels, "
                         f"filters] of integers, got {x.type} and {kernel.type}")
    step, distance = sizes("conv_transpose", "strides", strides, n), sizes("conv_transpose", "dilation", dilation, n)
    behind = sizes("conv_transpose", "output_padding", output_padding, n, 0)
    reach = [d * (k - 1) for d, k in zip(distance, size, strict=True)]
    if isinstance(padding, str) and padding.lower() == "same":
        total = [max(r + 1 - s, 0) for r, s in zip(reach, step, strict=True)]
        low, high = tuple(t // 2 for t in total), tuple(t - t // 2 for t in total)
        behind = tuple(max(s - r - 1, 0) + b for s, r, b in zip(step, reach, behind, strict=True))
    else:
        low, high = pads("conv_transpose", padding, [1] * n, size, step, distance)
    lead = x.rank - n - 1
    stuffed = _stuffed(x, lead, step)
    front = [r - lo for r, lo in zip(reach, low, strict=True)]
    back = [r - hi + b - (s - 1) for r, hi, b, s in zip(reach, high, behind, step, strict=True)]
    around = pad(stuffed, [0] * lead + front + [0], [0] * lead + back + [0])
    b, flipped = active().builder, kernel.value()
    for axis in range(n):
        flipped = b.reverse(flipped, axis)
    return conv(around, wrap(flipped), padding="valid", dilation=distance, groups=groups)


def _stuffed(x: Tensor, lead: int, strides: tuple[int, ...]) -> Tensor:
    """stride - 1 zeros behind every element of the spatial dims."""
    b, out = active().builder, x.value()
    for axis, s in enumerate(strides, lead):
        if s == 1:
            continue
        wide = b.reshape(out, (*out.shape[: axis + 1], 1, *out.shape[axis + 1 :]))
        rest = out.type.rank - axis - 1
        apart = pad(wrap(wide), [0] * wide.type.rank, [0] * (axis + 1) + [s - 1] + [0] * rest).value()
        out = b.reshape(apart, (*out.shape[:axis], dims.mul(s, out.shape[axis]), *out.shape[axis + 1 :]))
    return wrap(out)


__all__ = ["conv_transpose"]
