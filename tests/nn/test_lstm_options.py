"""The options of LSTMCell and LSTM: against float64 numpy in native code, ONNX Runtime, and PyTorch."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch

import rnngraph as rg
from rnngraph.errors import ShapeError, TraceError
from rnngraph.nn import LSTM, RNN, LSTMCell, LSTMPCell, Sequential, StackedCells
from tests.nn.native_cells import assert_llvm, check_cell, close, filled, native
from tests.nn.numpy_cells import Array, run
from tests.nn.numpy_lstm import Options, lstm
from tests.nn.support import some

OPTIONS: dict[str, tuple[dict[str, Any], Options]] = {
    "clip": ({"clip": 0.4}, Options(clip=0.4)),
    "clip of peepholes": ({"clip": 0.3, "peepholes": True, "forget_bias": 1.0}, Options(clip=0.3, forget_bias=1.0)),
    "cell clip": ({"cell_clip": 0.2, "peepholes": True}, Options(cell_clip=(-0.2, 0.2))),
    "cell clip, a range": ({"cell_clip": (-0.05, 0.3)}, Options(cell_clip=(-0.05, 0.3))),
    "projection": ({"proj_size": 4}, Options()),
    "projection to more": ({"proj_size": 40, "use_bias": False}, Options()),
    "projection, clipped": ({"proj_size": 3, "proj_clip": 0.1, "cell_clip": 0.5, "peepholes": True},
                            Options(proj_clip=0.1, cell_clip=(-0.5, 0.5))),
    "forget bias": ({"forget_bias": 1.0, "unit_forget_bias": False}, Options(forget_bias=1.0)),
    "f = 1 - i": ({"input_forget": True}, Options(gates="ico")),
    "f = 1 - i, all": ({"input_forget": True, "peepholes": True, "clip": 0.7, "proj_size": 2, "cell_clip": 0.6},
                       Options(gates="ico", clip=0.7, cell_clip=(-0.6, 0.6))),
}


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("units", [1, 7, 33])
def test_against_numpy(name: str, units: int) -> None:
    arguments, options = OPTIONS[name]
    check_cell(LSTMCell(units, **arguments), partial(lstm, o=options))


def test_the_weights_of_a_projection() -> None:
    layer = filled(LSTM(6, proj_size=4, input_forget=True, peepholes=True), 5)
    assert {n: w.shape for n, w in layer.weights.items()} == {
        "kernel": (5, 18), "recurrent_kernel": (4, 18), "bias": (18,), "peephole_i": (6,), "peephole_o": (6,),
        "projection": (6, 4)}


def test_no_projection_is_none_or_zero() -> None:
    for size in (None, 0):
        assert "projection" not in filled(LSTM(6, proj_size=size), 5).weights


def test_the_forget_bias_starts_where_the_forget_gate_is() -> None:
    assert LSTMCell(2).initializers[2]((8,), np.random.default_rng(0)).tolist() == [0, 0, 1, 1, 0, 0, 0, 0]
    coupled = LSTMCell(2, input_forget=True)
    assert coupled.initializers[2]((6,), np.random.default_rng(0)).tolist() == [0] * 6


def test_lstmp_is_the_projected_lstm() -> None:
    x, first, second = some(2, 4, 5), RNN(LSTMPCell(6, 3)), LSTM(6, proj_size=3)
    filled(first, 5)
    second.build((None, None, 5))
    second.set_weights(first.weights)
    np.testing.assert_array_equal(native(first, 5)(x), native(second, 5)(x))


def test_in_a_stack_of_cells() -> None:
    layer = filled(RNN(StackedCells([LSTMCell(6, proj_size=3), LSTMCell(4, cell_clip=0.1)]), return_state=True), 5)
    x, compiled = some(3, 4, 5), native(layer, 5)
    steps = [lstm({k: v for k, v in layer.weights.items() if k.startswith(f"cell{i}")}, o)
             for i, o in enumerate((Options(), Options(cell_clip=(-0.1, 0.1))))]
    low, low_states = run(steps[0], x, [np.zeros((3, 3)), np.zeros((3, 6))])
    high, high_states = run(steps[1], low, [np.zeros((3, 4)), np.zeros((3, 4))])
    for got, want in zip(compiled(x), [high[:, -1], *low_states, *high_states], strict=True):
        close(got, want)
    assert_llvm(compiled)


# --- against other systems --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("layers", [1, 2])
def test_torch_projects_alike(layers: int, bidirectional: bool) -> None:
    torch.manual_seed(layers)
    module = torch.nn.LSTM(5, 7, layers, batch_first=True, bidirectional=bidirectional, proj_size=3)
    stack: list[Any] = []
    for _ in range(layers):
        one = LSTM(7, return_sequences=True, return_state=True, zero_output_for_mask=True, proj_size=3)
        stack.append(rg.nn.Bidirectional(one) if bidirectional else one)
    model = Sequential(stack)
    model.build((None, None, 5))
    arrays: list[Array] = []
    for end in (f"_l{k}{d}" for k in range(layers) for d in ("", "_reverse")[: 1 + bidirectional]):
        wi, wh, bi, bh, hr = (getattr(module, f"{n}{end}").detach().numpy()
                              for n in ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr"))
        arrays += [wi.T, wh.T, bi + bh, hr.T]
    model.set_weights(arrays)
    module = module.double()  # in float32, PyTorch warns that oneDNN has no projection
    compiled, x, lengths = native(model, 5), some(4, 9, 5), [9, 2, 5, 1]
    for given in (None, lengths):
        with torch.no_grad():
            if given is None:
                y, finals = module(torch.from_numpy(x).double())
            else:
                y, finals = module(torch.nn.utils.rnn.pack_padded_sequence(
                    torch.from_numpy(x).double(), given, batch_first=True, enforce_sorted=False))
                y, _ = torch.nn.utils.rnn.pad_packed_sequence(y, batch_first=True, total_length=9)
        got = dict(zip(compiled.output_names, compiled(x, lengths=given), strict=True))
        close(got["y"], y.numpy())
        for part, want in zip("hc", finals, strict=True):
            close(np.stack([v for k, v in got.items() if k.endswith(f".{part}")]), want.numpy())


def ort_lstm(cell: LSTMCell, weights: dict[str, Array], x: Array, **attributes: Any) -> tuple[Array, Array, Array]:
    """Y [T,B,H], Y_h, Y_c of ONNX Runtime's LSTM with a cell's weights, gates i, o, f, c."""
    u = cell.units

    def onnx_order(v: Array) -> Array:
        parts = dict(zip(cell.gate_names, np.split(v, len(cell.gate_names), axis=-1), strict=True))
        unread = np.full_like(parts["i"], 77.0)
        return np.concatenate([parts.get(g, unread) for g in "iofc"], axis=-1)

    b = np.concatenate([onnx_order(weights["bias"]), np.zeros(4 * u, np.float32)])
    feeds = {"X": x.transpose(1, 0, 2), "W": onnx_order(weights["kernel"]).T[None],
             "R": onnx_order(weights["recurrent_kernel"]).T[None], "B": b[None]}
    names = ["X", "W", "R", "B", "", "", ""]
    if cell.peepholes:
        feeds["P"] = np.concatenate([weights.get(f"peephole_{g}", np.zeros(u, np.float32)) for g in "iof"])[None]
        names.append("P")
    make, kinds = onnx.helper, onnx.TensorProto
    node = make.make_node("LSTM", names, ["Y", "Y_h", "Y_c"], hidden_size=u, **attributes)
    graph = make.make_graph(
        [node], "g", [make.make_tensor_value_info(n, kinds.FLOAT, a.shape) for n, a in feeds.items()],
        [make.make_tensor_value_info(n, kinds.FLOAT, None) for n in ("Y", "Y_h", "Y_c")])
    model = make.make_model(graph, opset_imports=[make.make_opsetid("", 14)], ir_version=8)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    y, h, c = session.run(None, {n: np.ascontiguousarray(a) for n, a in feeds.items()})
    return y[:, 0], h[0], c[0]


@pytest.mark.parametrize(("arguments", "attributes"), [
    ({"clip": 0.3}, {"clip": 0.3}),
    ({"clip": 0.3, "peepholes": True}, {"clip": 0.3}),
    ({"input_forget": True}, {"input_forget": 1}),
    ({"input_forget": True, "peepholes": True, "clip": 0.5}, {"input_forget": 1, "clip": 0.5}),
])
def test_onnx_runtime_clips_and_couples_alike(arguments: dict[str, Any], attributes: dict[str, Any]) -> None:
    cell = LSTMCell(6, **arguments)
    layer = filled(RNN(cell, return_sequences=True, return_state=True), 5)
    x = some(3, 8, 5) * np.float32(3.0)
    y, h, c = ort_lstm(cell, layer.weights, x, **attributes)
    for got, want in zip(native(layer, 5)(x), (y.transpose(1, 0, 2), h, c), strict=True):
        close(got, want)


# --- arguments ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("arguments", "error", "message"), [
    ({"units": 0}, ShapeError, "cell LSTMCell: units must be an int >= 1, got 0"),
    ({"proj_size": -1}, ShapeError, "cell LSTMCell: proj_size must be an int >= 1, got -1"),
    ({"proj_size": True}, ShapeError, "proj_size must be an int >= 1, got True"),
    ({"proj_clip": 1.0}, TraceError, "proj_clip=1.0 bounds a projection, and there is none; give proj_size too"),
    ({"proj_size": 2, "proj_clip": 0.0}, TraceError, "proj_clip must be above 0"),
    ({"cell_clip": -1.0}, TraceError, "cell_clip must be above 0"),
    ({"cell_clip": (1.0, 1.0)}, TraceError, "cell_clip must have low < high"),
    ({"cell_clip": (0.0, 1.0, 2.0)}, TraceError, r"cell_clip must be a number above 0, a pair \(low, high\) or None"),
    ({"cell_clip": (float("nan"), 1.0)}, TraceError, "cell_clip must be a finite number, got nan"),
    ({"clip": "1"}, TraceError, "clip must be a finite number, got '1'"),
    ({"clip": float("inf")}, TraceError, "clip must be a finite number, got inf"),
    ({"forget_bias": None}, TraceError, "forget_bias must be a finite number, got None"),
    ({"forget_bias": 1.0, "input_forget": True}, TraceError, "has no sum to add forget_bias=1.0 to"),
    ({"implementation": 3}, TraceError, "implementation must be 1 .* or 2 .*, got 3"),
])
def test_arguments(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        LSTM(**({"units": 4} | arguments))


def test_arguments_of_lstmp() -> None:
    with pytest.raises(ShapeError, match="cell LSTMPCell: projection_size must be an int >= 1, got 0"):
        LSTMPCell(4, 0)
    with pytest.raises(TraceError, match="cell LSTMPCell: give the size of the projection as projection_size alone"):
        LSTMPCell(4, 2, proj_size=2)


def test_a_projected_state_has_its_own_size() -> None:
    compiled = native(filled(LSTM(6, proj_size=3, name="p"), 5), 5)
    x = some(2, 4, 5)
    with pytest.raises(rg.errors.InputError, match=r"p\.h0"):
        compiled(x, initial_state={"p.h": np.zeros((2, 6), np.float32)})
    assert np.shape(compiled(x, initial_state={"p.h": np.zeros((2, 3), np.float32)})) == (2, 3)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(40))
def test_options_together(seed: int) -> None:
    """Any choice of options, at any size."""
    rng = np.random.default_rng(seed)

    def maybe(value: Any) -> Any:
        return value if rng.random() < 0.5 else None

    coupled, proj = bool(rng.random() < 0.3), maybe(int(rng.integers(1, 40)))
    low = -float(rng.uniform(0.05, 1.0))
    arguments: dict[str, Any] = {
        "peepholes": bool(rng.random() < 0.5), "use_bias": bool(rng.random() < 0.7), "clip": maybe(0.5),
        "cell_clip": maybe((low, 0.4)), "proj_size": proj, "proj_clip": maybe(0.2) if proj else None,
        "input_forget": coupled, "forget_bias": 0.0 if coupled else float(rng.normal())}
    options = Options("ico" if coupled else "ifco", arguments["clip"] or np.inf,
                      arguments["cell_clip"] or (-np.inf, np.inf), arguments["proj_clip"] or np.inf,
                      arguments["forget_bias"])
    check_cell(LSTMCell(int(rng.integers(1, 80)), **arguments), partial(lstm, o=options), int(rng.integers(1, 20)),
               seed=seed, sizes=((1, 40), (5, 7), (33, 3)))
