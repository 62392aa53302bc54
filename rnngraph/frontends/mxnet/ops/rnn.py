"""RNN: MXNet's fused operator, its weights in one flat array (`rnngraph.weights.blob` has the layout)."""

from __future__ import annotations

from rnngraph.errors import ConversionError, ImportModelError
from rnngraph.frontends.depends import constant_value
from rnngraph.frontends.mxnet.registry import handler
from rnngraph.frontends.mxnet.symbol import Node
from rnngraph.frontends.mxnet.walker import same
from rnngraph.ir import RNN, Builder, RnnAttrs, Shape, Value, make_op
from rnngraph.ir.ops import BROADCAST
from rnngraph.nn import ops
from rnngraph.nn.context import active
from rnngraph.nn.tensor import Tensor, wrap
from rnngraph.weights.blob import Geometry

MODES = ("lstm", "gru", "rnn_tanh", "rnn_relu")
MAX_LAYERS = 1024


def geometry_of(node: Node) -> Geometry:
    """What the attributes say of the weights."""
    attrs = node.attrs
    found = Geometry(attrs.choice("mode", "", MODES), attrs.integer("state_size"), attrs.integer("num_layers"),
                     2 if attrs.flag("bidirectional") else 1, attrs.integer("projection_size", 0))
    if min(found.hidden, found.layers, found.projection + 1) < 1 or found.layers > MAX_LAYERS:
        raise ImportModelError(f"{node}: expected sizes above 0 and at most {MAX_LAYERS} layers, got {found}")
    if found.projection and found.mode != "lstm":
        raise ImportModelError(f"{node}: only an LSTM has a projection, not {found.mode}")
    return found


def output_names(node: Node) -> tuple[str, ...]:
    if not node.attrs.flag("state_outputs"):
        return ("output",)
    names = ("output", "state_output", "statecell_output")
    return names if node.attrs.text("mode") == "lstm" else names[:2]


@handler("RNN", outputs=output_names)
def rnn(node: Node, x: Tensor, blob: Tensor, *given: Tensor) -> Tensor | tuple[Tensor, ...]:
    """x [time, batch, features]; the states, and behind them the lengths. Past a row's length the output is 0."""
    g = geometry_of(node)
    if any(node.attrs.given(f"lstm_state_clip_{n}") for n in ("min", "max")):
        raise ImportModelError(f"{node}: lstm_state_clip_min and lstm_state_clip_max are not supported")
    states = 2 if g.mode == "lstm" else 1
    lengths = given[states] if node.attrs.flag("use_sequence_length") else None
    if len(given) < states or x.rank != 3 or blob.rank != 1 or not isinstance(blob.shape[0], int):
        raise ImportModelError(f"{node}: expected data [time, batch, features], flat parameters and {states} state(s), "
                               f"got {', '.join(str(t.type) for t in (x, blob, *given))}")
    rows = g.layers * g.directions
    wanted = [(rows, x.shape[1], size) for size in (g.output, g.hidden)[:states]]
    for state, shape in zip(given, wanted, strict=False):
        same(node, state.shape, shape)
    try:
        inputs = g.inputs(blob.shape[0], str(node))
    except ConversionError as e:
        raise ImportModelError(str(e)) from None
    b = active().builder
    attrs = RnnAttrs(g.mode, g.hidden, g.layers, "bidirectional" if g.directions == 2 else "forward",
                     lengths=lengths is not None, proj=g.projection)
    ends = () if lengths is None else (ops.cast(lengths, "i32").value(),)
    initial = [_state(s, w) for s, w in zip(given, wanted, strict=False)]
    operands = (x.value(), *initial, *ends, *_weights(b, g, inputs, blob))
    results = tuple(wrap(v) for v in b.insert(make_op(RNN, operands, attrs, layer=b.layer)).results)
    return results if node.attrs.flag("state_outputs") else results[0]


def _state(state: Tensor, wanted: Shape) -> Value:
    """A state; of MXNet 2.x zeros have the batch that the export was made with, and serve for any."""
    value = state.value()
    op, b = value.op, active().builder
    if op is not None and op.opdef is BROADCAST and not op.operands[0].shape and value.shape != wanted:
        return b.broadcast(op.operands[0], wanted, ())
    return value


def _weights(b: Builder, g: Geometry, inputs: int, blob: Tensor) -> list[Value]:
    """The operands of an rnn op: for each layer and direction the matrices, transposed, the biases, the projection."""
    array = constant_value(blob)
    cells: list[dict[str, Value]] = [{} for _ in range(g.layers * g.directions)]
    at = 0
    for number, name, shape in g.shapes(inputs):
        size = shape[0] * (shape[1] if len(shape) == 2 else 1)
        if array is not None:
            part = array[at : at + size].reshape(shape)
            cells[number][name] = b.const(part.T if len(shape) == 2 else part, blob.dtype, hint=name)
        else:
            cut = b.reshape(b.slice(blob.value(), 0, at, size), shape)
            cells[number][name] = b.transpose(cut, (1, 0)) if len(shape) == 2 else cut
        at += size
    names = ("w", "r", "bias", "recurrent_bias", *(("projection",) if g.projection else ()))
    return [cell[n] for cell in cells for n in names]
