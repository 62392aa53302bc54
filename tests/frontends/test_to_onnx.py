"""rg.to_onnx: models written as ONNX are valid, and ONNX Runtime computes what the IR's float64 evaluation does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import rnngraph as rg
from rnngraph import nn
from rnngraph.errors import ExportError
from rnngraph.ir import Graph, evaluate
from rnngraph.nn import Input, Layer, Tensor, ops
from tests.nn.numpy_cells import Array

TOLERANCE = 1e-5  # of the output's scale, against float64
DATA = Path(__file__).resolve().parent.parent / "data" / "mxnet"
BTC = Input(("batch", "time", 4))


class Function(Layer):
    """A function of tensors as a layer."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__("f")
        self.function = function

    def call(self, *inputs: Tensor) -> Any:
        return self.function(*inputs)


def normal(*shape: int) -> Array:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


X = normal(3, 7, 4)
LENGTHS = np.array([7, 2, 0], np.int32)


def session(proto: Any) -> Any:
    onnx.checker.check_model(proto, full_check=True)
    return onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])


def check(model: Any, inputs: Any, feeds: Mapping[str, Array], opset: int | None = None, **options: Any) -> Any:
    """The ONNX model, after comparing every output."""
    proto = rg.to_onnx(model, inputs=inputs, opset=opset, **options)
    got = session(proto).run(None, dict(feeds))
    graph = model if isinstance(model, Graph) else rg.trace(model, inputs, **options)
    want = evaluate(graph, dict(feeds), float64=True)
    assert len(got) == len(want)
    for a, b in zip(got, want.values(), strict=True):
        assert a.shape == b.shape
        assert (a.dtype.kind == b.dtype.kind) or b.dtype.kind == "f"
        scale = max(1.0, float(np.abs(b).max(initial=0))) if b.dtype.kind == "f" else 1.0
        np.testing.assert_allclose(a.astype(b.dtype), b, rtol=0, atol=TOLERANCE * scale)
    return proto


def ops_of(proto: Any) -> Counter[str]:
    return Counter(node.op_type for node in proto.graph.node)


# --- recurrences --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("layer", "node", "count"), [
    (nn.LSTM(5), "LSTM", 1), (nn.GRU(5, reset_after=True), "GRU", 1), (nn.GRU(5, reset_after=False), "GRU", 1),
    (nn.SimpleRNN(5), "RNN", 1), (nn.SimpleRNN(5, activation="relu", return_sequences=True), "RNN", 1),
    (nn.Bidirectional(nn.LSTM(5, return_sequences=True, return_state=True)), "LSTM", 1),
    (nn.LSTM(5, go_backwards=True, return_state=True), "LSTM", 1),
    (nn.FusedRNN("lstm", 4, num_layers=3, bidirectional=True, get_next_state=True), "LSTM", 3),
    (nn.FusedRNN("gru", 4, num_layers=2, layout="NTC"), "GRU", 2),
    (nn.LSTM(5, proj_size=3, return_sequences=True), "Scan", 1), (nn.LSTM(5, peepholes=True), "Scan", 1),
    (nn.LSTM(5, activation="relu"), "Scan", 1), (nn.RNN([nn.LSTMCell(4), nn.GRUCell(3)]), "Scan", 1),
], ids=lambda v: type(v).__name__ if isinstance(v, Layer) else str(v))
@pytest.mark.parametrize("lengths", [False, True])
def test_recurrent_layers(layer: Layer, node: str, count: int, lengths: bool) -> None:
    proto = check(layer, BTC, {"x": X, **({"lengths": LENGTHS} if lengths else {})}, lengths=lengths)
    found = ops_of(proto)
    assert (found[node], sum(found[n] for n in ("LSTM", "GRU", "RNN", "Scan", "Loop"))) == (count, count)


def test_initial_states_and_masks() -> None:
    states = {"m.h0": normal(3, 5), "m.c0": normal(3, 5)}
    assert ops_of(check(nn.LSTM(5, name="m"), BTC, {"x": X, **states}, initial_state=True))["LSTM"] == 1
    mask = np.random.default_rng(0).random((3, 7)) > 0.4
    check(nn.LSTM(5, return_sequences=True), BTC, {"x": X, "mask": mask}, mask=True)
    check(rg.Sequential([nn.Masking(), nn.GRU(3)]), BTC, {"x": X * (np.arange(7) % 3 > 0)[:, None]})
    words = np.random.default_rng(0).integers(0, 3, (3, 7)).astype(np.int32)
    embedded = rg.Sequential([nn.Embedding(10, 4, mask_zero=True), nn.GRU(3)])
    check(embedded, Input(("batch", "time"), "i32"), {"x": words})


def test_loops_by_row() -> None:
    """while_loop ends when all rows are done: a Loop."""
    v = Input(("batch", 1))
    last, steps = rg.while_loop(lambda v: v[:, 0] >= 1.0, lambda v: v * 0.5, v, max_steps=100)
    proto = check(nn.Model(v, [last, steps]), None, {"x": np.array([[6.0], [0.3], [1.0]], np.float32)})
    assert ops_of(proto)["Loop"] == 1
    average = rg.scan(lambda h, x: ((0.9 * h + 0.1 * x),) * 2, ops.zeros_like(BTC[:, 0]), ops.transpose(BTC, (1, 0, 2)))
    check(nn.Model(BTC, list(average)), None, {"x": X})


# --- other ops ----------------------------------------------------------------------------------------------------

FUNCTIONS: dict[str, Callable[..., Any]] = {
    "slices": lambda x: (x[:, 1:], x[:, ::2], x[:, -1], x[:, :3], x[:, -3:-1], x[:, -2:], ops.reverse(x, 1)),
    "reshapes": lambda x: tuple(ops.reshape(x, s) for s in (
        ("batch*time", 4), ("batch", "4*time"), (2, 2, "batch*time"), ("batch", 2, "time", 2),
        ("time", "batch", 4))),
    "joined": lambda x: (ops.concat([x, x[:, 1:]], 1), ops.tile(x, (2, 1, 3)),
                         ops.expand(x[:, :1], ("batch", "time", 4))),
    "sizes": lambda x: (ops.arange("time", "f32"), ops.arange("(time-9)//2+5", "f32"), ops.size_of("max(3,time)"),
                        ops.size_of("(time+1)//2", "f32") + x, ops.size_of("time*batch-3", "i64")),
    "reductions": lambda x: (ops.sum(x, 1), ops.mean(x, [0, 2], keepdims=True), ops.max(x), ops.min(x, 0),
                             ops.prod(x, 2)),
    "order": lambda x: (ops.argmax(x), ops.arg_largest(x, 1), ops.argmin(x, 1, last=True), *ops.top_k(x, 3, 1),
                        ops.cumsum(x, 1), ops.cumsum(x, 1, exclusive=True, reverse=True)),
    "activations": lambda x: tuple(f(x) for f in (
        ops.elu, ops.selu, ops.softplus, ops.softsign, ops.gelu, ops.silu, ops.hard_sigmoid, ops.relu6, ops.softmax)),
    "rounding": lambda x: tuple(f(x * 3.0) for f in (ops.floor, ops.ceil, ops.round, ops.sign, ops.abs, ops.relu)),
    "trigonometry": lambda x: tuple(f(ops.tanh(x)) for f in (
        ops.sin, ops.cos, ops.tan, ops.asin, ops.acos, ops.atan, ops.sinh, ops.cosh, ops.asinh, ops.atanh, ops.erf)),
    "remainders": lambda x: (ops.mod(x, 0.7), ops.mod(x, -0.7), ops.fmod(x, 0.7), ops.mod(ops.cast(x * 10, "i32"), 3),
                             ops.fmod(ops.cast(x * 10, "i32"), 3)),
    "comparisons": lambda x: (x > 0, x <= 0.5, ops.equal(x, x), ops.not_equal(x, 0.0), (x > 0) & ~(x > 1),
                              ops.where(x > 0, x, 0.0), ops.cast(x > 0, "f32"), ops.cast(x * 5, "i32")),
    "powers": lambda x: (ops.exp(x) ** 1.5, x / 2.0, 2.0 - x, ops.sqrt(ops.exp(x)), ops.log(ops.exp(x)), -x),
    "bits": lambda x: (ops.bitwise_and(ops.cast(x * 9, "i32"), 5), ops.bitwise_not(ops.cast(x * 9, "i32"))),
    "products": lambda x: (ops.einsum("btc,bsc->bts", x, x), x @ ops.reshape(ops.arange(8, "f32"), (4, 2))),
    "normal": lambda x: (ops.layer_norm(x), ops.rms_norm(x), ops.instance_norm(x)),
    "padded": lambda x: (ops.pad(x, (0, 2, 0), (0, 1, 3)), ops.pad(x, (0, 1, 0), (0, 1, 0), "reflect"),
                         ops.pad(x, (0, 1, 0), (0, 1, 0), "constant", 2.5)),
    "pooled": lambda x: (ops.max_pool(x, (2,)), ops.average_pool(x, (3,), strides=2, padding=1), ops.lp_pool(x, (2,)),
                         ops.average_pool(x, (3,), strides=2, padding=1, count_padding=True),
                         ops.max_pool(x, (2,), ceil=True), *ops.max_pool_with_indices(x, (2,), strides=1)),
    "convolved": lambda x: (ops.conv(x, ops.reshape(ops.arange(24, "f32") * 0.1, (3, 4, 2))),
                            ops.conv(x, ops.reshape(ops.arange(24, "f32") * 0.1, (3, 4, 2)), strides=2, dilation=2),
                            ops.conv_transpose(x, ops.reshape(ops.arange(24, "f32") * 0.1, (3, 4, 2)), strides=2)),
    "one of two": lambda x: (ops.one_hot(ops.argmax(x), 4), ops.trilu(x), ops.isnan(x)),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(name: str) -> None:
    check(Function(FUNCTIONS[name]), BTC, {"x": X})


def test_reading_by_index() -> None:
    places = Input(("n",), "i32", "i")
    check(Function(lambda x, i: (ops.take(x, i, 1), ops.take(x, i, 0))), [BTC, places],
          {"x": X, "i": np.array([1, 2], np.int32)})
    rows = Input(("batch", "time", 2), "i64", "i")
    index = np.random.default_rng(0).integers(0, 2, (3, 7, 2))
    check(Function(lambda x, i: (ops.gather_elements(x, i, 2), ops.gather_nd(x, i), ops.scatter_elements(
        x, i, ops.cast(i, "f32"), 2, "add"))), [BTC, rows], {"x": X, "i": index})
    ends = Input(("batch",), "i32", "n")
    check(Function(lambda x, n: ops.reverse_sequence(x, n)), [BTC, ends], {"x": X, "n": LENGTHS})


def test_images() -> None:
    model = rg.Sequential([nn.Conv2D(6, 3, strides=2, padding="same"), nn.MaxPooling2D(2), nn.Flatten(), nn.Dense(3)])
    check(model, Input(("batch", 8, 8, 4)), {"x": normal(2, 8, 8, 4)})
    model = rg.Sequential([nn.Conv1D(6, 3, padding="same"), nn.BatchNormalization(), nn.LSTM(3)])
    check(model, BTC, {"x": X})


# --- random architectures -----------------------------------------------------------------------------------------

UNITS = st.integers(1, 5)
RECURRENT = st.one_of(
    st.builds(nn.LSTM, UNITS, return_sequences=st.just(True), activation=st.sampled_from(["tanh", "tanh", "relu"])),
    st.builds(nn.GRU, UNITS, return_sequences=st.just(True), reset_after=st.booleans()),
    st.builds(nn.SimpleRNN, UNITS, return_sequences=st.just(True), activation=st.sampled_from(["tanh", "relu"])))
LAYERS = st.one_of(
    RECURRENT, st.builds(nn.Bidirectional, RECURRENT, merge_mode=st.sampled_from(["concat", "sum", "mul"])),
    st.builds(nn.Dense, UNITS, activation=st.sampled_from([None, "relu", "softmax"])),
    st.builds(nn.Conv1D, UNITS, st.integers(1, 3), padding=st.sampled_from(["same", "causal"])),
    st.builds(lambda n, m: nn.RNN([nn.LSTMCell(n), nn.MinimalGatedUnitCell(m)], return_sequences=True), UNITS, UNITS),
    st.builds(nn.LayerNormalization), st.builds(nn.TimeDistributed, st.builds(nn.Dense, UNITS)),
    st.builds(nn.Dropout, st.just(0.5)))


@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(layers=st.lists(LAYERS, min_size=1, max_size=4), last=st.booleans(), batch=st.integers(1, 3),
       steps=st.integers(1, 6), features=st.integers(1, 4), lengths=st.booleans())
def test_random_architectures(layers: Sequence[Layer], last: bool, batch: int, steps: int, features: int,
                              lengths: bool) -> None:
    model = rg.Sequential([*layers, nn.GRU(3, return_sequences=not last)])
    given = {"x": normal(batch, steps, features)}
    ends = {"lengths": np.random.default_rng(steps).integers(0, steps + 1, batch).astype(np.int32)} if lengths else {}
    check(model, Input(("batch", "time", features)), {**given, **ends}, lengths=lengths)


# --- the model itself ---------------------------------------------------------------------------------------------


def test_names_sizes_and_opsets() -> None:
    model = rg.Sequential([nn.Bidirectional(nn.LSTM(4, return_sequences=True)), nn.LSTM(3, activation="relu"),
                           nn.Dense(2)])
    for opset in range(18, 24):
        proto = check(model, BTC, {"x": X}, opset=opset)
        assert [(o.domain, o.version) for o in proto.opset_import] == [("", opset)]
    shape = proto.graph.input[0].type.tensor_type.shape.dim
    assert [(d.dim_param or d.dim_value) for d in shape] == ["batch", "time", 4]
    longer = rg.to_onnx(Function(lambda x: x[:, ::2]), inputs=BTC)
    assert longer.graph.output[0].type.tensor_type.shape.dim[1].dim_param == "(time+1)//2"
    names = [n.name for n in proto.graph.node]
    assert len(set(names)) == len(names)
    assert any(n.startswith("bidirectional/") for n in names)
    with pytest.raises(ExportError, match=r"opset must be in 18\.\.23, got 17"):
        rg.to_onnx(model, inputs=BTC, opset=17)


def test_outputs_that_are_inputs_or_twice_there() -> None:
    graph = rg.ir.parse("graph @g(%x: f32[B,4]) { %a = neg %x : f32[B,4]  return y = %a, z = %a, w = %x }")
    proto = check(graph, None, {"x": normal(2, 4)})
    assert [o.name for o in proto.graph.output] == ["y", "z", "w"]


def test_a_model_comes_back(tmp_path: Path) -> None:
    """What is written is read again: the same fused form, the same bits."""
    model = rg.Sequential([nn.Bidirectional(nn.LSTM(6, return_sequences=True)), nn.GRU(5, return_sequences=True),
                           nn.LSTM(4, activation="relu", return_sequences=True), nn.Dense(3)])
    proto = rg.to_onnx(model, tmp_path / "m.onnx", BTC)
    back = rg.compile(tmp_path / "m.onnx", target="cpu", threads=1)
    assert (back.input_names, back.output_names) == (("x",), ("y",))
    np.testing.assert_allclose(back(X), rg.compile(model, BTC, target="cpu", threads=1)(X), rtol=0, atol=1e-6)
    again = rg.to_onnx(tmp_path / "m.onnx")
    assert ops_of(again) == ops_of(proto)
    np.testing.assert_array_equal(session(again).run(None, {"x": X})[0], session(proto).run(None, {"x": X})[0])


def test_models_from_elsewhere() -> None:
    """An MXNet model in ONNX Runtime: its names stay."""
    with np.load(DATA / "gluon_lstm_io.npz") as data:
        proto = rg.to_onnx(rg.from_mxnet(DATA / "gluon_lstm", 0))
        run = session(proto)
        assert [i.name for i in run.get_inputs()] == ["data"]
        assert [o.name for o in run.get_outputs()] == ["net_dense0_fwd_output"]
        np.testing.assert_allclose(run.run(None, {"data": data["ids"]})[0], data["y"], rtol=0, atol=2e-6)


def test_foreign_names_stay(tmp_path: Path) -> None:
    """Whatever characters they have."""
    make = onnx.helper
    info = [make.make_tensor_value_info(n, 1, ["n"]) for n in ("in put:0", "out/put:0")]
    graph = make.make_graph([make.make_node("Neg", ["in put:0"], ["out/put:0"])], "g", info[:1], info[1:])
    onnx.save(make.make_model(graph, opset_imports=[make.make_opsetid("", 20)], ir_version=10), tmp_path / "m.onnx")
    run = session(rg.to_onnx(tmp_path / "m.onnx"))
    assert (run.get_inputs()[0].name, run.get_outputs()[0].name) == ("in put:0", "out/put:0")


def test_what_cannot_be_written() -> None:
    graph = rg.trace(rg.Sequential([nn.Dropout(0.5, name="drop"), nn.Dense(2)]), BTC, training=True)
    with pytest.raises(ExportError, match=r"1 op\(s\) cannot be written as ONNX: random_mask of layer 'drop'"):
        rg.to_onnx(graph)
    graph = rg.ir.parse("graph @g(%x: bf16[B,4]) { %a = neg %x : bf16[B,4]  return y = %a }")
    with pytest.raises(ExportError, match="values of bf16 cannot be written"):
        rg.to_onnx(graph)
