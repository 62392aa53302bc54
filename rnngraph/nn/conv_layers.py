"""Convolutions as layers, with Keras's arguments: plain, separable, depthwise and transposed ones, in 1 to 3 dims."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from rnngraph.errors import ShapeError, TraceError
from rnngraph.ir import Dim
from rnngraph.nn import ops
from rnngraph.nn.activations import Activation, to_activation
from rnngraph.nn.channels import channels_first, channels_last
from rnngraph.nn.convolution import Sizes, sizes
from rnngraph.nn.initializers import Initializer
from rnngraph.nn.layer import Layer
from rnngraph.nn.tensor import Tensor

PADDINGS = ("valid", "same", "causal")


class SpatialLayer(Layer):
    """Base of the layers that work on [batch, *spatial dims, channels].

    data_format  "channels_last" (default) or "channels_first": [batch, channels, *spatial dims]
    """

    dims: ClassVar[int]

    def __init__(self, data_format: str | None = None, name: str | None = None) -> None:
        super().__init__(name)
        if data_format not in (None, "channels_last", "channels_first"):
            raise TraceError(f"layer {self.path!r}: data_format must be 'channels_last' or 'channels_first', got "
                             f"{data_format!r}")
        self.channels_first = data_format == "channels_first"

    def default_name(self) -> str:
        """Keras's: conv1d, max_pooling2d."""
        return super().default_name().replace("_1_d", "1d").replace("_2_d", "2d").replace("_3_d", "3d")

    def channels(self, shape: tuple[Dim, ...]) -> int:
        """The number of channels of an input of this shape; ShapeError unless it is known."""
        if len(shape) != self.dims + 2:
            raise ShapeError(f"expected [batch, {self.dims} spatial dim(s), channels], got {list(shape)}")
        size = shape[1 if self.channels_first else -1]
        if not isinstance(size, int):
            raise ShapeError(f"expected an integer number of channels, got {list(shape)}")
        return size

    def check(self, x: Tensor) -> None:
        """ShapeError unless x has the rank."""
        if x.rank != self.dims + 2:
            raise ShapeError(f"expected [batch, {self.dims} spatial dim(s), channels], got {x.type}")


class ChannelsLastLayer(SpatialLayer, ABC):
    """A spatial layer that computes with the channels last; those that come first are turned around it."""

    def call(self, x: Tensor) -> Tensor:
        self.check(x)
        if not self.channels_first:
            return self.compute(x)
        return channels_first(self.compute(channels_last(x)))

    @abstractmethod
    def compute(self, x: Tensor) -> Tensor:
        """The output for channels last."""


class ConvLayer(ChannelsLastLayer):
    """What the convolutions share: sizes, padding, activation, bias."""

    paddings: ClassVar[tuple[str, ...]] = PADDINGS[:2]

    def __init__(self, kernel_size: Sizes, strides: Sizes, padding: str, data_format: str | None, dilation_rate: Sizes,
                 activation: str | Activation | None, use_bias: bool, bias_initializer: str | Initializer,
                 name: str | None) -> None:
        super().__init__(data_format, name)
        where = f"layer {self.path!r}"
        self.kernel_size = sizes(where, "kernel_size", kernel_size, self.dims)
        self.strides = sizes(where, "strides", strides, self.dims)
        self.dilation_rate = sizes(where, "dilation_rate", dilation_rate, self.dims)
        if not isinstance(padding, str) or padding.lower() not in self.paddings:
            raise TraceError(f"{where}: padding must be one of {', '.join(self.paddings)}, got {padding!r}")
        self.padding = padding.lower()
        self.activation = to_activation(activation)
        self.use_bias = use_bias
        self.bias_initializer = bias_initializer

    def add_bias(self, size: int) -> None:
        """The bias, one number a channel of the output, where the layer has one."""
        if self.use_bias:
            self.add_weight("bias", (size,), self.bias_initializer)

    def finish(self, y: Tensor) -> Tensor:
        """With the bias and the activation."""
        return self.activation(y + self._weights["bias"] if self.use_bias else y)

    def convolved(self, x: Tensor, kernel: Tensor, groups: int = 1) -> Tensor:
        """x * kernel with this layer's strides, dilation and padding; "causal" pads in front alone."""
        if self.padding == "causal":
            x = ops.pad(x, (0, self.dilation_rate[0] * (self.kernel_size[0] - 1), 0), (0, 0, 0))
        return ops.conv(x, kernel, strides=self.strides, dilation=self.dilation_rate, groups=groups,
                        padding="valid" if self.padding == "causal" else self.padding)


class _Conv(ConvLayer):
    def __init__(self, filters: int, kernel_size: Sizes, strides: Sizes = 1, padding: str = "valid",
                 data_format: str | None = None, dilation_rate: Sizes = 1, groups: int = 1,
                 activation: str | Activation | None = None, use_bias: bool = True,
                 kernel_initializer: str | Initializer = "glorot_uniform",
                 bias_initializer: str | Initializer = "zeros", name: str | None = None) -> None:
        super().__init__(kernel_size, strides, padding, data_format, dilation_rate, activation, use_bias,
                         bias_initializer, name)
        self.filters = filters
        self.groups = groups
        self.kernel_initializer = kernel_initializer

    def setup(self, shape: tuple[Dim, ...]) -> None:
        channels = self.channels(shape)
        if channels % self.groups or self.filters % self.groups:
            raise ShapeError(f"{channels} channels and {self.filters} filters do not fall into {self.groups} groups")
        self.kernel = self.add_weight("kernel", (*self.kernel_size, channels // self.groups, self.filters),
                                      self.kernel_initializer)
        self.add_bias(self.filters)

    def compute(self, x: Tensor) -> Tensor:
        return self.finish(self.convolved(x, self.kernel, self.groups))


class Conv1D(_Conv):
    """activation(x * kernel + bias) over time: [batch, steps, channels] -> [batch, steps', filters] (Keras's Conv1D).

    filters, kernel_size  channels of the output, size of the kernel
    strides, dilation_rate, groups  see `nn.ops.conv`
    padding               "valid" (default), "same", or "causal": a step sees none behind it
    data_format           "channels_last" (default) or "channels_first"

    Weights: kernel [size, channels / groups, filters], bias [filters]. Steps may be symbolic. Raises TraceError for
    arguments out of their range, ShapeError for inputs that do not fit.

    Example:
        >>> from rnngraph.nn import Conv1D, Input, trace
        >>> trace(Conv1D(16, 3, padding="causal"), Input(("batch", "time", 8))).outputs[0].shape
        ('batch', 'time', 16)
    """

    dims = 1
    paddings = PADDINGS


class Conv2D(_Conv):
    """activation(x * kernel + bias) over images [batch, rows, columns, channels]; see `Conv1D` (Keras's Conv2D)."""

    dims = 2


class Conv3D(_Conv):
    """activation(x * kernel + bias) over volumes [batch, depth, rows, columns, channels]; see `Conv1D`."""

    dims = 3


class _DepthwiseConv(ConvLayer):
    def __init__(self, kernel_size: Sizes, strides: Sizes = 1, padding: str = "valid", depth_multiplier: int = 1,
                 data_format: str | None = None, dilation_rate: Sizes = 1, activation: str | Activation | None = None,
                 use_bias: bool = True, depthwise_initializer: str | Initializer = "glorot_uniform",
                 bias_initializer: str | Initializer = "zeros", name: str | None = None) -> None:
        super().__init__(kernel_size, strides, padding, data_format, dilation_rate, activation, use_bias,
                         bias_initializer, name)
        self.depth_multiplier = depth_multiplier
        self.depthwise_initializer = depthwise_initializer

    def setup(self, shape: tuple[Dim, ...]) -> None:
        channels = self.channels(shape)
        self.kernel = self.add_weight("kernel", (*self.kernel_size, channels, self.depth_multiplier),
                                      self.depthwise_initializer)
        self.add_bias(channels * self.depth_multiplier)

    def compute(self, x: Tensor) -> Tensor:
        return self.finish(_depthwise(self, x, self.kernel))


class DepthwiseConv1D(_DepthwiseConv):
    """Each channel convolved by itself, to ``depth_multiplier`` channels (Keras's DepthwiseConv1D).

    Weights: kernel [size, channels, depth_multiplier], bias [channels * depth_multiplier]; see `Conv1D`.
    """

    dims = 1


class DepthwiseConv2D(_DepthwiseConv):
    """Each channel convolved by itself, to ``depth_multiplier`` channels; see `DepthwiseConv1D`."""

    dims = 2


class _SeparableConv(ConvLayer):
    def __init__(self, filters: int, kernel_size: Sizes, strides: Sizes = 1, padding: str = "valid",
                 data_format: str | None = None, dilation_rate: Sizes = 1, depth_multiplier: int = 1,
                 activation: str | Activation | None = None, use_bias: bool = True,
                 depthwise_initializer: str | Initializer = "glorot_uniform",
                 pointwise_initializer: str | Initializer = "glorot_uniform",
                 bias_initializer: str | Initializer = "zeros", name: str | None = None) -> None:
        super().__init__(kernel_size, strides, padding, data_format, dilation_rate, activation, use_bias,
                         bias_initializer, name)
        self.filters = filters
        self.depth_multiplier = depth_multiplier
        self.initializers = (depthwise_initializer, pointwise_initializer)

    def setup(self, shape: tuple[Dim, ...]) -> None:
        channels = self.channels(shape)
        self.depthwise = self.add_weight("depthwise_kernel", (*self.kernel_size, channels, self.depth_multiplier),
                                         self.initializers[0])
        self.pointwise = self.add_weight("pointwise_kernel",
                                         (*[1] * self.dims, channels * self.depth_multiplier, self.filters),
                                         self.initializers[1])
        self.add_bias(self.filters)

    def compute(self, x: Tensor) -> Tensor:
        y = _depthwise(self, x, self.depthwise)
        return self.finish(y @ ops.reshape(self.pointwise, self.pointwise.shape[-2:]))


class SeparableConv1D(_SeparableConv):
    """A depthwise convolution, then a matmul of the channels (Keras's SeparableConv1D).

    Weights: depthwise_kernel [size, channels, depth_multiplier], pointwise_kernel [1, channels * depth_multiplier,
    filters], bias [filters]; see `Conv1D`.
    """

    dims = 1
    paddings = PADDINGS


class SeparableConv2D(_SeparableConv):
    """A depthwise convolution, then a matmul of the channels; see `SeparableConv1D`."""

    dims = 2


def _depthwise(layer: ConvLayer, x: Tensor, kernel: Tensor) -> Tensor:
    channels, multiplier = (int(d) for d in kernel.shape[-2:])
    flat = ops.reshape(kernel, (*kernel.shape[:-2], 1, channels * multiplier))
    return layer.convolved(x, flat, groups=channels)


class _ConvTranspose(ConvLayer):
    def __init__(self, filters: int, kernel_size: Sizes, strides: Sizes = 1, padding: str = "valid",
                 output_padding: Sizes | None = None, data_format: str | None = None, dilation_rate: Sizes = 1,
                 activation: str | Activation | None = None, use_bias: bool = True,
                 kernel_initializer: str | Initializer = "glorot_uniform",
                 bias_initializer: str | Initializer = "zeros", name: str | None = None) -> None:
        super().__init__(kernel_size, strides, padding, data_format, dilation_rate, activation, use_bias,
                         bias_initializer, name)
        self.filters = filters
        self.kernel_initializer = kernel_initializer
        given = None if output_padding is None else sizes(f"layer {self.path!r}", "output_padding", output_padding,
                                                          self.dims, 0)
        self.pads = [_cut(self.padding, d * (k - 1) + 1, s, None if given is None else given[i])
                     for i, (k, s, d) in enumerate(zip(self.kernel_size, self.strides, self.dilation_rate,
                                                       strict=True))]

    def setup(self, shape: tuple[Dim, ...]) -> None:
        self.kernel = self.add_weight("kernel", (*self.kernel_size, self.filters, self.channels(shape)),
                                      self.kernel_initializer)
        self.add_bias(self.filters)

    def compute(self, x: Tensor) -> Tensor:
        kernel = ops.transpose(self.kernel, (*range(self.dims), self.dims + 1, self.dims))
        y = ops.conv_transpose(x, kernel, strides=self.strides, dilation=self.dilation_rate,
                               padding=[(low, high) for low, high, _ in self.pads],
                               output_padding=[more for _, _, more in self.pads])
        return self.finish(y)


def _cut(padding: str, window: int, stride: int, output_padding: int | None) -> tuple[int, int, int]:
    """What is cut off in front and behind of (n - 1) * stride + window elements, and what is added behind.

    As in TensorFlow: with "same" and no output_padding n * stride are left, an odd element being cut behind.
    """
    if padding == "valid":
        return 0, 0, max(window, stride) - window if output_padding is None else output_padding
    total = window - stride if output_padding is None else 2 * (window // 2) - output_padding
    cut = max(total, 0)
    return cut // 2, cut - cut // 2, max(-total, 0)


class Conv1DTranspose(_ConvTranspose):
    """The transpose of a convolution over time: [batch, steps, channels] -> [batch, stride * steps, filters] with
    padding="same" (Keras's Conv1DTranspose).

    Weights: kernel [size, filters, channels], bias [filters]. ``output_padding``: how much longer the output is behind;
    None (default) has n * stride steps with "same", at least (n - 1) * stride + size with "valid". See `Conv1D`.

    Example:
        >>> from rnngraph.nn import Conv1DTranspose, Input, trace
        >>> trace(Conv1DTranspose(4, 3, strides=2, padding="same"), Input(("batch", "time", 8))).outputs[0].shape
        ('batch', '2*time', 4)
    """

    dims = 1


class Conv2DTranspose(_ConvTranspose):
    """The transpose of a convolution over images; see `Conv1DTranspose`."""

    dims = 2


class Conv3DTranspose(_ConvTranspose):
    """The transpose of a convolution over volumes; see `Conv1DTranspose`."""

    dims = 3


__all__ = ["ChannelsLastLayer", "Conv1D", "Conv1DTranspose", "Conv2D", "Conv2DTranspose", "Conv3D", "Conv3DTranspose",
           "DepthwiseConv1D", "DepthwiseConv2D", "SeparableConv1D", "SeparableConv2D", "SpatialLayer"]
