"""FusedRNN: layers and directions of one kind as one node: MXNet's FusedRNNCell, gluon's and PyTorch's LSTM."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rnngraph.errors import ShapeError, TraceError
from rnngraph.ir import RNN, Array, Dim, RnnAttrs, Value, make_op
from rnngraph.ir.rnn import GATES
from rnngraph.nn import ops
from rnngraph.nn.calls import zeros
from rnngraph.nn.canonical import as_float32
from rnngraph.nn.cell import Cell
from rnngraph.nn.cells.gated import check_number, check_rate, check_size, plus
from rnngraph.nn.context import active
from rnngraph.nn.fused_cells import fused_arguments, unfused
from rnngraph.nn.initializers import Initializer, UnitForgetBias, to_initializer
from rnngraph.nn.layer import Layer
from rnngraph.nn.loop import Loop, scanned
from rnngraph.nn.masks import own_mask, time_mask
from rnngraph.nn.tensor import Tensor, wrap
from rnngraph.nn.wrappers import SequentialCell
from rnngraph.weights import Options, RecurrentWeights, convert, load

LAYOUTS = ("NTC", "TNC")
_PART = re.compile(r"[lr]\d+_(i2h|h2h|h2r)_")


@dataclass(frozen=True, slots=True)
class Part:
    """One direction of one layer: where it stands, and how its weights' names begin ("l0_", "r0_")."""

    layer: int
    reverse: bool

    @property
    def prefix(self) -> str:
        return f"{'r' if self.reverse else 'l'}{self.layer}_"


class FusedRNN(Layer):
    """Layers, each in one or two directions, as one `rnn` node (MXNet FusedRNNCell, gluon rnn.*, PyTorch nn.*).

    mode            "lstm", "gru" (the reset gate after the matmul, as cuDNN), "rnn_tanh" or "rnn_relu"
    hidden          the size of the states
    num_layers      the number of layers; bidirectional: two directions in each, outputs joined
    dropout         the rate between layers, in training
    layout          of the input and the output: "NTC" [batch, time, features] (default) or "TNC"
    get_next_state  return (output, h [layers * directions, batch, hidden][, c]), else the output alone
    forget_bias     where the bias of an LSTM's forget gate starts (MXNet: 1)
    projection      LSTM: h is (o tanh(c)) P of this size (gluon's projection_size, PyTorch's proj_size)
    prefix          how the weights' names begin; None takes ``<mode>_``, as MXNet

    Weights, per layer and direction as MXNet names and stores them: ``{prefix}l0_i2h_weight`` [G*H, I],
    ``l0_h2h_weight`` [G*H, H], ``l0_h2r_weight`` [P, H] with a projection, ``l0_i2h_bias``, ``l0_h2h_bias`` [G*H]; "r0"
    for backward directions. Gates: LSTM i, f, c, o; GRU r, z, n. A call takes ``initial_state``, ``mask``, ``lengths``
    (int[batch], the number of each row's steps). Past a row's length the output is zero. `unfuse` gives cells. Under a
    mask that is not known to say lengths the layers are scans.

    Raises TraceError for arguments out of their range, ShapeError for sizes.

    Example:
        >>> from rnngraph.nn import FusedRNN, Input, trace
        >>> graph = trace(FusedRNN("lstm", 16, num_layers=2, bidirectional=True), Input(("batch", "time", 8)))
        >>> graph.outputs[0].shape, [op.name for op in graph.walk()].count("rnn")
        (('batch', 'time', 32), 1)
    """

    def __init__(self, mode: str, hidden: int, num_layers: int = 1, bidirectional: bool = False, dropout: float = 0.0,
                 layout: str = "NTC", get_next_state: bool = False, forget_bias: float = 1.0,
                 projection: int | None = None, prefix: str | None = None, use_bias: bool = True,
                 i2h_weight_initializer: str | Initializer = "glorot_uniform",
                 h2h_weight_initializer: str | Initializer = "orthogonal",
                 i2h_bias_initializer: str | Initializer = "zeros",
                 h2h_bias_initializer: str | Initializer = "zeros", name: str | None = None) -> None:
        super().__init__(name)
        where = f"layer {self.path!r}"
        if mode not in GATES:
            raise TraceError(f"{where}: mode must be one of {', '.join(GATES)}, got {mode!r}")
        if layout not in LAYOUTS:
            raise TraceError(f"{where}: layout must be one of {', '.join(LAYOUTS)}, got {layout!r}")
        if projection and mode != "lstm":
            raise TraceError(f"{where}: projection is for mode lstm, got mode {mode}")
        self.mode = mode
        self.hidden = check_size(where, "hidden", hidden)
        self.num_layers = check_size(where, "num_layers", num_layers)
        self.bidirectional = bool(bidirectional)
        self.dropout = check_rate(where, "dropout", dropout)
        self.layout = layout
        self.get_next_state = get_next_state
        self.forget_bias = check_number(where, "forget_bias", forget_bias)
        self.projection = check_size(where, "projection", projection) if projection else None
        self.prefix = f"{mode}_" if prefix is None else prefix
        self.use_bias = use_bias
        bias = to_initializer(i2h_bias_initializer)
        self.initializers: dict[str, Initializer] = {
            "i2h_weight": to_initializer(i2h_weight_initializer), "h2h_weight": to_initializer(h2h_weight_initializer),
            "h2r_weight": to_initializer(i2h_weight_initializer),
            "i2h_bias": UnitForgetBias(bias, value=self.forget_bias) if mode == "lstm" else bias,
            "h2h_bias": to_initializer(h2h_bias_initializer)}

    @classmethod
    def gluon(cls, mode: str, hidden_size: int, num_layers: int = 1, layout: str = "TNC", dropout: float = 0.0,
              bidirectional: bool = False, projection_size: int | None = None, **options: Any) -> FusedRNN:
        """With the arguments and defaults of mxnet.gluon.rnn.LSTM, GRU and RNN: time first, names without a prefix."""
        options = {"prefix": "", "forget_bias": 0.0, **options}
        return cls(mode, hidden_size, num_layers, bidirectional, dropout, layout, projection=projection_size, **options)

    @classmethod
    def torch(cls, mode: str, input_size: int | None, hidden_size: int, num_layers: int = 1, bias: bool = True,
              batch_first: bool = False, dropout: float = 0.0, bidirectional: bool = False, proj_size: int = 0,
              **options: Any) -> FusedRNN:
        """With the arguments and defaults of torch.nn.LSTM, GRU and RNN; ``mode`` is PyTorch's too ("RNN_TANH").

        It returns (output, h_n[, c_n]). ``input_size`` None is taken from the input. PyTorch's ``weight_ih_l0`` is
        ``l0_i2h_weight``, ``weight_hh_l0_reverse`` is ``r0_h2h_weight``, and so on.
        """
        options = {"prefix": "", "forget_bias": 0.0, "get_next_state": True, **options}
        made = cls(mode.lower(), hidden_size, num_layers, bidirectional, dropout, "NTC" if batch_first else "TNC",
                   projection=proj_size or None, use_bias=bias, **options)
        if input_size is not None:
            made.build((None, None, check_size(f"layer {made.path!r}", "input_size", input_size)))
        return made

    # --- weights and states -------------------------------------------------------------------------------------

    def parts(self) -> Iterator[Part]:
        """Each layer's directions, in the order of the node's operands."""
        for layer in range(self.num_layers):
            for reverse in (False, True)[: self.directions]:
                yield Part(layer, reverse)

    @property
    def directions(self) -> int:
        return 2 if self.bidirectional else 1

    @property
    def output_size(self) -> int:
        """The features of the output."""
        return self.directions * (self.projection or self.hidden)

    @property
    def state_info(self) -> list[dict[str, Any]]:
        """Name, shape and layout of each state, as MXNet's."""
        rows = self.num_layers * self.directions
        sizes = {"h": self.projection or self.hidden, **({"c": self.hidden} if self.mode == "lstm" else {})}
        return [{"name": n, "shape": (rows, "batch", size), "layout": "LNC"} for n, size in sizes.items()]

    def setup(self, shape: tuple[Dim, ...]) -> None:
        if len(shape) != 3 or not isinstance(shape[-1], int):
            raise ShapeError(f"expected an input of rank 3 in layout {self.layout} with an integer number of features, "
                             f"got [{','.join(map(str, shape))}]")
        gates, out = GATES[self.mode] * self.hidden, self.projection or self.hidden
        for part in self.parts():
            features = shape[-1] if part.layer == 0 else self.output_size
            shapes = {"i2h_weight": (gates, features), "h2h_weight": (gates, out)}
            if self.projection is not None:
                shapes["h2r_weight"] = (out, self.hidden)
            for kind, size in shapes.items():
                self._add(part, kind, size)
        for part in self.parts() if self.use_bias else ():
            for kind in ("i2h_bias", "h2h_bias"):
                self._add(part, kind, (gates,))

    def _add(self, part: Part, kind: str, shape: tuple[int, ...]) -> None:
        self.add_weight(f"{self.prefix}{part.prefix}{kind}", shape, self.initializers[kind])

    def weight(self, part: Part, kind: str) -> Tensor:
        """A weight by its part and kind, such as "i2h_weight"."""
        return self._weights[f"{self.prefix}{part.prefix}{kind}"]

    @property
    def input_features(self) -> int | None:
        """The features of the input; None before the weights exist."""
        return int(self.weight(Part(0, False), "i2h_weight").shape[-1]) if self.built else None

    def arrays(self, part: Part) -> dict[str, Array]:
        """The arrays of one part by kind."""
        start = f"{self.prefix}{part.prefix}"
        return {n.removeprefix(start): w.array for n, w in self._weights.items() if n.startswith(start)}

    def unfuse(self) -> SequentialCell:
        """The same as cells (MXNet's unfuse): for each layer a cell or a `BidirectionalCell`, `DropoutCell` between.

        Weights that exist are carried over; where cells have one bias, it is the sum of the two.
        `RNN(cells, return_sequences=True)` runs them, and gives what this layer gives.
        """
        return unfused(self)

    @classmethod
    def fuse(cls, cells: SequentialCell, **options: Any) -> FusedRNN:
        """The inverse of `unfuse`, with further arguments such as ``layout``. TraceError says why cells do not fit.

        Example:
            >>> from rnngraph.nn import FusedRNN, GRUCell, SequentialCell
            >>> FusedRNN.fuse(SequentialCell([GRUCell(8), GRUCell(8)])).num_layers
            2
        """
        arguments, parts, features = fused_arguments(cells)
        made = cls(**arguments, **options)
        if parts is not None:
            made.build((None, None, features))
            made.set_weights({f"{made.prefix}{part.prefix}{kind}": array for part, arrays in
                              zip(made.parts(), parts, strict=True) for kind, array in arrays.items()})
        return made

    def begin_state(self, batch: Dim = "batch") -> list[Tensor]:
        """Zero states [layers * directions, batch, size], as MXNet's begin_state."""
        return [zeros(tuple(batch if d == "batch" else d for d in s["shape"])) for s in self.state_info]

    def unroll(self, length: int | None, inputs: Any, begin_state: Sequence[Tensor] | None = None,
               layout: str | None = None, merge_outputs: bool | None = None) -> tuple[Any, list[Tensor]]:
        """(outputs, states) as FusedRNNCell.unroll of MXNet: see `Cell.unroll`; [] as states without get_next_state.

        ``inputs`` are in ``layout`` (None: that of this layer), or a list of one tensor [batch, features] per step.
        """
        layout = self.layout if layout is None else layout
        if layout not in LAYOUTS:
            raise TraceError(f"layer {self.path!r}: layout must be one of {', '.join(LAYOUTS)}, got {layout!r}")
        axis = layout.index("T")
        if isinstance(inputs, list | tuple):
            inputs = ops.concat([ops.reshape(x, (*x.shape[:axis], 1, *x.shape[axis:])) for x in inputs], axis)
        steps = inputs.shape[axis] if isinstance(inputs, Tensor) and inputs.rank == 3 else None
        if length is not None and steps != length:
            raise ShapeError(f"layer {self.path!r}: expected inputs of {length} steps in layout {layout}, got "
                             f"{inputs!r}")
        turned = layout != self.layout
        result = self(ops.transpose(inputs, (1, 0, 2)) if turned else inputs, begin_state)
        y, *states = result if isinstance(result, tuple) else (result,)
        y = ops.transpose(y, (1, 0, 2)) if turned else y
        if merge_outputs is False:
            if not isinstance(steps, int):
                raise ShapeError(f"layer {self.path!r}: merge_outputs=False needs an integer number of steps, got "
                                 f"{steps!r}")
            y = [y[(slice(None),) * axis + (t,)] for t in range(steps)]
        return y, states

    def unpack_weights(self, args: Mapping[str, Any]) -> dict[str, Any]:
        """``args`` with MXNet's flat array ``{prefix}parameters`` replaced by the arrays of each gate (MXNet)."""
        return self._repacked(args, "mxnet", "mxnet_unpacked")

    def pack_weights(self, args: Mapping[str, Any]) -> dict[str, Any]:
        """The inverse of `unpack_weights`: the arrays of each gate, ``{prefix}l0_i2h_i_weight``, as one flat array."""
        return self._repacked(args, "mxnet_unpacked", "mxnet")

    def _repacked(self, args: Mapping[str, Any], source: str, to: str) -> dict[str, Any]:
        flat = f"{self.prefix}parameters"
        mine = {n for n in args if (n == flat if source == "mxnet" else _PART.match(n.removeprefix(self.prefix)))
                and n.startswith(self.prefix)}
        options: Options = {"mode": self.mode, "prefix": self.prefix}
        if source == "mxnet":
            options |= {"hidden": self.hidden, "layers": self.num_layers, "directions": self.directions}
            if self.projection is not None:
                options["projection"] = self.projection
        made = convert({n: args[n] for n in sorted(mine)}, source, to, target={"prefix": self.prefix}, **options)
        return {**{n: a for n, a in args.items() if n not in mine}, **made}

    @property
    def recurrent_depth(self) -> int:
        return self.num_layers

    def recurrent_weights(self, weights_only: bool = False) -> RecurrentWeights:
        if not self.built:
            raise TraceError(f"layer {self.path!r} has no weights yet; build it first: layer.build(input_shape)")
        return load(self.weights, "mxnet_cells", mode=self.mode, prefix=self.prefix)

    def set_recurrent_weights(self, weights: RecurrentWeights) -> None:
        mine = (self.mode, self.num_layers, self.directions)
        if mine != (weights.mode, weights.layers, weights.directions):
            raise TraceError(f"layer {self.path!r}: expected weights of {mine} (mode, layers, directions), got "
                             f"{(weights.mode, weights.layers, weights.directions)}")
        arrays = weights.to("mxnet_cells", prefix=self.prefix)
        biases = [n for n in arrays if n.endswith("_bias")]
        if not self.use_bias and any(np.any(arrays.pop(n) != 0) for n in biases):
            raise TraceError(f"layer {self.path!r} has use_bias=False; the bias of the weights would be lost")
        if not self.built:
            self.build((None, None, weights.input))
        self.set_weights({n: as_float32(a, f"layer {self.path!r}: {n}") for n, a in arrays.items()})

    # --- the computation ----------------------------------------------------------------------------------------

    def call(self, x: Tensor, initial_state: Tensor | Sequence[Tensor] | None = None,
             mask: Tensor | None = None, lengths: Tensor | None = None) -> Any:
        trace = active()
        b, time_major = trace.builder, self.layout == "TNC"
        self.expect(x, 3, f"layout {self.layout}")
        sequence = x.value() if time_major else b.transpose(x.value(), (1, 0, 2))
        keep, counts = time_mask(x, mask, time_major) if lengths is None else (None, lengths.value())
        initial = self._initial(sequence, initial_state)
        run = self._node if keep is None else self._scans
        y, *states = run(sequence, initial, counts, keep)
        out = wrap(y if time_major else b.transpose(y, (1, 0, 2)))
        if (given := own_mask(x, mask)) is not None:
            trace.time_masks[out.value()] = given
        names = [f"{trace.path}.{s['name']}" for s in self.state_info]
        return (out, *(wrap(v, n) for v, n in zip(states, names, strict=True))) if self.get_next_state else out

    def pass_mask(self, inputs: Sequence[Tensor], result: Any) -> None:
        """Nothing to do: `call` has."""

    def _initial(self, x: Value, given: Tensor | Sequence[Tensor] | None) -> list[Value]:
        trace = active()
        shapes = [tuple(x.shape[1] if d == "batch" else d for d in s["shape"]) for s in self.state_info]
        types = [x.type.with_shape(s) for s in shapes]
        names = [s["name"] for s in self.state_info]
        if given is not None:
            values = [given] if isinstance(given, Tensor) else list(given)
            if len(values) != len(types) or any(v.type != t for v, t in zip(values, types, strict=True)):
                expected = ", ".join(f"{n}: {t}" for n, t in zip(names, types, strict=True))
                raise ShapeError(f"expected the initial states {expected}, got "
                                 f"{', '.join(str(v.type) for v in values)}")
            return [v.value() for v in values]
        if trace.options.initial_state:
            return [trace.graph.add_input(t, f"{trace.path}.{n}0") for n, t in zip(names, types, strict=True)]
        return [trace.builder.zeros(t) for t in types]

    def _node(self, x: Value, initial: list[Value], lengths: Value | None, keep: Value | None) -> list[Value]:
        """One rnn op."""
        trace = active()
        rate = self.dropout if trace.options.training and self.num_layers > 1 else 0.0
        seeds = tuple(trace.mask_seed() for _ in range(self.num_layers - 1)) if rate else ()
        attrs = RnnAttrs(self.mode, self.hidden, self.num_layers, "bidirectional" if self.bidirectional else "forward",
                         lengths=lengths is not None, dropout=rate, seeds=seeds, proj=self.projection or 0)
        weights = [t.value() for part in self.parts() for t in self.tensors(part)]
        operands = (x, *initial, *(() if lengths is None else (lengths,)), *weights)
        return list(trace.builder.insert(make_op(RNN, operands, attrs, layer=trace.layer)).results)

    def tensors(self, part: Part) -> list[Tensor]:
        """W [I, G*H], R [H, G*H], bW, bR and P [H, P] where h is projected, as the node takes them."""
        w, r = (ops.transpose(self.weight(part, f"{n}_weight"), (1, 0)) for n in ("i2h", "h2h"))
        projection = [] if self.projection is None else [ops.transpose(self.weight(part, "h2r_weight"), (1, 0))]
        if self.use_bias:
            return [w, r, self.weight(part, "i2h_bias"), self.weight(part, "h2h_bias"), *projection]
        zero = wrap(active().builder.zeros(w.type.with_shape(w.shape[1:])))
        return [w, r, zero, zero, *projection]

    def _scans(self, x: Value, initial: list[Value], lengths: Value | None, keep: Value | None) -> list[Value]:
        """A scan per layer and direction."""
        trace, b = active(), active().builder
        rows: list[list[Value]] = [[] for _ in initial]
        outputs: list[Value] = []
        for k, part in enumerate(self.parts()):
            state = [b.reshape(b.slice(s, 0, k, 1), s.shape[1:]) for s in initial]
            with trace.scope(part.prefix.rstrip("_")), trace.sequence():
                cell = _Step(self, part)
                y, new = scanned(Loop(cell, cell.states, x, state, lengths, part.reverse, "zero", True, keep))
            outputs.append(y)
            for row, final in zip(rows, new, strict=True):
                row.append(b.reshape(final, (1, *final.shape)))
            if len(outputs) == self.directions:
                x, outputs = b.concat(outputs, 2), []
                if trace.options.training and self.dropout and part.layer + 1 < self.num_layers:
                    x = b.mul(x, trace.random_mask(b, x.shape, self.dropout, x.type.dtype))
        return [x, *(b.concat(row, 0) for row in rows)]


class _Step(Cell):
    """One step of one direction of one layer, on the weights of a FusedRNN."""

    def __init__(self, layer: FusedRNN, part: Part) -> None:
        super().__init__({s["name"]: s["shape"][-1] for s in layer.state_info})
        self.layer = layer
        self.part = part

    def step(self, x: Tensor, state: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        mode, count, h = self.layer.mode, GATES[self.layer.mode], state["h"]
        w, r, bw, br, *projection = self.layer.tensors(self.part)
        a, b = (ops.split(plus(v @ m, bias), count) for v, m, bias in ((x, w, bw), (h, r, br)))
        if mode == "lstm":
            i, f, g, o = (p + q for p, q in zip(a, b, strict=True))
            c = ops.sigmoid(f) * state["c"] + ops.sigmoid(i) * ops.tanh(g)
            h = ops.sigmoid(o) * ops.tanh(c)
            h = h @ projection[0] if projection else h
            return h, {"h": h, "c": c}
        if mode == "gru":
            r_gate, z = ops.sigmoid(a[0] + b[0]), ops.sigmoid(a[1] + b[1])
            n = ops.tanh(a[2] + r_gate * b[2])
            h = (1.0 - z) * n + z * h
        else:
            h = ops.tanh(a[0] + b[0]) if mode == "rnn_tanh" else ops.relu(a[0] + b[0])
        return h, {"h": h}
