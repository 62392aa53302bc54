"""``rnn``: the cuDNN-style fused node. Its meaning IS its expansion into scans (`expand_rnn`).

Gate orders are cuDNN's: LSTM i, f, g, o; GRU r, z, n. Weights per (layer, direction), directions inner:
W [I, G*H], R [H, G*H], bW [G*H], bR [G*H]. States are [num_layers * num_directions, B, H].

An LSTM with a projection of size P (PyTorch's proj_size, cuDNN's projSize) has one operand more for each layer and
direction, P [H, P] without a bias: h = (o * tanh(c)) @ P. Outputs and h then have P features, R is [P, G*H]; c has H.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rnngraph.errors import ShapeError
from rnngraph.ir import ops
from rnngraph.ir.builder import Builder
from rnngraph.ir.core import Block, Graph, Op, Value
from rnngraph.ir.opdef import Array, Attrs, Cost, EvalContext, OpDef, Types, traffic
from rnngraph.ir.types import I32, I64, Dim, Dims, numel, resolve

GATES = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}
DIRECTIONS = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}


@dataclass(frozen=True, slots=True)
class RnnAttrs(Attrs):
    """reset_after (GRU): the reset gate multiplies R·h + bR (cuDNN, Keras default) rather than h.

    pad: what outputs hold past a row's length, "zero" or "repeat". dropout: rate between layers, with one seed per
    boundary; 0 at inference. proj (LSTM): the size of the projected h, 0 without a projection.
    """

    mode: str
    hidden: int
    num_layers: int = 1
    direction: str = "forward"
    reset_after: bool = True
    lengths: bool = False
    pad: str = "zero"
    dropout: float = 0.0
    seeds: tuple[int, ...] = ()
    proj: int = 0

    @property
    def gates(self) -> int:
        return GATES[self.mode]

    @property
    def features(self) -> int:
        """The size of h, and so of one direction's output."""
        return self.proj or self.hidden

    @property
    def weights_each(self) -> int:
        """How many weights a layer and direction has."""
        return 5 if self.proj else 4

    @property
    def reverses(self) -> tuple[bool, ...]:
        """One entry per direction: whether time runs backwards."""
        return DIRECTIONS[self.direction]

    @property
    def has_cell(self) -> bool:
        return self.mode == "lstm"


class Rnn:
    """Named access to an rnn op's operands: x, h0, c0 (LSTM), lengths, then the weights per layer and direction."""

    def __init__(self, op: Op) -> None:
        assert isinstance(op.attrs, RnnAttrs)
        self.op = op
        self.attrs = op.attrs

    @property
    def x(self) -> Value:
        return self.op.operands[0]

    @property
    def h0(self) -> Value:
        return self.op.operands[1]

    @property
    def c0(self) -> Value | None:
        return self.op.operands[2] if self.attrs.has_cell else None

    @property
    def lengths(self) -> Value | None:
        return self.op.operands[2 + self.attrs.has_cell] if self.attrs.lengths else None

    def weights(self, layer: int, direction: int) -> tuple[Value, ...]:
        """W, R, bW, bR, and P where h is projected, of one layer and direction."""
        each = self.attrs.weights_each
        at = each * (layer * len(self.attrs.reverses) + direction)
        return self.all_weights[at : at + each]

    @property
    def all_weights(self) -> tuple[Value, ...]:
        """The weights of every layer and direction, in order."""
        return self.op.operands[2 + self.attrs.has_cell + self.attrs.lengths :]

    @property
    def y(self) -> Value:
        return self.op.results[0]

    @property
    def h_n(self) -> Value:
        return self.op.results[1]

    @property
    def c_n(self) -> Value | None:
        return self.op.results[2] if self.attrs.has_cell else None


def _infer(types: Types, a: RnnAttrs, blocks: tuple[Block, ...]) -> Types:
    _check_attrs(a)
    d, h, p = len(a.reverses), a.hidden, a.features
    names = ["x", "h0", *(["c0"] if a.has_cell else []), *(["lengths"] if a.lengths else [])]
    weights = a.weights_each * a.num_layers * d
    if len(types) != len(names) + weights:
        raise ShapeError(f"rnn: expected {len(names) + weights} operands ({', '.join(names)} and {weights} weights), "
                         f"got {len(types)}")
    x = types[0]
    if x.rank != 3 or not x.dtype.is_float:
        raise ShapeError(f"rnn: x must be [T,B,I] of floats, got {x}")
    steps, batch, features = x.shape

    def expect(name: str, got: object, shape: tuple[Dim, ...]) -> None:
        if got != x.with_shape(shape):
            raise ShapeError(f"rnn: {name} must be {x.with_shape(shape)}, got {got}")

    for i, size in enumerate((p, h)[: 1 + a.has_cell], 1):
        expect(names[i], types[i], (a.num_layers * d, batch, size))
    if a.lengths:
        t = types[len(names) - 1]
        if t.dtype not in (I32, I64) or t.shape != (batch,):
            raise ShapeError(f"rnn: lengths must be i32[{batch}], got {t}")
    at = len(names)
    for layer in range(a.num_layers):
        for direction in range(d):
            for name, shape in _weight_shapes(a, features if layer == 0 else p * d):
                expect(f"{name} of layer {layer} direction {direction}", types[at], shape)
                at += 1
    finals = [x.with_shape((a.num_layers * d, batch, size)) for size in (p, h)[: 1 + a.has_cell]]
    return (x.with_shape((steps, batch, d * p)), *finals)


def _check_attrs(a: RnnAttrs) -> None:
    if a.mode not in GATES or a.direction not in DIRECTIONS or a.pad not in ("zero", "repeat") or a.num_layers < 1:
        raise ShapeError(f"rnn: bad attributes {a}")
    if a.proj < 0 or (a.proj and not a.has_cell):
        raise ShapeError(f"rnn: proj is the size of an LSTM's projected h, or 0; got {a.proj} in mode {a.mode}")
    if a.dropout and len(a.seeds) != a.num_layers - 1:
        raise ShapeError(f"rnn: dropout needs one seed per layer boundary, got {len(a.seeds)}")


def _weight_shapes(a: RnnAttrs, inputs: Dim) -> list[tuple[str, tuple[Dim, ...]]]:
    """The weights of one layer and direction that reads ``inputs`` features."""
    n = a.gates * a.hidden
    shapes: list[tuple[str, tuple[Dim, ...]]] = [("W", (inputs, n)), ("R", (a.features, n)), ("bW", (n,)), ("bR", (n,))]
    return [*shapes, ("P", (a.hidden, a.proj))] if a.proj else shapes


def _cut_weights(b: Builder, a: RnnAttrs, w: tuple[Value, ...]) -> list[Value]:
    """The weights as a step uses them: GRU reset-before reads R and bR of its n gate apart from those of r and z."""
    if a.mode != "gru" or a.reset_after:
        return list(w)
    wx, r, bw, br = w
    rz, h = 2 * a.hidden, a.hidden
    return [wx, b.slice(r, 1, 0, rz), bw, b.slice(br, 0, 0, rz), b.slice(r, 1, rz, h), b.slice(br, 0, rz, h)]


def _step(b: Builder, a: RnnAttrs, x: Value, state: Mapping[str, Value], w: Sequence[Value]) -> dict[str, Value]:
    """One step of the cell; x@W+bW is one matmul over all gates."""
    wx, r, bw, br = w[:4]
    h = state["h"]
    gx = b.add(b.matmul(x, wx), bw)
    if a.mode == "lstm":
        i, f, g, o = b.split(b.add(gx, b.add(b.matmul(h, r), br)), 4)
        c = b.add(b.mul(b.sigmoid(f), state["c"]), b.mul(b.sigmoid(i), b.tanh(g)))
        h = b.mul(b.sigmoid(o), b.tanh(c))
        return {"h": b.matmul(h, w[4]) if a.proj else h, "c": c}
    if a.mode == "gru":
        xr, xz, xn = b.split(gx, 3)
        if a.reset_after:
            hr, hz, hn = b.split(b.add(b.matmul(h, r), br), 3)
            reset = b.sigmoid(b.add(xr, hr))
            z = b.sigmoid(b.add(xz, hz))
            n = b.tanh(b.add(xn, b.mul(reset, hn)))
        else:
            hr, hz = b.split(b.add(b.matmul(h, r), br), 2)
            reset = b.sigmoid(b.add(xr, hr))
            z = b.sigmoid(b.add(xz, hz))
            hn = b.add(b.matmul(b.mul(reset, h), w[4]), w[5])
            n = b.tanh(b.add(xn, hn))
        return {"h": b.add(n, b.mul(z, b.sub(h, n)))}
    pre = b.add(gx, b.add(b.matmul(h, r), br))
    return {"h": b.tanh(pre) if a.mode == "rnn_tanh" else b.op(ops.RELU, pre)}


def expand_rnn(b: Builder, op: Op) -> list[Value]:
    """Build the scans that an rnn op stands for; returns values for its results. The definition of the op.

    Each (layer, direction) is one scan whose ops carry the layer name ``{op.layer}/l{layer}{f|r}``.
    """
    node = Rnn(op)
    a = node.attrs
    d = len(a.reverses)
    state_names = ["h", "c"] if a.has_cell else ["h"]
    initial = {"h": node.h0, **({"c": node.c0} if node.c0 is not None else {})}
    finals: dict[str, list[Value]] = {n: [] for n in state_names}
    sizes = {"h": a.features, "c": a.hidden}
    batch = node.x.shape[1]
    x = node.x
    for layer in range(a.num_layers):
        outputs = []
        for direction, reverse in enumerate(a.reverses):
            k = layer * d + direction
            with b.named(f"{op.layer}/l{layer}{'r' if reverse else 'f'}".lstrip("/")):
                w = _cut_weights(b, a, node.weights(layer, direction))
                state = {n: b.reshape(b.slice(initial[n], 0, k, 1), (batch, sizes[n])) for n in state_names}

                def body(s: Builder, carries: dict[str, Value], xs: dict[str, Value],
                         w: Sequence[Value] = w) -> tuple[dict[str, Value], dict[str, Value]]:
                    new = _step(s, a, xs["x"], carries, w)
                    return new, {"y": new["h"]}

                last, ys = b.scan(state, {"x": x}, body, lengths=node.lengths, reverse=reverse, pad=a.pad)
                outputs.append(ys["y"])
                for n in state_names:
                    finals[n].append(b.reshape(last[n], (1, batch, sizes[n])))
        x = b.concat(outputs, 2)
        if a.dropout and layer + 1 < a.num_layers:
            mask = ops.RandomMaskAttrs(a.seeds[layer], a.dropout, x.shape, x.type.dtype)
            x = b.mul(x, b.op(ops.RANDOM_MASK, attrs=mask))
    return [x, *(b.concat(finals[n], 0) for n in state_names)]


def _evaluate(ctx: EvalContext, op: Op, args: Sequence[Array]) -> Sequence[Array]:
    graph = Graph("rnn")
    copies = [graph.add_input(v.type, f"a{i}") for i, v in enumerate(op.operands)]
    b = Builder(graph.block, layer=op.layer)
    copy = Op(op.opdef, op.attrs, op.layer)
    copy.set_operands(copies)
    results = expand_rnn(b, copy)
    copy.set_operands(())
    b.ret({f"r{i}": v for i, v in enumerate(results)})
    return ctx.run_block(graph.block, args)


def _cost(op: Op, dims: Dims) -> Cost:
    node = Rnn(op)
    a = node.attrs
    steps, batch, _ = resolve(node.x.shape, dims)
    flops = 0.0
    for layer in range(a.num_layers):
        for direction in range(len(a.reverses)):
            matrices = sum(numel(w.shape, dims) for w in node.weights(layer, direction) if w.type.rank == 2)
            flops += steps * batch * (2.0 * matrices + 20.0 * a.gates * a.hidden)
    return Cost(flops, traffic(op, dims))


RNN = OpDef("rnn", _infer, _evaluate, _cost, RnnAttrs, frozenset({"fused"}))
