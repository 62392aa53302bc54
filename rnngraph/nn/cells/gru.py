"""GRUCell: the gated recurrent unit, with its reset gate after or before the matmul."""

from __future__ import annotations

from rnngraph.nn.activations import Activation, to_activation
from rnngraph.nn.cells.gated import GatedCell, gate_parts, plus
from rnngraph.nn.initializers import Initializer
from rnngraph.nn.tensor import Tensor


class GRUCell(GatedCell):
    """Gates z, r, h (Cho et al. 2014); h' = z h + (1 - z) n; the output is h'.

    reset_after     n = activation(x W_h + b_h + r (h R_h + b'_h)), from version 1 of the paper, what cuDNN, PyTorch
                    and Flux's GRU compute (default; Flux has no b'). Otherwise, as in its version 3, Flux's GRUv3 and
                    tf.nn's GRUCell, n = activation(x W_h + b_h + (r h) R_h), and there is no recurrent bias
    implementation  2 (default): one dropout mask and one recurrent mask for all gates; 1: a mask for each gate
                    (Keras's names; Keras itself takes 1 wherever there is recurrent dropout). z h reads h unmasked
    clip            bounds what the activations are given to -clip..clip (ONNX GRU)

    z = 1 keeps the old state, as in Keras, PyTorch, ONNX and tf.nn. tf.contrib's LayerNormBasicGRUCell has
    h' = (1 - z) h + z n instead (see `LayerNormGRUCell`); z's weights and bias negated bring one to the other.

    Raises ShapeError for units that are no int >= 1, TraceError for other arguments out of their range.

    Example:
        >>> from rnngraph.nn import RNN, GRUCell, Input, trace
        >>> trace(RNN(GRUCell(4, reset_after=False)), Input(("batch", "time", 3))).outputs[0].shape
        ('batch', 4)
    """

    gate_names = "zrh"

    def __init__(self, units: int, activation: str | Activation = "tanh",
                 recurrent_activation: str | Activation = "sigmoid", use_bias: bool = True,
                 kernel_initializer: str | Initializer = "glorot_uniform",
                 recurrent_initializer: str | Initializer = "orthogonal",
                 bias_initializer: str | Initializer = "zeros",
                 dropout: float = 0.0, recurrent_dropout: float = 0.0, reset_after: bool = True, *,
                 implementation: int = 2, clip: float | None = None) -> None:
        super().__init__(units, activation, use_bias, kernel_initializer, recurrent_initializer,
                         bias_initializer, dropout, recurrent_dropout, implementation, clip)
        self.recurrent_activation = to_activation(recurrent_activation)
        self.reset_after = reset_after

    def bias_shape(self) -> tuple[int, ...]:
        return (2, 3 * self.units) if self.reset_after else (3 * self.units,)

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        inputs = self.biases(0 if self.reset_after else None)
        recurrent = self.biases(1) if self.reset_after else [None] * 3
        xs = zip(self.dropped_inputs(x), gate_parts(self.kernel, "zrh"), inputs, strict=True)
        xz, xr, xh = (plus(v @ w, b) for v, w, b in xs)
        hz, hr, hh = self.dropped_states(state)
        rz, rr, rh = gate_parts(self.recurrent_kernel, "zrh")
        z = self.recurrent_activation(self.clipped(xz + plus(hz @ rz, recurrent[0])))
        r = self.recurrent_activation(self.clipped(xr + plus(hr @ rr, recurrent[1])))
        if self.reset_after:
            n = xh + r * plus(hh @ rh, recurrent[2])
        else:
            n = xh + (r * hh) @ rh
        new = z * state + (1.0 - z) * self.activation(self.clipped(n))
        return new, new
