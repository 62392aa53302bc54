"""A FusedRNN as cells, and cells as a FusedRNN: which cells they are, and how the weights translate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from rnngraph.errors import TraceError
from rnngraph.ir import Array
from rnngraph.nn import ops
from rnngraph.nn.cell import Cell
from rnngraph.nn.cells import GRUCell, LSTMCell, SimpleRNNCell
from rnngraph.nn.initializers import Constant, UnitForgetBias
from rnngraph.nn.wrappers.bidirectional_cell import BidirectionalCell
from rnngraph.nn.wrappers.dropout import DropoutCell
from rnngraph.nn.wrappers.sequential import SequentialCell

if TYPE_CHECKING:
    from rnngraph.nn.fused import FusedRNN

KINDS = {"lstm": LSTMCell, "gru": GRUCell, "rnn_tanh": SimpleRNNCell, "rnn_relu": SimpleRNNCell}


def unfused(layer: FusedRNN) -> SequentialCell:
    """`FusedRNN.unfuse`."""
    stack = SequentialCell()
    features = layer.input_features
    for index in range(layer.num_layers):
        parts = [p for p in layer.parts() if p.layer == index]
        cells = [_new_cell(layer) for _ in parts]
        for part, cell in zip(parts, cells, strict=True):
            if features is not None:
                cell.ensure_built(features)
                cell.set_weights(_to_cell(layer.mode, layer.arrays(part)))
        stack.add(BidirectionalCell(*cells) if layer.bidirectional else cells[0])
        if layer.dropout and index + 1 < layer.num_layers:
            stack.add(DropoutCell(layer.dropout))
        features = None if features is None else layer.output_size
    return stack


def _new_cell(layer: FusedRNN) -> Cell:
    if layer.mode == "lstm":
        bias = UnitForgetBias(Constant(0.0), value=layer.forget_bias)
        return LSTMCell(layer.hidden, use_bias=layer.use_bias, bias_initializer=bias, unit_forget_bias=False,
                        proj_size=layer.projection)
    if layer.mode == "gru":
        return GRUCell(layer.hidden, use_bias=layer.use_bias)
    return SimpleRNNCell(layer.hidden, layer.mode.removeprefix("rnn_"), use_bias=layer.use_bias)


def _to_cell(mode: str, arrays: Mapping[str, Array]) -> dict[str, Array]:
    """MXNet's arrays of one part as the weights of a cell: transposed, GRU gates z, r, h, LSTM biases added."""
    named = {"kernel": "i2h_weight", "recurrent_kernel": "h2h_weight", "projection": "h2r_weight"}
    found = {ours: _swapped(mode, arrays[theirs]).T for ours, theirs in named.items() if theirs in arrays}
    if "i2h_bias" in arrays:
        biases = [_swapped(mode, arrays[f"{n}_bias"]) for n in ("i2h", "h2h")]
        found["bias"] = np.stack(biases) if mode == "gru" else np.asarray(biases[0] + biases[1])
    return found


def _swapped(mode: str, array: Array) -> Array:
    """The first two gates of a GRU in each other's place."""
    if mode != "gru":
        return array
    first, second, third = np.split(array, 3)
    return np.concatenate([second, first, third])


def fused_arguments(cells: SequentialCell) -> tuple[dict[str, Any], list[dict[str, Array]] | None, int | None]:
    """For `FusedRNN.fuse`: its arguments, MXNet's arrays of each part, and the input size; None for cells not built."""
    kept = [c for c in cells if not isinstance(c, DropoutCell)]
    rates = {c.rate for c in cells if isinstance(c, DropoutCell)}
    between = [isinstance(c, DropoutCell) for c in cells]
    expected = [i % 2 == 1 for i in range(2 * len(kept) - 1)] if rates else [False] * len(kept)
    if not kept or len(rates) > 1 or between != expected:
        raise TraceError("fuse: expected cells with DropoutCells of one rate between all of them, or without any, got "
                         f"{', '.join(type(c).__name__ for c in cells)}")
    both = isinstance(kept[0], BidirectionalCell)
    parts = [part for c in kept for part in ((c.l_cell, c.r_cell) if isinstance(c, BidirectionalCell) else (c,))]
    kinds = {_arguments(c) for c in parts}
    if len(kinds) != 1 or {isinstance(c, BidirectionalCell) for c in kept} != {both}:
        raise TraceError("fuse: expected cells of one kind, size and number of directions, got "
                         f"{', '.join(type(c).__name__ for c in parts)}")
    arguments = {**dict(kinds.pop()), "num_layers": len(kept), "bidirectional": both,
                 "dropout": rates.pop() if rates else 0.0}
    features = parts[0]._input_size
    if not isinstance(features, int) or any(c._input_size is None for c in parts):
        return arguments, None, None
    return arguments, [_from_cell(arguments["mode"], c.weights) for c in parts], features


def _arguments(cell: Cell) -> tuple[tuple[str, Any], ...]:
    """What a FusedRNN of this cell is made with; TraceError for a cell that no mode says."""
    modes = [m for m, kind in KINDS.items() if type(cell) is kind]
    plain: dict[str, Sequence[Any]] = {
        "dropout": (0.0,), "recurrent_dropout": (0.0,), "clip": (None,), "recurrent_activation": (ops.sigmoid,),
        "activation": (ops.tanh, ops.relu) if modes[:1] == ["rnn_tanh"] else (ops.tanh,), "peepholes": (False,),
        "cell_clip": (None,), "proj_clip": (None,), "forget_bias": (0.0,), "gate_names": ("ifco", "zrh", "h"),
        "reset_after": (True,)}
    odd = [n for n, fit in plain.items() if hasattr(cell, n) and getattr(cell, n) not in fit]
    if not modes or odd:
        why = f"has {', '.join(f'{n}={getattr(cell, n)!r}' for n in odd)}" if odd else f"is none of {', '.join(KINDS)}"
        raise TraceError(f"fuse: {cell.label} {why}; it stays a cell")
    assert isinstance(cell, LSTMCell | GRUCell | SimpleRNNCell)
    mode = "rnn_relu" if cell.activation is ops.relu else modes[0]
    return (("mode", mode), ("hidden", cell.units), ("projection", getattr(cell, "proj_size", None)),
            ("use_bias", cell.use_bias))


def _from_cell(mode: str, weights: Mapping[str, Array]) -> dict[str, Array]:
    """The inverse of `_to_cell`; a cell's one bias becomes the input's, and the recurrent one is zero."""
    named = {"i2h_weight": "kernel", "h2h_weight": "recurrent_kernel", "h2r_weight": "projection"}
    found = {theirs: _swapped(mode, weights[ours].T) for theirs, ours in named.items() if ours in weights}
    if "bias" in weights:
        bias = weights["bias"]
        rows = [_swapped(mode, b) for b in bias] if mode == "gru" else [bias, np.zeros_like(bias)]
        found |= {"i2h_bias": rows[0], "h2h_bias": rows[1]}
    return found
