"""WeightNormLSTMCell: an LSTM whose weights are directions and lengths (Salimans and Kingma 2016)."""

from __future__ import annotations

from collections.abc import Sequence

from rnngraph.nn import ops
from rnngraph.nn.activations import Activation
from rnngraph.nn.cells.gated import gate_parts
from rnngraph.nn.cells.lstm import LSTMCell
from rnngraph.nn.initializers import Initializer, to_initializer
from rnngraph.nn.tensor import Tensor
from rnngraph.nn.weights import Weight

EPSILON = 1e-12  # below it a column's square sum counts as this, as in tf.nn.l2_normalize


class WeightNormLSTMCell(LSTMCell):
    """An LSTM with W = g * v / ||v|| for each column of its matrices (tf.contrib.rnn.WeightNormLSTMCell).

    v is kernel [I, 4U], recurrent_kernel [U, 4U] and, with proj_size, projection [U, P]; each has its lengths g:
    kernel_g [4U], recurrent_kernel_g [4U], projection_g [P] (``g_initializer``). The norms are taken of the input's and
    of the state's rows separately, as in tf.contrib, and as torch.nn.utils.parametrizations.weight_norm does it to
    weight_ih and weight_hh. Weights are constants here, so that the compiler normalises them once, and what runs is a
    plain LSTM. A column of zeros stays zero.

    ``forget_bias`` is 1.0 as in tf.contrib, and the bias starts at zero. Other arguments and errors: `LSTMCell`.

    Example:
        >>> from rnngraph.nn import RNN, Input, WeightNormLSTMCell, trace
        >>> trace(RNN(WeightNormLSTMCell(8)), Input(("batch", "time", 5))).outputs[0].shape
        ('batch', 8)
    """

    def __init__(self, units: int, activation: str | Activation = "tanh",
                 recurrent_activation: str | Activation = "sigmoid", use_bias: bool = True,
                 kernel_initializer: str | Initializer = "glorot_uniform",
                 recurrent_initializer: str | Initializer = "orthogonal",
                 bias_initializer: str | Initializer = "zeros", dropout: float = 0.0, recurrent_dropout: float = 0.0,
                 *, peepholes: bool = False, cell_clip: float | tuple[float, float] | None = None,
                 proj_size: int | None = None, proj_clip: float | None = None,
                 projection_initializer: str | Initializer = "glorot_uniform", forget_bias: float = 1.0,
                 g_initializer: str | Initializer = "ones") -> None:
        super().__init__(units, activation, recurrent_activation, use_bias, kernel_initializer, recurrent_initializer,
                         bias_initializer, False, dropout, recurrent_dropout, peepholes, cell_clip=cell_clip,
                         proj_size=proj_size, proj_clip=proj_clip, projection_initializer=projection_initializer,
                         forget_bias=forget_bias)
        self.g_initializer = to_initializer(g_initializer)

    def build(self, input_size: int) -> None:
        super().build(input_size)
        matrices = [self.kernel, self.recurrent_kernel, *([] if self.proj_size is None else [self.projection])]
        self.g = {v.name: self.add_weight(f"{v.name}_g", (int(v.shape[1]),), self.g_initializer) for v in matrices}

    def by_gate(self, weight: Weight) -> Sequence[Tensor]:
        pairs = zip(super().by_gate(weight), gate_parts(self.g[weight.name], self.gate_names), strict=True)
        return [normalized(v, g) for v, g in pairs]

    def projecting(self) -> Tensor:
        return normalized(self.projection, self.g["projection"])


def normalized(v: Tensor, g: Tensor) -> Tensor:
    """g * v / ||v||, by columns."""
    return v * (g / ops.sqrt(ops.maximum(ops.sum(v * v, axis=0), EPSILON)))
