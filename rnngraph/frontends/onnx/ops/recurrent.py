"""LSTM, GRU and RNN: a scan of primitive ops for each direction; `raise-rnn` finds what is fused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rnngraph.errors import ImportModelError
from rnngraph.frontends.imported import expect_equal
from rnngraph.frontends.onnx.activations import Activation, activations
from rnngraph.frontends.onnx.cells import OnnxCell, OnnxGRU, OnnxLSTM, OnnxRNN, Weights
from rnngraph.frontends.onnx.proto import Node
from rnngraph.frontends.onnx.registry import handler
from rnngraph.ir import Dim
from rnngraph.nn import ops
from rnngraph.nn.cell import States
from rnngraph.nn.context import active
from rnngraph.nn.loop import Loop, scanned
from rnngraph.nn.tensor import Tensor, wrap

DIRECTIONS = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}


@dataclass(frozen=True, slots=True)
class Inputs:
    """What the three ops share, checked: x and the states in layout 0, [T, B, I] and [D, B, H]."""

    x: Tensor
    w: Tensor
    r: Tensor
    b: Tensor | None
    lengths: Tensor | None
    states: Sequence[Tensor | None]
    size: int
    reverses: tuple[bool, ...]
    batch_first: bool

    @classmethod
    def of(cls, node: Node, gates: int, x: Tensor, w: Tensor, r: Tensor, b: Tensor | None, lengths: Tensor | None,
           states: Sequence[Tensor | None]) -> Inputs:
        reverses = DIRECTIONS.get(node.attr("direction", "forward"))
        layout = node.attr("layout", 0)
        if reverses is None or layout not in (0, 1):
            raise ImportModelError(f"{node}: direction must be one of {', '.join(DIRECTIONS)}, layout 0 or 1; got "
                                   f"{node.attributes.get('direction')!r}, {layout}")
        count = len(reverses)
        size = r.shape[-1]
        if x.rank != 3 or not isinstance(size, int) or node.attr("hidden_size", size) != size:
            raise ImportModelError(f"{node}: expected x of rank 3 and hidden_size {node.attr('hidden_size', 0)}, got "
                                   f"{x.type} and R {r.type}")
        for name, t, shape in (("W", w, (count, gates * size, x.shape[2])), ("R", r, (count, gates * size, size)),
                               ("B", b, (count, 2 * gates * size))):
            if t is not None:
                _check_shape(node, name, t, shape)
        if layout:
            x = ops.transpose(x, (1, 0, 2))
            states = [None if s is None else ops.transpose(s, (1, 0, 2)) for s in states]
        batch = x.shape[1]
        for s in states:
            if s is not None:
                _check_shape(node, "an initial state (layout 0)", s, (count, batch, size))
        if lengths is not None:
            _check_shape(node, "sequence_lens", lengths, (batch,))
        return cls(x, w, r, b, lengths, states, size, reverses, bool(layout))

    def weights(self, direction: int, gates: str) -> Weights:
        w, r = (ops.reshape(t[direction : direction + 1], t.shape[1:]) for t in (self.w, self.r))
        b = None if self.b is None else ops.reshape(self.b[direction : direction + 1], self.b.shape[1:])
        return Weights(gates, w, r, b)

    def run(self, node: Node, make: Callable[[int], OnnxCell]) -> tuple[Tensor, ...]:
        """Y, Y_h and, of an LSTM, Y_c."""
        emit = bool(node.outputs) and node.outputs[0] != ""
        results = [self._direction(d, make(d), emit) for d in range(len(self.reverses))]
        finals = [_stacked([r[1][s] for r in results], 0) for s in range(len(self.states))]
        if self.batch_first:
            finals = [ops.transpose(f, (1, 0, 2)) for f in finals]
        if not emit:
            return (finals[0], *finals)  # the first is not asked for
        return (self._joined([r[0] for r in results]), *finals)

    def _joined(self, ys: Sequence[Tensor]) -> Tensor:
        """Y, [T, D, B, H] or, of layout 1, [B, T, D, H].

        The directions stand side by side in the features first: exporters bring Y into that form again, what they add
        cancels out, and the passes that merge directions and layers see their concat.
        """
        steps, batch, _ = ys[0].shape
        wide = ops.concat(list(ys), 2) if len(ys) > 1 else ys[0]
        y = ops.reshape(wide, (steps, batch, len(ys), self.size))
        return ops.transpose(y, (1, 0, 2, 3) if self.batch_first else (0, 2, 1, 3))

    def _direction(self, d: int, cell: OnnxCell, emit: bool) -> tuple[Tensor, list[Tensor]]:
        b, states = active().builder, States.of(cell)
        kind = self.x.type.with_shape((self.x.shape[1], self.size))
        initial = [b.zeros(kind) if s is None else ops.reshape(s[d : d + 1], kind.shape).value() for s in self.states]
        lengths = None if self.lengths is None else self.lengths.value()
        loop = Loop(cell, states, self.x.value(), initial, lengths, self.reverses[d], "zero", emit)
        y, finals = scanned(loop)
        return wrap(y), [wrap(f) for f in finals]


def _check_shape(node: Node, what: str, t: Tensor, shape: tuple[Dim, ...]) -> None:
    message = f"{node}: expected {what} of shape {list(shape)}, got {t.type}"
    if t.rank != len(shape):
        raise ImportModelError(message)
    for got, want in zip(t.shape, shape, strict=True):
        expect_equal(want, got, message)


def _stacked(parts: Sequence[Tensor], axis: int) -> Tensor:
    """The parts along a new axis."""
    shape: tuple[Dim, ...] = (*parts[0].shape[:axis], 1, *parts[0].shape[axis:])
    wide = [ops.reshape(p, shape) for p in parts]
    return ops.concat(wide, axis) if len(wide) > 1 else wide[0]


def _functions(node: Node, count: int, given: Inputs, defaults: tuple[str, ...]) -> list[list[Activation]]:
    return activations(node, count, len(given.reverses), defaults)


@handler("RNN")
def rnn(node: Node, x: Tensor, w: Tensor, r: Tensor, b: Tensor | None = None, lengths: Tensor | None = None,
        h0: Tensor | None = None) -> tuple[Tensor, ...]:
    given = Inputs.of(node, 1, x, w, r, b, lengths, [h0])
    functions, clip = _functions(node, 1, given, ("Tanh",)), node.attr("clip", 0.0)
    return given.run(node, lambda d: OnnxRNN(given.size, given.weights(d, "i"), functions[d], clip))


@handler("GRU")
def gru(node: Node, x: Tensor, w: Tensor, r: Tensor, b: Tensor | None = None, lengths: Tensor | None = None,
        h0: Tensor | None = None) -> tuple[Tensor, ...]:
    given = Inputs.of(node, 3, x, w, r, b, lengths, [h0])
    functions, clip = _functions(node, 2, given, ("Sigmoid", "Tanh")), node.attr("clip", 0.0)
    after = bool(node.attr("linear_before_reset", 0))
    return given.run(node, lambda d: OnnxGRU(given.size, given.weights(d, "zrh"), functions[d], clip, after))


@handler("LSTM")
def lstm(node: Node, x: Tensor, w: Tensor, r: Tensor, b: Tensor | None = None, lengths: Tensor | None = None,
         h0: Tensor | None = None, c0: Tensor | None = None, p: Tensor | None = None) -> tuple[Tensor, ...]:
    return lstm_of(node, OnnxLSTM, x, w, r, b, lengths, h0, c0, p)


def lstm_of(node: Node, kind: type[OnnxLSTM], x: Tensor, w: Tensor, r: Tensor, b: Tensor | None, lengths: Tensor | None,
            h0: Tensor | None, c0: Tensor | None, p: Tensor | None) -> tuple[Tensor, ...]:
    """Y, Y_h and Y_c by cells of this kind."""
    given = Inputs.of(node, 4, x, w, r, b, lengths, [h0, c0])
    functions, clip = _functions(node, 3, given, ("Sigmoid", "Tanh", "Tanh")), node.attr("clip", 0.0)
    coupled = bool(node.attr("input_forget", 0))
    if p is not None and p.shape != (len(given.reverses), 3 * given.size):
        raise ImportModelError(f"{node}: expected P of shape {[len(given.reverses), 3 * given.size]}, got {p.type}")

    def cell(d: int) -> OnnxCell:
        peepholes = None
        if p is not None:
            row = ops.reshape(p[d : d + 1], (3 * given.size,))
            peepholes = dict(zip("iof", ops.split(row, 3, 0), strict=True))
        return kind(given.size, given.weights(d, "iofc"), functions[d], clip, peepholes, coupled)

    return given.run(node, cell)
