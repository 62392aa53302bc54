"""Convolutional cells as tf.contrib and MXNet define them, with their arguments and weight layouts."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rnngraph.errors import ShapeError, TraceError
from rnngraph.ir.grid_ops import ConvAttrs, conv_sizes
from rnngraph.nn import ops
from rnngraph.nn.activations import Activation, to_activation
from rnngraph.nn.cells.conv import ImageCell
from rnngraph.nn.cells.gated import plus
from rnngraph.nn.convolution import Sizes, sizes
from rnngraph.nn.initializers import Initializer, IntShape
from rnngraph.nn.tensor import Tensor


class ContribConvLSTMCell(ImageCell):
    """tf.contrib.rnn.ConvLSTMCell (TensorFlow 1): gates i, j, f, o of one convolution of [x, h]; states c and h.

    conv_ndims       spatial dims: 1, 2 or 3
    input_shape      the size of a step's input without the batch, channels last; None (default) takes the input's
    output_channels  channels of the states
    kernel_shape     a number or one per spatial dim; padding is "same", the stride 1
    use_bias         a bias [4 * output_channels] (default True)
    skip_connection  the output is [h', x] (default False). The state is h' alone: TensorFlow's own puts the longer
                     output into the state, which has no place for it after the first step
    forget_bias      added to the forget gate in every step (default 1.0), not part of the weights

    c' = sigmoid(f + forget_bias) c + sigmoid(i) tanh(j); h' = tanh(c') sigmoid(o). Weights: kernel [*kernel_shape,
    channels + output_channels, 4 * output_channels], biases. Raises ShapeError where input_shape does not fit.
    """

    state_names = ("c", "h")

    def __init__(self, conv_ndims: int, input_shape: Sequence[int] | None, output_channels: int, kernel_shape: Sizes,
                 use_bias: bool = True, skip_connection: bool = False, forget_bias: float = 1.0) -> None:
        super().__init__()
        self.set_dims(conv_ndims, output_channels, "output_channels")
        self.declare(input_shape)
        self.kernel_shape = sizes(self.label, "kernel_shape", kernel_shape, conv_ndims)
        self.use_bias, self.skip_connection, self.forget_bias = use_bias, skip_connection, float(forget_bias)

    def build(self, input_size: IntShape) -> None:
        self.set_state_shape(input_size)
        self.channels = input_size[-1]
        self.kernel = self.add_weight("kernel", (*self.kernel_shape, self.channels + self.filters, 4 * self.filters))
        if self.use_bias:
            self.bias = self.add_weight("biases", (4 * self.filters,), "zeros")

    def step(self, x: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        i, j, f, o = (self.gate(k, x, state["h"]) for k in range(4))
        c = ops.sigmoid(f + self.forget_bias) * state["c"] + ops.sigmoid(i) * ops.tanh(j)
        h = ops.tanh(c) * ops.sigmoid(o)
        return (ops.concat([h, x]) if self.skip_connection else h), {"c": c, "h": h}

    def gate(self, k: int, x: Tensor, h: Tensor) -> Tensor:
        """The convolution of [x, h] for the k-th gate: the kernel's input channels are x's, then h's."""
        own = slice(k * self.filters, (k + 1) * self.filters)
        taps = (slice(None),) * self.rank
        of_x = self.kernel.part(f"kernel_x{k}", *taps, slice(0, self.channels), own)
        of_h = self.kernel.part(f"kernel_h{k}", *taps, slice(self.channels, None), own)
        bias = self.bias.part(f"biases_{k}", own) if self.use_bias else None
        return plus(ops.conv(x, of_x), bias) + ops.conv(h, of_h)


class MXNetConvCell(ImageCell):
    """What MXNet's convolutional cells share (mxnet.rnn.ConvRNNCell and its kin, MXNet 1.x).

    input_shape   the size of a step's input in the layout's order, with or without the batch; None takes the input's
    num_hidden    channels of the states
    h2h_kernel, h2h_dilate                     of the state's convolution, whose padding keeps the size; odd sizes
    i2h_kernel, i2h_stride, i2h_pad, i2h_dilate  of the input's; a number or one per spatial dim
    activation    a name or function; the default is MXNet's, leaky ReLU of slope 0.2
    conv_layout   "NCHW" (default), "NHWC", "NCW", "NWC", "NCDHW", "NDHWC"; weights follow it: [G * num_hidden,
                  channels, *kernel], or channels last

    Weights: i2h_weight, h2h_weight, i2h_bias, h2h_bias [G * num_hidden], gates in MXNet's order.
    """

    gates = 1

    def __init__(self, input_shape: Sequence[int] | None, num_hidden: int, h2h_kernel: Sizes = 3, h2h_dilate: Sizes = 1,
                 i2h_kernel: Sizes = 3, i2h_stride: Sizes = 1, i2h_pad: Sizes = 1, i2h_dilate: Sizes = 1,
                 i2h_weight_initializer: str | Initializer = "glorot_uniform",
                 h2h_weight_initializer: str | Initializer = "glorot_uniform",
                 i2h_bias_initializer: str | Initializer = "zeros", h2h_bias_initializer: str | Initializer = "zeros",
                 activation: str | Activation | None = "leaky", conv_layout: str = "NCHW") -> None:
        super().__init__()
        if conv_layout not in LAYOUTS:
            raise TraceError(f"{self.label}: conv_layout must be one of {', '.join(LAYOUTS)}, got {conv_layout!r}")
        n = len(conv_layout) - 2
        self.set_dims(n, num_hidden, "num_hidden")
        self.channels_first = conv_layout[1] == "C"
        self.i2h_kernel, self.h2h_kernel = (sizes(self.label, name, k, n) for name, k
                                            in (("i2h_kernel", i2h_kernel), ("h2h_kernel", h2h_kernel)))
        if any(k % 2 == 0 for k in self.h2h_kernel):
            raise TraceError(f"{self.label}: h2h_kernel must be odd, got {h2h_kernel!r}")
        self.i2h_stride, self.i2h_dilate, self.h2h_dilate = (
            sizes(self.label, name, v, n) for name, v
            in (("i2h_stride", i2h_stride), ("i2h_dilate", i2h_dilate), ("h2h_dilate", h2h_dilate)))
        self.i2h_pad = sizes(self.label, "i2h_pad", i2h_pad, n, 0)
        self.initializers = (i2h_weight_initializer, h2h_weight_initializer, i2h_bias_initializer, h2h_bias_initializer)
        self.activation = mxnet_activation(activation)
        self.declare(input_shape[1:] if input_shape is not None and len(input_shape) == n + 2 else input_shape)

    def output_dims(self, spatial: IntShape) -> IntShape:
        attrs = ConvAttrs(self.i2h_stride, self.i2h_pad, self.i2h_pad, self.i2h_dilate)
        out = tuple(d for d in conv_sizes(spatial, self.i2h_kernel, attrs) if isinstance(d, int))
        if min(out) < 1:
            raise ShapeError(f"{self.label}: i2h_kernel {self.i2h_kernel} is larger than the padded input's "
                             f"{list(spatial)}")
        return out

    def build(self, input_size: IntShape) -> None:
        self.set_state_shape(input_size)
        channels = self.input_dims(input_size)[1]
        total = self.gates * self.filters
        i2h, h2h, i2h_bias, h2h_bias = self.initializers
        self.i2h_weight = self.add_weight("i2h_weight", self.weight_shape(total, channels, self.i2h_kernel), i2h)
        self.h2h_weight = self.add_weight("h2h_weight", self.weight_shape(total, self.filters, self.h2h_kernel), h2h)
        self.i2h_bias = self.add_weight("i2h_bias", (total,), i2h_bias)
        self.h2h_bias = self.add_weight("h2h_bias", (total,), h2h_bias)

    def weight_shape(self, total: int, channels: int, kernel: IntShape) -> IntShape:
        return (total, channels, *kernel) if self.channels_first else (total, *kernel, channels)

    def of_input(self, x: Tensor, k: int) -> Tensor:
        """The k-th gate's convolution of the input (channels last), with its bias."""
        own = self.own(k)
        pairs = [(p, p) for p in self.i2h_pad]
        return ops.conv(x, self.kernel(self.i2h_weight.part(f"i2h_weight_{k}", own)), strides=self.i2h_stride,
                        padding=pairs, dilation=self.i2h_dilate) + self.i2h_bias.part(f"i2h_bias_{k}", own)

    def of_state(self, h: Tensor, k: int) -> Tensor:
        """The k-th gate's convolution of the state (channels last), with its bias."""
        own = self.own(k)
        return ops.conv(h, self.kernel(self.h2h_weight.part(f"h2h_weight_{k}", own)), dilation=self.h2h_dilate) \
            + self.h2h_bias.part(f"h2h_bias_{k}", own)

    def own(self, k: int) -> slice:
        return slice(k * self.filters, (k + 1) * self.filters)

    def kernel(self, weight: Tensor) -> Tensor:
        """[filters, channels, *size] or [filters, *size, channels] -> [*size, channels, filters]"""
        last = weight.rank - 1
        return ops.transpose(weight, (*range(2, last + 1), 1, 0) if self.channels_first else (*range(1, last + 1), 0))


class MXNetConvRNNCell(MXNetConvCell):
    """mxnet.rnn.ConvRNNCell: h' = activation(x * W + b + h * R + b'); the output is h'. See `MXNetConvCell`."""

    def step(self, x: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        x, h = self.last(x), self.last(state["h"])
        new = self.outer(self.activation(self.of_input(x, 0) + self.of_state(h, 0)))
        return new, {"h": new}


class MXNetConvLSTMCell(MXNetConvCell):
    """mxnet.rnn.ConvLSTMCell: gates i, f, c, o by sigmoid, ``activation`` for c and for the output. See
    `MXNetConvCell`."""

    gates = 4
    state_names = ("h", "c")

    def step(self, x: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        x, h, c = self.last(x), self.last(state["h"]), self.last(state["c"])
        i, f, g, o = (self.of_input(x, k) + self.of_state(h, k) for k in range(4))
        c = ops.sigmoid(f) * c + ops.sigmoid(i) * self.activation(g)
        h = self.outer(ops.sigmoid(o) * self.activation(c))
        return h, {"h": h, "c": self.outer(c)}


class MXNetConvGRUCell(MXNetConvCell):
    """mxnet.rnn.ConvGRUCell: gates r, z, o; n = activation(x_o + r h_o), h' = (1 - z) n + z h. See `MXNetConvCell`."""

    gates = 3

    def step(self, x: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        x, h = self.last(x), self.last(state["h"])
        r, z = (ops.sigmoid(self.of_input(x, k) + self.of_state(h, k)) for k in range(2))
        n = self.activation(self.of_input(x, 2) + r * self.of_state(h, 2))
        new = self.outer((1.0 - z) * n + z * h)
        return new, {"h": new}


class GluonArguments(MXNetConvCell):
    """The arguments and defaults of gluon.contrib: tanh, no padding of the input, kernels must be given."""

    def __init__(self, input_shape: Sequence[int] | None, hidden_channels: int, i2h_kernel: Sizes, h2h_kernel: Sizes,
                 i2h_pad: Sizes = 0, i2h_dilate: Sizes = 1, h2h_dilate: Sizes = 1, conv_layout: str = "NCHW",
                 activation: str | Activation | None = "tanh") -> None:
        super().__init__(input_shape, hidden_channels, h2h_kernel, h2h_dilate, i2h_kernel, 1, i2h_pad, i2h_dilate,
                         activation=activation, conv_layout=conv_layout)


class GluonConvRNNCell(GluonArguments, MXNetConvRNNCell):
    """gluon.contrib.rnn.Conv1DRNNCell, Conv2DRNNCell, Conv3DRNNCell: `MXNetConvRNNCell` with Gluon's arguments and
    defaults; as many dims as conv_layout has (default "NCHW")."""


class GluonConvLSTMCell(GluonArguments, MXNetConvLSTMCell):
    """gluon.contrib.rnn.Conv1DLSTMCell, Conv2DLSTMCell, Conv3DLSTMCell; see `GluonConvRNNCell`."""


class GluonConvGRUCell(GluonArguments, MXNetConvGRUCell):
    """gluon.contrib.rnn.Conv1DGRUCell, Conv2DGRUCell, Conv3DGRUCell; see `GluonConvRNNCell`."""


LAYOUTS = ("NCW", "NWC", "NCHW", "NHWC", "NCDHW", "NDHWC")
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"leaky": ops.leaky_relu, "softrelu": ops.softplus}


def mxnet_activation(which: str | Activation | None) -> Activation:
    """An activation by MXNet's names: "leaky" (slope 0.2, `symbol.LeakyReLU`), "softrelu", and those of Keras."""
    return ACTIVATIONS.get(which) or to_activation(which) if isinstance(which, str) else to_activation(which)

