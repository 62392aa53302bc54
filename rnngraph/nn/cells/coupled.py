"""CoupledInputForgetGateLSTMCell: an LSTM that writes what it forgets."""

from __future__ import annotations

from rnngraph.nn.activations import Activation
from rnngraph.nn.cells.layer_norm import Norms, by_gate
from rnngraph.nn.cells.lstm import LSTMCell
from rnngraph.nn.initializers import Initializer
from rnngraph.nn.tensor import Tensor


class CoupledInputForgetGateLSTMCell(LSTMCell):
    """Gates f, c, o, with i = 1 - f (Greff et al. 2015; tf.contrib.rnn.CoupledInputForgetGateLSTMCell).

    f = sigmoid(x W_f + h R_f + b_f + forget_bias [+ p_f c]); c' = f c + (1 - f) tanh(x W_c + h R_c + b_c);
    h' = sigmoid(x W_o + h R_o + b_o [+ p_o c']) tanh(c'). Weights: kernel [I, 3U], recurrent_kernel [U, 3U], bias [3U].

    layer_norm  f, c, o are LN(x W + h R), each gate by itself and without a bias, and c' is LN(f c + (1 - f) g), as
                `LayerNormLSTMCell` has it with variant="contrib" (gates_norm [3U], state_norm [U]; epsilon 1e-12)

    ``forget_bias`` is 1.0 as in tf.contrib, and the bias starts at zero. For ONNX's f = 1 - i give `LSTMCell`
    input_forget=True. Other arguments and errors: `LSTMCell`.

    Example:
        >>> from rnngraph.nn import RNN, CoupledInputForgetGateLSTMCell, Input, trace
        >>> cell = CoupledInputForgetGateLSTMCell(8, peepholes=True, proj_size=3)
        >>> trace(RNN(cell), Input(("batch", "time", 5))).outputs[0].shape
        ('batch', 3)
    """

    gate_names = "fco"

    def __init__(self, units: int, activation: str | Activation = "tanh",
                 recurrent_activation: str | Activation = "sigmoid", use_bias: bool = True,
                 kernel_initializer: str | Initializer = "glorot_uniform",
                 recurrent_initializer: str | Initializer = "orthogonal",
                 bias_initializer: str | Initializer = "zeros", dropout: float = 0.0, recurrent_dropout: float = 0.0,
                 *, peepholes: bool = False, cell_clip: float | tuple[float, float] | None = None,
                 proj_size: int | None = None, proj_clip: float | None = None,
                 projection_initializer: str | Initializer = "glorot_uniform", forget_bias: float = 1.0,
                 layer_norm: bool = False, epsilon: float = 1e-12, gamma_initializer: str | Initializer = "ones",
                 beta_initializer: str | Initializer = "zeros") -> None:
        super().__init__(units, activation, recurrent_activation, use_bias and not layer_norm, kernel_initializer,
                         recurrent_initializer, bias_initializer, False, dropout, recurrent_dropout, peepholes,
                         cell_clip=cell_clip, proj_size=proj_size, proj_clip=proj_clip,
                         projection_initializer=projection_initializer, forget_bias=forget_bias)
        self.norms = Norms(self, epsilon, gamma_initializer, beta_initializer) if layer_norm else None

    def build(self, input_size: int) -> None:
        super().build(input_size)
        if self.norms is not None:
            self.gate_norms = by_gate(self.norms("gates_norm", 3 * self.units), self.gate_names)
            self.state_norm = self.norms("state_norm", self.units)

    def sums(self, x: Tensor, h: Tensor) -> dict[str, Tensor]:
        sums = super().sums(x, h)
        return sums if self.norms is None else {name: self.gate_norms[name](total) for name, total in sums.items()}

    def new_state(self, c: Tensor) -> Tensor:
        return super().new_state(c if self.norms is None else self.state_norm(c))
