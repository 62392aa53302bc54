"""The layers ConvLSTM1D, ConvLSTM2D and ConvLSTM3D, with Keras's arguments."""

from __future__ import annotations

from typing import ClassVar, Unpack

from rnngraph.nn.activations import Activation
from rnngraph.nn.cells import ConvLSTMCell
from rnngraph.nn.convolution import Sizes
from rnngraph.nn.initializers import Initializer
from rnngraph.nn.recurrent import RNN, SequenceOptions


class ConvLSTM(RNN):
    """What the three layers share."""

    dims: ClassVar[int]

    def __init__(self, filters: int, kernel_size: Sizes, strides: Sizes = 1, padding: str = "valid",
                 data_format: str | None = None, dilation_rate: Sizes = 1, activation: str | Activation | None = "tanh",
                 recurrent_activation: str | Activation | None = "sigmoid", use_bias: bool = True,
                 kernel_initializer: str | Initializer = "glorot_uniform",
                 recurrent_initializer: str | Initializer = "orthogonal",
                 bias_initializer: str | Initializer = "zeros", unit_forget_bias: bool = True, dropout: float = 0.0,
                 recurrent_dropout: float = 0.0, **options: Unpack[SequenceOptions]) -> None:
        cell = ConvLSTMCell(self.dims, filters, kernel_size, strides, padding, data_format, dilation_rate, activation,
                            recurrent_activation, use_bias, kernel_initializer, recurrent_initializer,
                            bias_initializer, unit_forget_bias, dropout, recurrent_dropout)
        super().__init__(cell, **options)
        self.filters = filters

    def default_name(self) -> str:
        return f"conv_lstm{self.dims}d"


class ConvLSTM1D(ConvLSTM):
    """ConvLSTM over sequences of signals [batch, time, width, channels]; see `ConvLSTM2D`."""

    dims = 1


class ConvLSTM2D(ConvLSTM):
    """ConvLSTM over sequences of images [batch, time, rows, columns, channels] (Shi et al. 2015); Keras's arguments and
    defaults.

    filters, kernel_size             channels of the output; the size of both kernels
    strides, padding, dilation_rate  of the input's convolution; padding is "valid" (default) or "same"
    data_format                      "channels_last" (default) or "channels_first": [batch, time, channels, rows, ...]
    dropout, recurrent_dropout       one mask per gate for a whole sequence, when training

    The other arguments: see `RNN` and `LSTM`. Batch and time may be symbols, rows and columns are integers.
    Returns [batch, rows', columns', filters], with return_sequences [batch, time, rows', columns', filters].

    Example:
        >>> from rnngraph.nn import ConvLSTM2D, Input, trace
        >>> trace(ConvLSTM2D(16, (3, 5), padding="same"), Input(("batch", "time", 8, 8, 3))).outputs[0].shape
        ('batch', 8, 8, 16)
    """

    dims = 2


class ConvLSTM3D(ConvLSTM):
    """ConvLSTM over sequences of volumes [batch, time, depth, rows, columns, channels]; see `ConvLSTM2D`."""

    dims = 3
