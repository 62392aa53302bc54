"""AttentionCell: a cell that looks back at its last outputs (tf.contrib.rnn.AttentionCellWrapper)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import add
from typing import Any

from rnngraph.errors import ShapeError
from rnngraph.nn import ops
from rnngraph.nn.cell import Cell
from rnngraph.nn.cells.gated import check_size
from rnngraph.nn.tensor import Tensor
from rnngraph.nn.wrappers.base import CellWrapper


class AttentionCell(CellWrapper):
    """Attention over the last outputs (Cheng et al. 2016 in form; the equations of tf.contrib AttentionCellWrapper).

    attn_length    how many outputs are kept; attn_size: their size, and that of this cell's output (default: the
                   inner cell's output_size)
    attn_vec_size  the size in which scores are computed (default: attn_size)
    input_size     the size of what the inner cell is given (default: that of the input)

    x' = [x, a] W + b; y, s' = cell(x', s); score_l = v . tanh(o_l W_a + q) with q = [s'] W_q + b_q over the kept
    outputs o; a' = sum of softmax(score)_l o_l; output = [y, a'] W_o + b_o, which takes the place of the oldest o.

    States: those of the inner cell as "cell.h", ..., "attns" [attn_size] and "attn_states" [attn_length * attn_size],
    oldest first. [s'] joins the inner states in their order (ours for an LSTM: h, c; TensorFlow's: c, h). Weights:
    kernel, bias, attn_w, attn_v, query_kernel, query_bias, output_kernel, output_bias, then cell/...

    Example:
        >>> from rnngraph.nn import RNN, AttentionCell, Input, LSTMCell, trace
        >>> cell = AttentionCell(LSTMCell(8), attn_length=3)
        >>> trace(RNN(cell), Input(("batch", "time", 5))).outputs[0].shape
        ('batch', 8)
    """

    inner_name = "cell"

    def __init__(self, cell: Cell, attn_length: int, attn_size: int | None = None, attn_vec_size: int | None = None,
                 input_size: int | None = None) -> None:
        super().__init__(cell)
        if any(len(s) != 1 for s in cell.states.shapes) or not cell.steppable:
            raise ShapeError(f"{self.label}: expected a cell with states [batch, n] and single steps, got {cell.label}")
        self.attn_length = check_size(self.label, "attn_length", attn_length)
        self.attn_size = check_size(self.label, "attn_size", attn_size or cell.output_size)
        self.attn_vec_size = check_size(self.label, "attn_vec_size", attn_vec_size or self.attn_size)
        self.input_size = None if input_size is None else check_size(self.label, "input_size", input_size)

    @property
    def state_size(self) -> Any:
        inner = {f"cell.{n}": s for n, s in zip(self.cell.states.names, self.cell.states.shapes, strict=True)}
        return {**inner, "attns": self.attn_size, "attn_states": self.attn_length * self.attn_size}

    @property
    def output_size(self) -> int:
        return self.attn_size

    def build(self, input_size: int) -> None:
        size, vector = self.attn_size, self.attn_vec_size
        given = input_size if self.input_size is None else self.input_size
        states = sum(shape[0] for shape in self.cell.states.shapes)
        self.kernel = self.add_weight("kernel", (input_size + size, given))
        self.bias = self.add_weight("bias", (given,), "zeros")
        self.attn_w = self.add_weight("attn_w", (size, vector))
        self.attn_v = self.add_weight("attn_v", (vector,))
        self.query_kernel = self.add_weight("query_kernel", (states, vector))
        self.query_bias = self.add_weight("query_bias", (vector,), "zeros")
        self.output_kernel = self.add_weight("output_kernel", (self.cell.output_size + size, size))
        self.output_bias = self.add_weight("output_bias", (size,), "zeros")
        super().build(given)

    def step(self, x: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        names = [f"cell.{n}" for n in self.cell.states.names]
        size = self.attn_size
        given = ops.concat([x, state["attns"]]) @ self.kernel + self.bias
        y, packed = self.inner(given, self.cell.states.pack([state[n] for n in names]))
        new = self.cell.states.unpack(packed)
        query = ops.concat(new) @ self.query_kernel + self.query_bias
        kept = ops.split(state["attn_states"], self.attn_length)
        attention = attend([scored(self.attn_v, k @ self.attn_w + query) for k in kept], kept)
        output = ops.concat([y, attention]) @ self.output_kernel + self.output_bias
        states = ops.concat([state["attn_states"][:, size:], output]) if self.attn_length > 1 else output
        return output, {**dict(zip(names, new, strict=True)), "attns": attention, "attn_states": states}


class BahdanauAttentionCell(CellWrapper):
    """Attention over a memory given to the layer's call (Bahdanau et al. 2015; tf.contrib.seq2seq AttentionWrapper).

    units                 the size in which scores are computed
    attention_layer_size  attention = [y, context] W of this size; None: attention = context
    output_attention      whether the output is the attention (TF's default) or the inner cell's y
    normalize             scores use g v / |v| and a bias b (Salimans and Kingma 2016; TF's normalize=True)

    y, s' = cell([x, attention], s); score_l = v . tanh(m_l W_m + y W_q [+ b]); context = sum of softmax(score)_l m_l.

    The memory [batch, L, D] is the first of the ``constants`` of the call, with integers L and D:
    ``RNN(cell)(x, constants=memory)``. A second constant says which slots count: a mask bool[batch, L], or lengths
    i32[batch]; the context of a row without any is zero (TensorFlow's is NaN). ``memory_size`` is D. States: those of
    the inner cell as "cell.h", ..., and "attention". Weights: memory_kernel [D, units], query_kernel, attention_v,
    attention_g, attention_b, attention_kernel, then cell/....

    Example:
        >>> from rnngraph.nn import RNN, BahdanauAttentionCell, GRUCell, Input, Model, trace
        >>> x, memory = Input(("batch", "time", 5)), Input(("batch", 7, 6), name="memory")
        >>> y = RNN(BahdanauAttentionCell(GRUCell(8), 4, memory_size=6), return_sequences=True)(x, constants=memory)
        >>> trace(Model([x, memory], y)).outputs[0].shape
        ('batch', 'time', 6)
    """

    inner_name = "cell"

    def __init__(self, cell: Cell, units: int, memory_size: int, attention_layer_size: int | None = None,
                 output_attention: bool = True, normalize: bool = False) -> None:
        super().__init__(cell)
        self.units = check_size(self.label, "units", units)
        self.memory_size = check_size(self.label, "memory_size", memory_size)
        self.attention_size = check_size(self.label, "attention_layer_size", attention_layer_size or memory_size)
        self.has_attention_layer = attention_layer_size is not None
        self.output_attention = output_attention
        self.normalize = normalize

    @property
    def state_size(self) -> Any:
        inner = {f"cell.{n}": s for n, s in zip(self.cell.states.names, self.cell.states.shapes, strict=True)}
        return {**inner, "attention": self.attention_size}

    @property
    def output_size(self) -> int:
        return self.attention_size if self.output_attention else self.cell.output_size

    def build(self, input_size: int) -> None:
        out = self.cell.output_size
        self.memory_kernel = self.add_weight("memory_kernel", (self.memory_size, self.units))
        self.query_kernel = self.add_weight("query_kernel", (out, self.units))
        self.attention_v = self.add_weight("attention_v", (self.units,))
        if self.normalize:
            self.attention_g = self.add_weight("attention_g", (1,), "ones")
            self.attention_b = self.add_weight("attention_b", (self.units,), "zeros")
        if self.has_attention_layer:
            self.attention_kernel = self.add_weight("attention_kernel", (out + self.memory_size, self.attention_size))
        super().build(input_size + self.attention_size)

    def step(self, x: Tensor, state: dict[str, Tensor], constants: Sequence[Tensor] = ()) -> tuple[Any, Any]:
        memory = self._memory(x, constants)
        names = [f"cell.{n}" for n in self.cell.states.names]
        y, packed = self.inner(ops.concat([x, state["attention"]]), self.cell.states.pack([state[n] for n in names]))
        new = dict(zip(names, self.cell.states.unpack(packed), strict=True))
        query = y @ self.query_kernel
        v: Tensor = self.attention_v
        if self.normalize:
            query = query + self.attention_b
            v = self.attention_g * v / ops.sqrt(ops.sum(v * v, -1, keepdims=True))
        slots = [memory[:, i] for i in range(int(memory.shape[1]))]
        scores = [scored(v, m @ self.memory_kernel + query) for m in slots]
        attention = attend(scores, slots, _kept(memory, constants[1]) if len(constants) > 1 else None)
        if self.has_attention_layer:
            attention = ops.concat([y, attention]) @ self.attention_kernel
        return attention if self.output_attention else y, {**new, "attention": attention}

    def _memory(self, x: Tensor, constants: Sequence[Tensor]) -> Tensor:
        if not constants:
            raise ShapeError("expected a memory [batch, slots, features]; call the layer as layer(x, constants=memory)")
        memory = constants[0]
        if memory.rank != 3 or memory.shape[0] != x.shape[0] or memory.shape[2] != self.memory_size or not isinstance(
                memory.shape[1], int) or memory.dtype != x.dtype or memory.shape[1] < 1:
            raise ShapeError(f"expected a memory {x.dtype}[{x.shape[0]}, slots, {self.memory_size}] with an integer "
                             f"number of slots, got {memory.type}")
        return memory


def scored(v: Tensor, x: Tensor) -> Tensor:
    """v . tanh(x) for every row, as [batch, 1]."""
    return ops.sum(ops.tanh(x) * v, -1, keepdims=True)


def attend(scores: Sequence[Tensor], slots: Sequence[Tensor], kept: Sequence[Tensor] | None = None) -> Tensor:
    """The mean of the slots [batch, n] with the weights softmax(scores), scores being [batch, 1].

    ``kept``, 1 or 0 for every row and slot, leaves slots out; a row that has none left gets zeros.
    """
    if kept is not None:
        scores = [s * k + (k - 1.0) * 1e9 for s, k in zip(scores, kept, strict=True)]
    highest = reduce(ops.maximum, scores)
    weights = [ops.exp(s - highest) for s in scores]
    if kept is not None:
        weights = [w * k for w, k in zip(weights, kept, strict=True)]
    total = reduce(add, weights)
    mean = reduce(add, [w * s for w, s in zip(weights, slots, strict=True)])
    return mean / (total if kept is None else ops.maximum(total, 1e-30))


def _kept(memory: Tensor, which: Tensor) -> list[Tensor]:
    """1 where a slot counts, else 0, as [batch, 1] for every slot."""
    batch, count = memory.shape[0], int(memory.shape[1])
    if which.dtype.kind == "bool" and which.shape == (batch, count):
        flags = [which[:, i] for i in range(count)]
    elif which.dtype.kind == "int" and which.shape == (batch,):
        flags = [which > i for i in range(count)]
    else:
        raise ShapeError(f"expected bool[{batch}, {count}] or i32[{batch}] as the second constant, which says what "
                         f"slots of the memory count; got {which.type}")
    return [ops.reshape(ops.cast(f, memory.dtype), (batch, 1)) for f in flags]
