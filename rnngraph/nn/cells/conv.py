"""Convolutional recurrent cells with Keras's arguments and weight layout: ConvLSTM (Shi et al. 2015), ConvRNN, ConvGRU.

A step's input is an image [batch, *spatial dims, channels] (or channels first), a state an image with ``filters``
channels. Weights: kernel [*kernel_size, channels, G * filters], recurrent_kernel [*kernel_size, filters, G * filters],
bias [G * filters].
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rnngraph.errors import ShapeError, TraceError
from rnngraph.ir.grid_ops import ConvAttrs, conv_sizes
from rnngraph.nn import ops
from rnngraph.nn.activations import Activation, to_activation
from rnngraph.nn.cell import Cell
from rnngraph.nn.cells.gated import check_rate, gate_parts, masked, plus
from rnngraph.nn.channels import channels_first, channels_last
from rnngraph.nn.convolution import Sizes, pads, sizes
from rnngraph.nn.initializers import Initializer, IntShape, UnitForgetBias, to_initializer
from rnngraph.nn.tensor import Tensor
from rnngraph.nn.weights import WeightPart

MAX_DIMS = 3


class ImageCell(Cell):
    """A cell whose states are images of one shape. ``channels_first``: inputs, states and outputs are [batch, channels,
    *spatial dims]; the cell computes on channels last."""

    state_names: tuple[str, ...] = ("h",)
    channels_first: bool = False
    input_shape: IntShape | None = None  # of a step without the batch, where it was declared
    state_shape: IntShape | None = None

    def set_dims(self, rank: int, filters: int, what: str) -> None:
        """How many spatial dims there are, and how many channels a state has."""
        if isinstance(rank, bool) or not isinstance(rank, int) or not 1 <= rank <= MAX_DIMS:
            raise ShapeError(f"{self.label}: expected 1, 2 or 3 spatial dims, got {rank!r}")
        if isinstance(filters, bool) or not isinstance(filters, int) or filters < 1:
            raise ShapeError(f"{self.label}: {what} must be an int >= 1, got {filters!r}")
        self.rank, self.filters, self.input_rank = rank, filters, rank + 1

    def declare(self, shape: Sequence[int] | None) -> None:
        """Take the size of a step's input, where it is given; states are then known before the cell is built."""
        if shape is None:
            return
        if len(shape) != self.rank + 1 or not all(isinstance(d, int) and d >= 1 for d in shape):
            raise ShapeError(f"{self.label}: input_shape must be {self.rank + 1} ints >= 1, got {list(shape)}")
        self.input_shape = tuple(shape)
        self.set_state_shape(self.input_shape)

    def set_state_shape(self, input_shape: IntShape) -> None:
        """The size of the states for inputs of this size; ShapeError for another one than was declared."""
        if self.input_shape not in (None, input_shape):
            raise ShapeError(f"{self.label}: input_shape is {list(self.input_shape or ())}, got a step's input of "
                             f"{list(input_shape)}")
        spatial = self.output_dims(self.input_dims(input_shape)[0])
        self.state_shape = (self.filters, *spatial) if self.channels_first else (*spatial, self.filters)

    def output_dims(self, spatial: IntShape) -> IntShape:
        """The spatial dims of the states."""
        return spatial

    @property
    def state_size(self) -> dict[str, IntShape]:
        if self.state_shape is None:
            raise TraceError(f"{self.label}: the size of its states follows from its input, which it has not seen; "
                             "give input_shape= to ask for it before, as stacks and some wrappers of cells do")
        return {name: self.state_shape for name in self.state_names}

    @property
    def output_shape(self) -> IntShape:
        spatial, _ = self.input_dims(self.states.shapes[0])
        return (self.output_size, *spatial) if self.channels_first else (*spatial, self.output_size)

    @property
    def output_size(self) -> int:
        return self.filters

    @property
    def state_info(self) -> list[dict[str, Any]]:
        dims = "DHW"[MAX_DIMS - self.rank :]
        layout = f"NC{dims}" if self.channels_first else f"N{dims}C"
        return [info | {"layout": layout} for info in super().state_info]

    def input_dims(self, shape: IntShape) -> tuple[IntShape, int]:
        """Spatial dims and channels of a step's input."""
        return (shape[1:], shape[0]) if self.channels_first else (shape[:-1], shape[-1])

    def last(self, x: Tensor) -> Tensor:
        """What the cell computes on: channels last."""
        return channels_last(x) if self.channels_first else x

    def outer(self, x: Tensor) -> Tensor:
        """What a step returns: in the layout that was asked for."""
        return channels_first(x) if self.channels_first else x


class ConvCell(ImageCell):
    """What the cells in Keras's manner share.

    rank           spatial dims: 1, 2 or 3
    filters        channels of the states and the output
    kernel_size    a number or one per spatial dim, for the input's and the state's convolution
    strides, padding ("valid", "same"), dilation_rate   of the input's convolution; the state's is "same"
    data_format    "channels_last" (default) or "channels_first"
    input_shape    the size of a step's input without the batch; None (default) takes that of the first input. Stacks
                   (`StackedCells`) ask a cell for its states before it has seen one

    Raises TraceError and ShapeError for arguments that make no sense; strides and dilation above 1 exclude each other.
    """

    gate_names = "h"

    def __init__(self, rank: int, filters: int, kernel_size: Sizes, strides: Sizes = 1, padding: str = "valid",
                 data_format: str | None = None, dilation_rate: Sizes = 1, activation: str | Activation | None = "tanh",
                 use_bias: bool = True, kernel_initializer: str | Initializer = "glorot_uniform",
                 recurrent_initializer: str | Initializer = "orthogonal",
                 bias_initializer: str | Initializer = "zeros", dropout: float = 0.0,
                 recurrent_dropout: float = 0.0, input_shape: Sequence[int] | None = None) -> None:
        super().__init__()
        self.set_dims(rank, filters, "filters")
        self.kernel_size = sizes(self.label, "kernel_size", kernel_size, rank)
        self.strides = sizes(self.label, "strides", strides, rank)
        self.dilation_rate = sizes(self.label, "dilation_rate", dilation_rate, rank)
        if max(self.strides) > 1 and max(self.dilation_rate) > 1:
            raise TraceError(f"{self.label}: strides {self.strides} and dilation_rate {self.dilation_rate} cannot both "
                             "be above 1")
        if not isinstance(padding, str) or padding.lower() not in ("valid", "same"):
            raise TraceError(f"{self.label}: padding must be 'valid' or 'same', got {padding!r}")
        if data_format not in (None, "channels_last", "channels_first"):
            raise TraceError(f"{self.label}: data_format must be 'channels_last' or 'channels_first', got "
                             f"{data_format!r}")
        self.padding, self.channels_first = padding.lower(), data_format == "channels_first"
        self.activation, self.use_bias = to_activation(activation), use_bias
        self.initializers = (to_initializer(kernel_initializer), to_initializer(recurrent_initializer),
                             to_initializer(bias_initializer))
        self.dropout = check_rate(self.label, "dropout", dropout)
        self.recurrent_dropout = check_rate(self.label, "recurrent_dropout", recurrent_dropout)
        self.declare(input_shape)

    def output_dims(self, spatial: IntShape) -> IntShape:
        low, high = pads(self.label, self.padding, spatial, self.kernel_size, self.strides, self.dilation_rate)
        attrs = ConvAttrs(self.strides, low, high, self.dilation_rate)
        out = tuple(d for d in conv_sizes(spatial, self.kernel_size, attrs) if isinstance(d, int))
        if min(out) < 1:
            raise ShapeError(f"{self.label}: a kernel of size {list(self.kernel_size)} with dilation "
                             f"{list(self.dilation_rate)} is larger than the input's {list(spatial)}")
        return out

    def build(self, input_size: IntShape) -> None:
        self.set_state_shape(input_size)
        channels = self.input_dims(input_size)[1]
        filters = len(self.gate_names) * self.filters
        kernel_init, recurrent_init, bias_init = self.initializers
        self.kernel = self.add_weight("kernel", (*self.kernel_size, channels, filters), kernel_init)
        self.recurrent_kernel = self.add_weight("recurrent_kernel", (*self.kernel_size, self.filters, filters),
                                                recurrent_init)
        if self.use_bias:
            self.bias = self.add_weight("bias", self.bias_shape(), bias_init)

    def bias_shape(self) -> IntShape:
        return (len(self.gate_names) * self.filters,)

    def of_input(self, x: Tensor, row: int | None = None) -> list[Tensor]:
        """The convolution of the input (channels last) for each gate, with the bias; dropout masks one per gate."""
        biases: Sequence[WeightPart | None] = (gate_parts(self.bias, self.gate_names, row) if self.use_bias
                                               else [None] * len(self.gate_names))
        return [plus(ops.conv(masked(x, f"input_{g}", self.dropout), w, strides=self.strides, padding=self.padding,
                              dilation=self.dilation_rate), b)
                for g, w, b in zip(self.gate_names, self.kernel.gates(self.gate_names), biases, strict=True)]

    def of_state(self, h: Tensor, gate: str) -> Tensor:
        """The convolution of a state (channels last) for one gate."""
        w = self.recurrent_kernel.gates(self.gate_names)[self.gate_names.index(gate)]
        return ops.conv(masked(h, f"recurrent_{gate}", self.recurrent_dropout), w)


class ConvRNNCell(ConvCell):
    """h' = activation(x * W + b + h * R) with convolutions for products; the output is h'. See `ConvCell`."""

    def step(self, x: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        x, h = self.last(x), self.last(state["h"])
        new = self.outer(self.activation(self.of_input(x)[0] + self.of_state(h, "h")))
        return new, {"h": new}


class ConvLSTMCell(ConvCell):
    """The cell of Keras's ConvLSTM1D, 2D and 3D (Shi et al. 2015, without peepholes): gates i, f, c, o; states h and c.

    i, f, o = recurrent_activation(x * W + b + h * R); c' = f c + i activation(x * W_c + b_c + h * R_c);
    h' = o activation(c'). Arguments as in Keras, defaults too; see `ConvCell`. The cells of that name of tf.contrib and
    of MXNet are `ContribConvLSTMCell` and `MXNetConvLSTMCell`.

    Example:
        >>> from rnngraph.nn import RNN, ConvLSTMCell, Input, trace
        >>> layer = RNN(ConvLSTMCell(2, 16, 3, padding="same"), return_sequences=True)
        >>> trace(layer, Input(("batch", "time", 8, 8, 3))).outputs[0].shape
        ('batch', 'time', 8, 8, 16)
    """

    gate_names = "ifco"
    state_names = ("h", "c")

    def __init__(self, rank: int, filters: int, kernel_size: Sizes, strides: Sizes = 1, padding: str = "valid",
                 data_format: str | None = None, dilation_rate: Sizes = 1, activation: str | Activation | None = "tanh",
                 recurrent_activation: str | Activation | None = "sigmoid", use_bias: bool = True,
                 kernel_initializer: str | Initializer = "glorot_uniform",
                 recurrent_initializer: str | Initializer = "orthogonal",
                 bias_initializer: str | Initializer = "zeros", unit_forget_bias: bool = True,
                 dropout: float = 0.0, recurrent_dropout: float = 0.0,
                 input_shape: Sequence[int] | None = None) -> None:
        base = UnitForgetBias(to_initializer(bias_initializer)) if unit_forget_bias else bias_initializer
        super().__init__(rank, filters, kernel_size, strides, padding, data_format, dilation_rate, activation, use_bias,
                         kernel_initializer, recurrent_initializer, base, dropout, recurrent_dropout, input_shape)
        self.recurrent_activation = to_activation(recurrent_activation)

    def step(self, x: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        x, h, c = self.last(x), self.last(state["h"]), self.last(state["c"])
        i, f, g, o = (xs + self.of_state(h, gate) for xs, gate in zip(self.of_input(x), "ifco", strict=True))
        c = self.recurrent_activation(f) * c + self.recurrent_activation(i) * self.activation(g)
        h = self.outer(self.recurrent_activation(o) * self.activation(c))
        return h, {"h": h, "c": self.outer(c)}


class ConvGRUCell(ConvCell):
    """A GRU with convolutions for products (Ballas et al. 2016): gates z, r, h as in Keras's GRU; h' = z h + (1 - z) n.

    reset_after  n = activation(x * W_h + b_h + r (h * R_h + b'_h)), bias [2, 3 * filters]; otherwise (default, as in
                 the paper) n = activation(x * W_h + b_h + (r h) * R_h)

    The other arguments: see `ConvCell`. `MXNetConvGRUCell` has MXNet's arguments and weights.
    """

    gate_names = "zrh"

    def __init__(self, rank: int, filters: int, kernel_size: Sizes, strides: Sizes = 1, padding: str = "valid",
                 data_format: str | None = None, dilation_rate: Sizes = 1, activation: str | Activation | None = "tanh",
                 recurrent_activation: str | Activation | None = "sigmoid", use_bias: bool = True,
                 kernel_initializer: str | Initializer = "glorot_uniform",
                 recurrent_initializer: str | Initializer = "orthogonal",
                 bias_initializer: str | Initializer = "zeros", dropout: float = 0.0, recurrent_dropout: float = 0.0,
                 reset_after: bool = False, input_shape: Sequence[int] | None = None) -> None:
        super().__init__(rank, filters, kernel_size, strides, padding, data_format, dilation_rate, activation, use_bias,
                         kernel_initializer, recurrent_initializer, bias_initializer, dropout, recurrent_dropout,
                         input_shape)
        self.recurrent_activation = to_activation(recurrent_activation)
        self.reset_after = reset_after

    def bias_shape(self) -> IntShape:
        return (2, 3 * self.filters) if self.reset_after else (3 * self.filters,)

    def step(self, x: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        x, h = self.last(x), self.last(state["h"])
        xz, xr, xh = self.of_input(x, 0 if self.reset_after else None)
        z = self.recurrent_activation(self.biased(self.of_state(h, "z"), "z") + xz)
        r = self.recurrent_activation(self.biased(self.of_state(h, "r"), "r") + xr)
        if self.reset_after:
            n = self.activation(xh + r * self.biased(self.of_state(h, "h"), "h"))
        else:
            n = self.activation(xh + self.of_state(r * h, "h"))
        new = self.outer(z * h + (1.0 - z) * n)
        return new, {"h": new}

    def biased(self, x: Tensor, gate: str) -> Tensor:
        """With the recurrent bias, where there is one."""
        if not (self.reset_after and self.use_bias):
            return x
        return x + gate_parts(self.bias, self.gate_names, 1)[self.gate_names.index(gate)]


__all__ = ["ConvCell", "ConvGRUCell", "ConvLSTMCell", "ConvRNNCell", "ImageCell"]
