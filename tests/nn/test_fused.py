"""FusedRNN: one node, against PyTorch; as cells and back; dropout, lengths, masks; arguments that do not fit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import rnngraph as rg
from rnngraph.errors import ShapeError, TraceError
from rnngraph.ir import Interpreter
from rnngraph.ir.ops import RANDOM_MASK
from rnngraph.nn import (
    RNN,
    BidirectionalCell,
    Cell,
    DropoutCell,
    FusedRNN,
    GRUCell,
    Input,
    LSTMCell,
    ResidualCell,
    SequentialCell,
    SimpleRNNCell,
    trace,
)
from rnngraph.weights import Options, assign, extract
from tests.nn.support import B, I, T, U, X, close, outputs, randomize, some

x = some(B, T, I)
LENGTHS = np.array([2, 5, 1], np.int32)
TOLERANCE = 1e-6  # float32 weights, float64 arithmetic on both sides
MODES: dict[str, tuple[str, dict[str, Any]]] = {
    "LSTM": ("LSTM", {}), "GRU": ("GRU", {}), "RNN_TANH": ("RNN", {}),
    "RNN_RELU": ("RNN", {"nonlinearity": "relu"}), "LSTM projected": ("LSTM", {"proj_size": 2})}


def pair(kind: str, layers: int, bidirectional: bool, *, bias: bool = True, dropout: float = 0.0,
         ) -> tuple[FusedRNN, Any]:
    """PyTorch's module in float64, and ours with its weights."""
    name, options = MODES[kind]
    torch.manual_seed(0)
    arguments: dict[str, Any] = {"num_layers": layers, "bidirectional": bidirectional, "bias": bias,
                                 "batch_first": True}
    module = getattr(torch.nn, name)(I, U, dropout=dropout, **arguments, **options)
    ours = FusedRNN.torch(kind.split()[0], I, U, dropout=dropout, name="r", **arguments,
                          proj_size=options.get("proj_size", 0))
    kinds = {"ih": "i2h", "hh": "h2h", "hr": "h2r"}
    weights = {}
    for key, value in module.state_dict().items():
        what, which, layer, *reverse = key.split("_")
        weights[f"{'r' if reverse else 'l'}{layer[1:]}_{kinds[which]}_{what}"] = value.numpy()
    assert set(weights) == set(ours.weights)
    ours.set_weights(weights)
    return ours, module.double()


def same(got: dict[str, Any], y: Any, state: Any) -> None:
    close(got["y"], y.detach().numpy(), TOLERANCE)
    for name, values in zip("hc", state if isinstance(state, tuple) else [state], strict=False):
        close(got[f"r.{name}"], values.detach().numpy(), TOLERANCE)


@pytest.mark.parametrize("kind", MODES)
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_same_as_torch(kind: str, layers: int, bidirectional: bool, bias: bool) -> None:
    ours, module = pair(kind, layers, bidirectional, bias=bias)
    graph = trace(ours, X)
    assert [op.name for op in graph.walk() if op.name in ("rnn", "scan")] == ["rnn"]
    y, state = module(torch.from_numpy(x).double())
    same(outputs(ours, {"x": x}), y, state)


@pytest.mark.parametrize("kind", MODES)
def test_lengths_and_initial_states_as_torch(kind: str) -> None:
    ours, module = pair(kind, 2, True)
    first = {n: some(*(B if d == "batch" else d for d in s["shape"]), seed=5)
             for n, s in ((s["name"], s) for s in ours.state_info)}
    packed = torch.nn.utils.rnn.pack_padded_sequence(torch.from_numpy(x).double(), torch.from_numpy(LENGTHS),
                                                     batch_first=True, enforce_sorted=False)
    given = tuple(torch.from_numpy(v).double() for v in first.values())
    y, state = module(packed, given if len(given) == 2 else given[0])
    y, _ = torch.nn.utils.rnn.pad_packed_sequence(y, batch_first=True, total_length=T)
    feeds = {"x": x, "lengths": LENGTHS, **{f"r.{n}0": v for n, v in first.items()}}
    same(outputs(ours, feeds, lengths=True, initial_state=True), y, state)
    # the same steps as a mask of which nobody knows that it says lengths: scans, not a node
    mask = np.arange(T) < LENGTHS[:, None]
    feeds = {k: v for k, v in feeds.items() if k != "lengths"} | {"mask": mask}
    assert not any(op.name == "rnn" for op in trace(ours, X, mask=True, initial_state=True).walk())
    same(outputs(ours, feeds, mask=True, initial_state=True), y, state)


@pytest.mark.parametrize("kind", MODES)
def test_native(kind: str) -> None:
    ours, module = pair(kind, 2, True)
    compiled = rg.compile(ours, X, target="cpu", threads=2)
    assert not any(op.impl.startswith("reference") for op in compiled.program.graph.block.ops)
    y, _ = module(torch.from_numpy(x).double())
    np.testing.assert_allclose(compiled(x)[0], y.detach().numpy(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ["GRU", "LSTM projected"])
def test_dropout_is_between_layers(kind: str) -> None:
    """One layer, the mask that the graph holds, the next layer: what PyTorch's modules of one layer give."""
    ours, module = pair(kind, 2, False, dropout=0.5)
    graph = trace(ours, X, training=True, seed=4)
    got = outputs(ours, {"x": x}, training=True, seed=4)["y"]
    node = next(op for op in graph.walk() if op.name == "rnn")
    assert node.attrs.dropout == 0.5  # type: ignore[attr-defined]
    expanded = graph.clone()
    rg.passes.run("expand-rnn", expanded)
    (mask_op,) = [op for op in expanded.walk() if op.opdef is RANDOM_MASK]
    interpreter = Interpreter({"batch": B, "time": T}, float64=True)
    interpreter.run_op(mask_op)
    mask = interpreter.env[mask_op.result].transpose(1, 0, 2)
    assert 0.2 < (mask == 0).mean() < 0.8
    name, options = MODES[kind]
    h = torch.from_numpy(x).double()
    for layer in range(2):
        one = getattr(torch.nn, name)(h.shape[-1], U, batch_first=True, **options).double()
        one.load_state_dict({k.replace(f"_l{layer}", "_l0"): v for k, v in module.state_dict().items()
                             if k.endswith(f"_l{layer}")})
        h, _ = one(h)
        h = h * torch.from_numpy(mask) if layer == 0 else h
    close(got, h.detach().numpy(), TOLERANCE)
    assert np.abs(outputs(ours, {"x": x})["y"] - got).max() > 1e-3  # and at inference there is none


@pytest.mark.parametrize("mode", ["lstm", "gru", "rnn_tanh", "rnn_relu"])
@pytest.mark.parametrize("options", [{}, {"bidirectional": True, "num_layers": 3}, {"use_bias": False}])
def test_as_cells_and_back(mode: str, options: dict[str, Any]) -> None:
    fused = FusedRNN(mode, U, layout="NTC", name="r", **options)
    randomize(fused)
    cells = fused.unfuse()
    close(outputs(RNN(cells, return_sequences=True), {"x": x})["y"], outputs(fused, {"x": x})["y"], TOLERANCE)
    back = FusedRNN.fuse(cells, name="r")
    assert (back.mode, back.hidden, back.num_layers, back.bidirectional, back.use_bias) == (
        mode, U, fused.num_layers, fused.bidirectional, fused.use_bias)
    for name, array in fused.weights.items():
        if mode == "gru" or not name.endswith("bias"):
            np.testing.assert_array_equal(back.weights[name], array)
    close(outputs(back, {"x": x})["y"], outputs(fused, {"x": x})["y"], TOLERANCE)


def test_cells_become_the_same_node() -> None:
    """What the compiler makes of the unfused cells of a two-layer LSTM is one rnn node again."""
    cells = FusedRNN("lstm", U, 2, bidirectional=True, dropout=0.3).unfuse()
    assert [type(c).__name__ for c in cells] == ["BidirectionalCell", "DropoutCell", "BidirectionalCell"]
    compiled = rg.compile(RNN(cells, return_sequences=True), X, target="cpu", threads=1)
    remarks = [str(r) for p in compiled.report.passes for r in p.remarks]
    assert any("one rnn node of 2 layers" in r for r in remarks)


def test_weights_start_as_mxnets() -> None:
    fused = FusedRNN("lstm", 3, forget_bias=1.5)
    fused.build((None, None, 2))
    assert {n: w.shape for n, w in fused.weights.items()} == {
        "lstm_l0_i2h_weight": (12, 2), "lstm_l0_h2h_weight": (12, 3), "lstm_l0_i2h_bias": (12,),
        "lstm_l0_h2h_bias": (12,)}
    assert fused.weights["lstm_l0_i2h_bias"].tolist() == [0.0] * 3 + [1.5] * 3 + [0.0] * 6


def test_pack_weights() -> None:
    fused = FusedRNN("gru", 3, 2, prefix="enc_")
    blob = some(3 * 3 * (2 + 3 + 2) + 3 * 3 * (3 + 3 + 2))
    other = some(2)
    gates = fused.unpack_weights({"enc_parameters": blob, "out_weight": other})
    assert len(gates) == 2 * 3 * 4 + 1
    assert gates["enc_l0_i2h_r_weight"].shape == (3, 2)
    np.testing.assert_array_equal(gates["enc_l0_i2h_r_weight"].ravel(), blob[:6])
    packed = fused.pack_weights(gates)
    assert set(packed) == {"enc_parameters", "out_weight"}
    np.testing.assert_array_equal(packed["enc_parameters"], blob)


@pytest.mark.parametrize(("make", "error", "message"), [
    (lambda: FusedRNN("ltsm", 4), TraceError, "layer 'fused_rnn': mode must be one of lstm, gru, rnn_tanh, rnn_relu"),
    (lambda: FusedRNN("lstm", 0), ShapeError, "hidden must be an int >= 1, got 0"),
    (lambda: FusedRNN("lstm", 4, 0), ShapeError, "num_layers must be an int >= 1, got 0"),
    (lambda: FusedRNN("lstm", 4, layout="NT"), TraceError, "layout must be one of NTC, TNC, got 'NT'"),
    (lambda: FusedRNN("gru", 4, projection=2), TraceError, "projection is for mode lstm, got mode gru"),
    (lambda: FusedRNN("gru", 4, dropout=1.5), TraceError, r"dropout must be in 0\.\.1, got 1.5"),
    (lambda: trace(FusedRNN("gru", 4, name="r"), Input(("batch", 3))), ShapeError, "layer 'r': .*rank 3.*NTC"),
    (lambda: FusedRNN("gru", 4, name="r").unroll(4, Input(("batch", 5, 3))), ShapeError,
     "layer 'r': expected inputs of 4 steps in layout NTC"),
    (lambda: FusedRNN("gru", 4)(Input(("batch", 5, 3)), [Input(("batch", 4))]), ShapeError,
     r"expected the initial states h: f32\[1,batch,4\], got f32\[batch,4\]"),
])
def test_bad_arguments(make: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize(("cells", "message"), [
    ([LSTMCell(4), GRUCell(4)], "cells of one kind, size.*got LSTMCell, GRUCell"),
    ([LSTMCell(4), LSTMCell(5)], "cells of one kind, size"),
    ([BidirectionalCell(GRUCell(4), GRUCell(4)), GRUCell(4)], "cells of one kind, size and number of directions"),
    ([ResidualCell(GRUCell(4))], "cell ResidualCell is none of lstm, gru, rnn_tanh, rnn_relu; it stays a cell"),
    ([LSTMCell(4, peepholes=True)], "cell LSTMCell has peepholes=True"),
    ([GRUCell(4, reset_after=False)], "cell GRUCell has reset_after=False"),
    ([SimpleRNNCell(4, "sigmoid")], "cell SimpleRNNCell has activation="),
    ([GRUCell(4), DropoutCell(0.5), GRUCell(4), DropoutCell(0.5)], "DropoutCells of one rate between all of them"),
    ([GRUCell(4), DropoutCell(0.5), GRUCell(4), GRUCell(4)], "DropoutCells of one rate between all of them"),
    ([], "expected cells with DropoutCells"),
])
def test_cells_that_do_not_fuse(cells: list[Cell], message: str) -> None:
    with pytest.raises(TraceError, match=message):
        FusedRNN.fuse(SequentialCell(cells))


@pytest.mark.parametrize("kind", MODES)
def test_weights_of_torch_by_the_canonical_form(kind: str) -> None:
    """rnngraph.weights.assign builds the layer and sets it; extract gives back what PyTorch has."""
    reference, module = pair(kind, 2, True)
    made = FusedRNN(reference.mode, U, 2, True, projection=reference.projection, name="r")
    state = {k: v.float().numpy() for k, v in module.state_dict().items()}
    options = Options(mode=reference.mode) if reference.mode.startswith("rnn") else Options()
    assign(made, state, "torch", **options)
    for name, array in reference.weights.items():
        np.testing.assert_array_equal(made.weights[f"{reference.mode}_{name}"], array)
    back = extract(made, "torch")
    assert set(back) == set(state)
    for name, array in back.items():
        np.testing.assert_array_equal(array, state[name])
    other = FusedRNN(reference.mode, U, 1)
    with pytest.raises(TraceError, match=r"expected weights of .*1, 1.* got .*2, 2"):
        assign(other, state, "torch", **options)
    with pytest.raises(TraceError, match="has no weights yet"):
        extract(FusedRNN(reference.mode, U, 1), "torch")
