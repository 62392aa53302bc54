"""rnn nodes as LSTM, GRU and RNN: a node for each layer, with ONNX's gate orders (i o f c, z r h)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rnngraph.frontends.to_onnx.emitter import LAST, Emitter
from rnngraph.frontends.to_onnx.movement import reshaped
from rnngraph.ir import Array, Op, Rnn, Value
from rnngraph.ir import ops as ir_ops
from rnngraph.weights.gates import reorder

ORDERS = {"lstm": ("ifgo", "iofg"), "gru": ("rzn", "zrn"), "rnn_tanh": ("h", "h"), "rnn_relu": ("h", "h")}
KINDS = {"lstm": "LSTM", "gru": "GRU", "rnn_tanh": "RNN", "rnn_relu": "RNN"}


def expressible(op: Op) -> bool:
    """Whether ONNX's ops say what an rnn node says: no projection, constant weights."""
    node = Rnn(op)
    a = node.attrs
    return not a.proj and not a.dropout and all(w.op is not None and w.op.name == "const" for w in node.all_weights)


def rnn(e: Emitter, op: Op) -> list[str]:
    node = Rnn(op)
    a = node.attrs
    d = len(a.reverses)
    states = ["h", "c"] if a.has_cell else ["h"]
    initial = dict(zip(states, (node.h0, node.c0), strict=False))
    lengths = "" if node.lengths is None else _as_i32(e, node.lengths)
    x, shape = e.name(node.x), node.x.shape
    finals: dict[str, list[str]] = {s: [] for s in states}
    for layer in range(a.num_layers):
        start = [_layer(e, initial[s], layer, d, a.num_layers) for s in states]
        cells = [[_array(v) for v in node.weights(layer, k)] for k in range(d)]
        inputs = [x, *_weights(e, a.mode, cells), lengths, *start]
        y, *last = e.nodes(KINDS[a.mode], inputs, ["y", *states], hidden_size=a.hidden,
                           direction={1: a.direction, 2: "bidirectional"}[d] if d == 1 else "bidirectional",
                           activations=["Relu"] * d if a.mode == "rnn_relu" else None,
                           linear_before_reset=int(a.reset_after) if a.mode == "gru" else None)
        if node.lengths is not None and a.pad == "repeat":
            y = _repeated(e, node, y, last[0], lengths)
        turned = e.node("Transpose", [y], perm=[0, 2, 1, 3])
        x = reshaped(e, turned, (*shape[:2], d, a.hidden), (*shape[:2], d * a.hidden), op.results[0].hint)
        for s, name in zip(states, last, strict=True):
            finals[s].append(name)
    return [x, *(names[0] if len(names) == 1 else e.node("Concat", names, axis=0) for names in finals.values())]


def _repeated(e: Emitter, node: Rnn, y: str, last: str, lengths: str) -> str:
    """ONNX's y [time, directions, batch, hidden] is zero behind a row's end: there its last output, going forwards."""
    steps = e.node("Range", [e.constant(np.asarray(0, np.int32)), e.node("Cast", [e.node("Squeeze", [
        e.size(node.x.shape[0]), e.ints([0])])], to=6), e.constant(np.asarray(1, np.int32))])
    inside = e.node("Less", [e.node("Unsqueeze", [steps, e.ints([1, 2, 3])]),
                             e.node("Unsqueeze", [lengths, e.ints([1])])])
    some = e.node("Greater", [e.node("Unsqueeze", [lengths, e.ints([1])]), e.constant(np.asarray(0, np.int32))])
    forwards = e.constant(np.array([not r for r in node.attrs.reverses]).reshape(-1, 1, 1))
    zero = e.constant(np.zeros((), node.x.type.dtype.numpy))
    final = e.node("Where", [e.node("And", [some, forwards]), last, zero])
    return e.node("Where", [inside, y, final])


def _as_i32(e: Emitter, lengths: Value) -> str:
    name = e.name(lengths)
    return name if lengths.type.dtype.name == "i32" else e.node("Cast", [name], to=6)


def _layer(e: Emitter, initial: Value | None, layer: int, directions: int, layers: int) -> str:
    """The initial states of one layer."""
    assert initial is not None
    name = e.name(initial)
    if layers == 1:
        return name
    end = (layer + 1) * directions if layer + 1 < layers else LAST
    return e.node("Slice", [name, e.ints([layer * directions]), e.ints([end]), e.ints([0])])


def _array(value: Value) -> Array:
    assert value.op is not None
    assert isinstance(value.op.attrs, ir_ops.ConstAttrs)
    return value.op.attrs.value.array


def _weights(e: Emitter, mode: str, cells: Sequence[Sequence[Array]]) -> list[str]:
    """W [directions, gates * hidden, inputs], R, and both biases in one."""
    ours, theirs = ORDERS[mode]

    def turned(array: Array) -> Array:
        return reorder(array.T if array.ndim == 2 else array, ours, theirs)

    parts = [[turned(a) for a in cell] for cell in cells]
    w, r = (np.stack([cell[i] for cell in parts]) for i in (0, 1))
    b = np.stack([np.concatenate([cell[2], cell[3]]) for cell in parts])
    layer = e.layer.split("@")[0]
    return [e.constant(a, "/".join(p for p in (layer, n) if p)) for n, a in (("W", w), ("R", r), ("B", b))]
