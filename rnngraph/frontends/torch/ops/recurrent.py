"""Recurrent layers and cells: one rnn node for a module's layers and directions, and single steps."""

from __future__ import annotations

from typing import Any

from rnngraph.errors import ImportModelError
from rnngraph.frontends.torch.items import ModuleZeros, Packed, Permutation, Permuted, tensor_of
from rnngraph.frontends.torch.ops.emit import known
from rnngraph.frontends.torch.program import Node
from rnngraph.frontends.torch.registry import handler
from rnngraph.ir.rnn import GATES
from rnngraph.nn import ops
from rnngraph.nn.fused import FusedRNN, Part
from rnngraph.nn.tensor import Tensor


class TorchRecurrent(FusedRNN):
    """Layers on weights that are tensors of the trace: PyTorch's, in its order and layout."""

    def __init__(self, mode: str, params: list[Tensor], has_biases: bool, num_layers: int, bidirectional: bool,
                 batch_first: bool) -> None:
        hidden = params[0].shape[0]
        assert isinstance(hidden, int)
        directions = 2 if bidirectional else 1
        each, rest = divmod(len(params), num_layers * directions)
        projection = params[each - 1].shape[0] if mode == "lstm" and each == (5 if has_biases else 3) else None
        if rest or each != (4 if has_biases else 2) + (projection is not None):
            raise ImportModelError(f"{mode}: {len(params)} weights do not fit {num_layers} layer(s) of {directions} "
                                   "direction(s)")
        super().__init__(mode, hidden // GATES[mode], num_layers, bidirectional, 0.0,
                         "NTC" if batch_first else "TNC", get_next_state=True, use_bias=has_biases,
                         projection=projection if isinstance(projection, int) else None)
        self.params = {part: params[i * each : (i + 1) * each] for i, part in enumerate(self.parts())}

    def setup(self, shape: Any) -> None:
        """Nothing to do: the weights are given."""

    def scope_name(self) -> str:
        """Nothing: the module's path is that of the node."""
        return ""

    def tensors(self, part: Part) -> list[Tensor]:
        w, r, *rest = self.params[part]
        w, r = ops.transpose(w, (1, 0)), ops.transpose(r, (1, 0))
        biases = rest[:2] if self.use_bias else [ops.zeros_like(w[0]), ops.zeros_like(w[0])]
        return [w, r, *biases, *(ops.transpose(p, (1, 0)) for p in rest[2 if self.use_bias else 0 :])]


def _states(states: list[Any], node: Node, by: Permutation | None) -> list[Tensor] | None:
    """Initial states in the order of the rows; None where they are zeros that the module itself makes, so that a call
    may give others. ``by`` is the order of PyTorch's data, in which it has them."""
    if all(isinstance(s, ModuleZeros) and s.path == node.path for s in states):
        return None
    if by is None:
        return [tensor_of(s) for s in states]
    return [s.tensor if isinstance(s, Permuted) and s.axis == 1 and s.by == by
            else tensor_of(Permuted(tensor_of(s), 1, by.inverse())) for s in states]


@handler("aten.lstm", "rnngraph.lstm", raw=True)
def lstm(node: Node, input: Any, hx: list[Any], params: list[Tensor], has_biases: bool, num_layers: int,
         bidirectional: bool, batch_first: bool = False, dropout: float = 0.0, train: bool = False) -> list[Tensor]:
    return _over_time(node, "lstm", input, hx, params, has_biases, num_layers, bidirectional, batch_first)


@handler("rnngraph.recurrent", raw=True)
def recurrent(node: Node, mode: str, input: Any, hx: Any, params: list[Tensor], has_biases: bool, num_layers: int,
              bidirectional: bool, batch_first: bool) -> list[Tensor]:
    return _over_time(node, mode, input, [hx], params, has_biases, num_layers, bidirectional, batch_first)


@handler("aten.gru", "aten.rnn_tanh", "aten.rnn_relu", raw=True)
def aten_recurrent(node: Node, input: Any, hx: Any, params: list[Tensor], has_biases: bool, num_layers: int,
                   bidirectional: bool, batch_first: bool = False, dropout: float = 0.0,
                   train: bool = False) -> list[Tensor]:
    return _over_time(node, node.op.removeprefix("aten."), input, [hx], params, has_biases, num_layers, bidirectional,
                      batch_first)


def _over_time(node: Node, mode: str, input: Any, hx: list[Any], params: list[Any], has_biases: bool, num_layers: int,
               bidirectional: bool, batch_first: bool) -> list[Tensor]:
    x = tensor_of(input)
    known(x.shape[-1], f"the number of features of {mode}")
    layer = TorchRecurrent(mode, [tensor_of(p) for p in params], has_biases, num_layers, bidirectional, batch_first)
    return list(layer(x, _states(hx, node, None)))


@handler("rnngraph.lstm_packed", raw=True)
def lstm_packed(node: Node, data: Any, batch_sizes: Any, hx: list[Any], params: list[Any], has_biases: bool,
                num_layers: int, bidirectional: bool) -> list[Any]:
    return _over_rows(node, "lstm", data, hx, params, has_biases, num_layers, bidirectional)


@handler("rnngraph.recurrent_packed", raw=True)
def recurrent_packed(node: Node, mode: str, data: Any, batch_sizes: Any, hx: Any, params: list[Any], has_biases: bool,
                     num_layers: int, bidirectional: bool) -> list[Any]:
    return _over_rows(node, mode, data, [hx], params, has_biases, num_layers, bidirectional)


def _over_rows(node: Node, mode: str, data: Any, hx: list[Any], params: list[Any], has_biases: bool, num_layers: int,
               bidirectional: bool) -> list[Any]:
    """On a packed sequence: each row runs its own steps."""
    if not isinstance(data, Packed):
        raise ImportModelError("expected the data of a PackedSequence that pack_padded_sequence made")
    layer = TorchRecurrent(mode, [tensor_of(p) for p in params], has_biases, num_layers, bidirectional, True)
    y, *states = layer(data.rows, _states(hx, node, data.by), lengths=data.lengths)
    packed = Packed(y, data.lengths, data.by, zero=True)
    return [packed, *(s if data.by is None else Permuted(s, 1, data.by) for s in states)]


# --- cells ---------------------------------------------------------------------------------------------------------


def _gates(x: Tensor, w: Tensor, b: Tensor | None) -> Tensor:
    y = x @ ops.transpose(w, (1, 0))
    return y if b is None else y + b


@handler("aten.lstm_cell")
def lstm_cell(node: Node, input: Tensor, hx: list[Tensor], w_ih: Tensor, w_hh: Tensor, b_ih: Tensor | None = None,
              b_hh: Tensor | None = None) -> list[Tensor]:
    h, c = hx
    i, f, g, o = ops.split(_gates(input, w_ih, b_ih) + _gates(h, w_hh, b_hh), 4)
    c = ops.sigmoid(f) * c + ops.sigmoid(i) * ops.tanh(g)
    return [ops.sigmoid(o) * ops.tanh(c), c]


@handler("aten.gru_cell")
def gru_cell(node: Node, input: Tensor, hx: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor | None = None,
             b_hh: Tensor | None = None) -> Tensor:
    xr, xz, xn = ops.split(_gates(input, w_ih, b_ih), 3)
    hr, hz, hn = ops.split(_gates(hx, w_hh, b_hh), 3)
    z = ops.sigmoid(xz + hz)
    n = ops.tanh(xn + ops.sigmoid(xr + hr) * hn)
    return (1.0 - z) * n + z * hx


@handler("aten.rnn_tanh_cell", "aten.rnn_relu_cell")
def rnn_cell(node: Node, input: Tensor, hx: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor | None = None,
             b_hh: Tensor | None = None) -> Tensor:
    total = _gates(input, w_ih, b_ih) + _gates(hx, w_hh, b_hh)
    return ops.tanh(total) if node.op == "aten.rnn_tanh_cell" else ops.relu(total)

