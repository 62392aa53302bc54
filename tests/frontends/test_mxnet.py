"""MXNet models from files: Gluon exports, unrolled cells, the RNN operator, checkpoints; outputs are MXNet 1.9.1's."""

from __future__ import annotations

import base64
import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rnngraph as rg
from rnngraph.errors import CompileError, ConversionError, ImportModelError
from rnngraph.frontends.mxnet.attributes import Attributes
from rnngraph.frontends.mxnet.symbol import parse_symbol
from rnngraph.nn import FusedRNN, Input, trace
from rnngraph.weights.files import read, save
from tests.mxnet_outputs import CASES, DATA, TOLERANCE, recorded
from tests.nn.numpy_cells import Array


def near(a: Any, b: Any) -> None:
    assert a.shape == b.shape
    np.testing.assert_allclose(a, b, rtol=0, atol=TOLERANCE)


def symbol(nodes: list[dict[str, Any]], heads: list[list[int]], version: int = 10901) -> dict[str, Any]:
    return {"nodes": nodes, "arg_nodes": [], "heads": heads, "attrs": {"mxnet_version": ["int", version]}}


def var(name: str, **attrs: str) -> dict[str, Any]:
    return {"op": "null", "name": name, "inputs": [], **({"attrs": attrs} if attrs else {})}


def node(op: str, name: str, *inputs: int, **attrs: str) -> dict[str, Any]:
    return {"op": op, "name": name, "attrs": attrs, "inputs": [[i, 0, 0] for i in inputs]}


def written(tmp_path: Path, data: Any) -> Path:
    file = tmp_path / "m-symbol.json"
    file.write_text(data if isinstance(data, str) else json.dumps(data))
    return file


# --- whole models -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["lstm", "gru", "rnn"])
def test_gluon_exports(kind: str) -> None:
    data = recorded(f"gluon_{kind}_io")
    model = rg.from_mxnet(DATA / f"gluon_{kind}", 0)
    assert [str(x.type) for x in model.inputs] == ["f32[batch,time]"]
    assert [op.name for op in trace(model, model.inputs).walk() if op.name in ("rnn", "scan")] == ["rnn"]
    compiled = rg.compile(model, target="cpu", threads=1)
    assert compiled.output_names == ("net_dense0_fwd_output",)
    near(compiled(data["ids"]), data["y"])
    near(compiled(data["ids"][:1]), data["y"][:1])
    assert np.shape(compiled(data["ids"][:1, :4])) == (1, 4, 5)


@pytest.mark.parametrize("kind", ["lstm", "gru", "rnn"])
def test_unrolled_cells(kind: str) -> None:
    data = recorded(f"unrolled_{kind}_io")
    x, y = data.pop("data"), data.pop("y")
    compiled = rg.compile(DATA / f"unrolled_{kind}-symbol.json", params=data, target="cpu", threads=1)
    near(compiled(x), y)
    near(compiled(x[:1]), y[:1])


@pytest.mark.parametrize("name", CASES)
def test_the_operator(name: str, tmp_path: Path) -> None:
    """RNN by itself: mode, layers, directions, projection, states in and out, lengths; sizes follow from the blob."""
    data = recorded(name)
    kind, _, rest = name.partition("_l")
    mode, projected = ("lstm", True) if kind == "lstmp" else (kind, False)
    attrs = {"mode": mode, "num_layers": rest[0], "bidirectional": str("_bi" in name), "state_outputs": "True",
             "state_size": str(data["c0" if projected else "h0"].shape[-1]), "p": "0.5",
             "projection_size": str(data["h0"].shape[-1]) if projected else "None",
             "use_sequence_length": str("seqlen" in data)}
    states = ["h", *(["c"] if mode == "lstm" else [])]
    names = ["x", "blob", *states, *(["seqlen"] if "seqlen" in data else [])]
    rnn = node("RNN", "rnn", *range(len(names)), **attrs)
    heads = [[len(names), i, 0] for i in range(1 + len(states))]
    file = written(tmp_path, symbol([*map(var, names), rnn], heads))
    compiled = rg.compile(file, params={"blob": data["params"]}, target="cpu", threads=1)
    assert compiled.output_names == ("rnn_output", "rnn_state_output", "rnn_statecell_output")[: 1 + len(states)]
    inputs = {"x": data["x"], "h": data["h0"], **({"c": data["c0"]} if "c0" in data else {})}
    lengths = {"seqlen": data["seqlen"].astype(np.float32)} if "seqlen" in data else {}
    y, *finals = compiled.run({**inputs, **lengths}).values()
    for got, want in zip([y, *finals], [data["y"], data["hn"], *([data["cn"]] if "cn" in data else [])], strict=True):
        near(got, want)


def test_explain_speaks_of_the_nodes() -> None:
    model = rg.from_mxnet(DATA / "gluon_gru", 0)
    layers = {op.layer for op in trace(model, model.inputs).walk()}
    assert "net_gru0_rnn0" in layers
    assert "net_gru0_rnn0" in rg.compile(model, target="cpu").explain()


# --- checkpoints of mx.rnn ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [*sorted(DATA.glob("*.params"))], ids=lambda p: p.stem)
def test_params_round_trip_to_the_byte(path: Path, tmp_path: Path) -> None:
    save(tmp_path / "copy.params", read(path))
    assert (tmp_path / "copy.params").read_bytes() == path.read_bytes()


def test_dtypes_of_params(tmp_path: Path) -> None:
    found = {d: np.arange(6).reshape(2, 3).astype(d) for d in ("f4", "f8", "f2", "u1", "i4", "i1", "i8", "?")}
    save(tmp_path / "a.params", found)
    for name, array in read(tmp_path / "a.params").items():
        assert array.dtype == found[name].dtype
        np.testing.assert_array_equal(array, found[name])
    for bad, message in ((np.zeros(3, np.uint16), "expected one of bool"), (np.zeros(()), "reshape")):
        with pytest.raises(ImportModelError, match=message):
            save(tmp_path / "b.params", {"a": bad})


def test_checkpoint_of_fused_cells() -> None:
    """A file of mx.rnn.save_rnn_checkpoint: into the fused layer, and packed as the symbol wants it."""
    data = recorded("checkpoint_io")
    layer = FusedRNN("lstm", 3, num_layers=2, bidirectional=True)
    found = rg.load_rnn_checkpoint(layer, DATA / "checkpoint", 2)
    assert found.symbol == DATA / "checkpoint-symbol.json"
    assert not found.aux_params
    assert sorted(found.arg_params) == ["lstm_parameters", "pred_bias", "pred_weight"]
    for name, array in found.arg_params.items():
        np.testing.assert_array_equal(array, data[name])
    compiled = rg.compile(found.symbol, params=found.arg_params, target="cpu", threads=1)
    near(compiled(data["data"]), data["y"])
    hidden = rg.compile(layer, Input(("batch", "time", 6)), target="cpu", threads=1)(data["data"])
    near(hidden @ data["pred_weight"].T + data["pred_bias"], data["y"])


def test_a_checkpoint_is_written_to_the_byte(tmp_path: Path) -> None:
    layer = FusedRNN("lstm", 3, num_layers=2, bidirectional=True)
    symbol_, args, aux = rg.load_rnn_checkpoint(layer, DATA / "checkpoint", 2)
    assert symbol_ is not None
    path = rg.save_rnn_checkpoint(layer, tmp_path / "m", 3, args, aux, symbol_)
    assert path == tmp_path / "m-0003.params"
    got, want = read(path), read(DATA / "checkpoint-0002.params")
    assert got.keys() == want.keys()
    for name, array in want.items():
        np.testing.assert_array_equal(got[name], array)
    assert (tmp_path / "m-symbol.json").read_bytes() == symbol_.read_bytes()


@pytest.mark.parametrize(("mode", "both"), [("lstm", False), ("gru", True), ("rnn_tanh", False), ("rnn_relu", True)])
def test_fused_and_unfused_read_each_other(mode: str, both: bool, tmp_path: Path) -> None:
    fused = FusedRNN(mode, 4, num_layers=2, bidirectional=both, prefix="f_")
    fused.build((None, None, 3))
    rg.save_rnn_checkpoint(fused, tmp_path / "a", 0)
    cells = rg.nn.RNN(FusedRNN(mode, 4, num_layers=2, bidirectional=both, prefix="f_").unfuse(), return_sequences=True)
    found = rg.load_rnn_checkpoint({"f_": cells}, tmp_path / "a", 0)
    assert {n.split("_h2h")[0].split("_i2h")[0] for n in found.arg_params} == {
        f"f_{d}{i}" for d in "lr"[: 1 + both] for i in (0, 1)}
    x = np.random.default_rng(0).standard_normal((2, 5, 3)).astype(np.float32)
    near(rg.compile(cells, Input(("batch", "time", 3)))(x), rg.compile(fused, Input(("batch", "time", 3)))(x))
    rg.save_rnn_checkpoint({"f_": cells}, tmp_path / "b", 0)
    again = FusedRNN(mode, 4, num_layers=2, bidirectional=both, prefix="f_")
    rg.load_rnn_checkpoint(again, tmp_path / "b", 0)
    near(rg.compile(again, Input(("batch", "time", 3)))(x), rg.compile(fused, Input(("batch", "time", 3)))(x))


def test_checkpoint_errors(tmp_path: Path) -> None:
    layer = FusedRNN("gru", 3)
    save(tmp_path / "m-0000.params", {"arg:other_weight": np.zeros((2, 2), np.float32)})
    with pytest.raises(ImportModelError, match="has no arrays of a recurrent layer that begin with 'gru_'"):
        rg.load_rnn_checkpoint(layer, tmp_path / "m", 0)
    with pytest.raises(ImportModelError, match="epoch is a number >= 0, got -1"):
        rg.load_rnn_checkpoint(layer, tmp_path / "m", -1)
    with pytest.raises(ImportModelError, match="two recurrent layers have the prefix 'gru_'"):
        rg.save_rnn_checkpoint([layer, FusedRNN("gru", 2)], tmp_path / "m", 1)
    with pytest.raises(ConversionError, match="mode 'gru' was asked for, but the arrays have 4 gate"):
        rg.load_rnn_checkpoint(FusedRNN("gru", 3, prefix="lstm_"), DATA / "checkpoint", 2)


# --- files, versions, inputs --------------------------------------------------------------------------------------


def test_which_parameters(tmp_path: Path) -> None:
    for end in ("symbol.json", "0000.params"):
        shutil.copy(DATA / f"gluon_rnn-{end}", tmp_path / f"m-{end}")
    ids = recorded("gluon_rnn_io")["ids"]
    alone = rg.compile(tmp_path / "m-symbol.json")(ids)
    shutil.copy(tmp_path / "m-0000.params", tmp_path / "m-0012.params")
    with pytest.raises(ImportModelError, match=r"more than one file of parameters: m-0000\.params, m-0012\.params"):
        rg.from_mxnet(tmp_path / "m")
    near(rg.compile(rg.from_mxnet(tmp_path / "m", 12))(ids), alone)
    with pytest.raises(ImportModelError, match=r"m-0003\.params: there is no such file; there is m-0000\.params, m-"):
        rg.from_mxnet(tmp_path / "m", 3)
    with pytest.raises(ImportModelError, match="no such file"):
        rg.from_mxnet(tmp_path / "other")
    with pytest.raises(ImportModelError, match="expected a prefix, or symbol="):
        rg.from_mxnet()
    (tmp_path / "m-0012.params").unlink()
    (tmp_path / "m-0000.params").unlink()
    with pytest.raises(ImportModelError, match=r"the parameters \(none\) lack net_embedding0_weight"):
        rg.from_mxnet(tmp_path / "m")
    with pytest.raises(CompileError, match="params= is for an MXNet symbol"):
        rg.compile(rg.nn.LSTM(3), Input(("batch", "time", 2)), params={})


OLD_KEYS: dict[str, dict[str, Any]] = {
    "attrs": {"attrs": {"num_hidden": "3"}}, "attr": {"attr": {"num_hidden": "3", "ctx_group": "a"}},
    "param": {"param": {"num_hidden": "3"}, "attr": {"lr_mult": "2"}, "backward_source_id": -1}}


@pytest.mark.parametrize("keys", OLD_KEYS)
def test_old_files(keys: str, tmp_path: Path) -> None:
    """Before 0.9: param, inputs of two numbers, and no auxiliary states among the inputs."""
    version = {"attrs": 10901, "attr": 905, "param": 800}[keys]
    dense = {"op": "FullyConnected", "name": "fc", "inputs": [[0, 0], [1, 0], [2, 0]], **OLD_KEYS[keys]}
    norm: dict[str, Any] = {"op": "BatchNorm", "name": "bn", "inputs": [[3, 0], [4, 0], [5, 0]],
            **{keys: {"eps": "0.001", "fix_gamma": "False"}}}
    nodes = [var("data"), var("fc_weight"), var("fc_bias"), dense, var("bn_gamma"), var("bn_beta")]
    if version >= 900:
        nodes += [var("bn_moving_mean"), var("bn_moving_var")]
        norm["inputs"] = [[i, 0] for i in (3, 4, 5, 6, 7)]
    data: dict[str, Any] = {"nodes": [*nodes, norm], "heads": [[len(nodes), 0]], "arg_nodes": []}
    if version > 800:
        data["attrs"] = {"mxnet_version": ["int", version]}
    rng = np.random.default_rng(0)
    params = {n: rng.uniform(0.5, 1, (3, 2) if n == "fc_weight" else (3,)).astype(np.float32)
              for n in ("fc_weight", "fc_bias", "bn_gamma", "bn_beta", "bn_moving_mean", "bn_moving_var")}
    x = rng.standard_normal((4, 2)).astype(np.float32)
    h = x @ params["fc_weight"].T + params["fc_bias"]
    want = (h - params["bn_moving_mean"]) / np.sqrt(params["bn_moving_var"] + 1e-3) * params["bn_gamma"]
    save(tmp_path / "m-0000.params", {f"{'aux' if 'moving' in n else 'arg'}:{n}": a for n, a in params.items()})
    written(tmp_path, data)
    near(rg.compile(rg.from_mxnet(tmp_path / "m", 0))(x), want + params["bn_beta"])


def test_inputs(tmp_path: Path) -> None:
    file = written(tmp_path, symbol([var("a b"), var("c"), node("broadcast_add", "sum", 0, 1)], [[2, 0, 0]]))
    with pytest.raises(ImportModelError, match=r"input 'a b': its shape does not follow from the weights; give it as"):
        rg.compile(file)
    compiled = rg.compile(file, {"a b": Input(("batch", 3)), "c": Input((3,))})
    assert compiled.input_names == ("a b", "c")
    np.testing.assert_array_equal(compiled.run({"a b": np.ones((2, 3), np.float32), "c": np.ones(3, np.float32)})[
        "sum_output"], np.full((2, 3), 2, np.float32))
    with pytest.raises(ImportModelError, match="the model has no input 'd'; it has"):
        rg.from_mxnet(symbol=file, inputs={"d": (3,)})


def test_a_size_to_be_inferred_and_never_told(tmp_path: Path) -> None:
    zeros = node("_zeros", "start", shape="(0,3)")
    nodes = [var("x"), zeros, node("tanh", "t", 1), node("tanh", "u", 0)]
    file = written(tmp_path, symbol(nodes, [[2, 0, 0], [3, 0, 0]]))
    with pytest.raises(ImportModelError, match="cannot be inferred"):
        rg.from_mxnet(symbol=file, inputs={"x": ("batch", 3)})


def test_unsupported_ops_are_listed(tmp_path: Path) -> None:
    nodes = [var("x"), node("Custom", "mine", 0), node("_contrib_Odd", "odd", 0), node("elemwise_add", "sum", 1, 2)]
    file = written(tmp_path, symbol(nodes, [[3, 0, 0]]))
    with pytest.raises(ImportModelError, match=r"2 node\(s\) that are not supported: node 'mine' \(Custom\); "):
        rg.compile(file, {"x": Input(("batch", 3))})


# --- broken files -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("data", "message"), [
    ("{", "no JSON"), ("[" * 100_000, "no JSON"), ("[]", "no MXNet symbol"), ({"nodes": []}, "no MXNet symbol"),
    ({"nodes": [var("x")]}, "expected heads"), ({"nodes": [var("x")], "heads": [[5, 0, 0]]}, "uses node 5"),
    ({"nodes": [var("x")], "heads": [[0, 1, 0]]}, "uses output 1"), ({"nodes": [3], "heads": [[0, 0]]}, "node 0"),
    ({"nodes": [var("x")], "heads": [[0, -1, 0]]}, "uses output -1"),
    ({"nodes": [var("x")], "heads": [["a", 0]]}, "an input is"),
    (symbol([node("tanh", "a", 1), node("tanh", "b", 0)], [[1, 0, 0]]), "uses node 1, but only 0 nodes stand before"),
    (symbol([var("x"), {"op": "tanh", "name": "t", "inputs": 3}], [[1, 0, 0]]), "expected a list of inputs"),
    (symbol([var("x"), {"op": "tanh", "name": "t", "inputs": [], "attrs": {"a": 1}}], [[1, 0]]), "to be texts by name"),
    (symbol([var("x"), node("tanh", "t")], [[1, 0, 0]]), "not a sound node"),
    (symbol([var("x"), node("SliceChannel", "s", 0, num_outputs="1" + "0" * 12)], [[1, 0, 0]]), "outputs, got"),
    (symbol([var("x"), node("SliceChannel", "s", 0, num_outputs="nan")], [[1, 0, 0]]), "expected a whole number"),
    (symbol([var("x"), node("Reshape", "r", 0, shape="(-7,)")], [[1, 0, 0]]), "no code of a shape"),
    (symbol([var("x"), node("Reshape", "r", 0, shape=f"({'1,' * 5000})")], [[1, 0, 0]]), "at most 1024 numbers"),
    (symbol([var("x"), node("_zeros", "z", shape="(99999999999,99999999999)"), node("broadcast_add", "a", 0, 1)],
            [[2, 0, 0]]), "do not broadcast|do not fit"),
    (symbol([var("x"), node("_arange", "z", start="0", stop="1e30")], [[1, 0, 0]]), "is no range"),
    (symbol([var("x"), node("transpose", "t", 0, axes="(0,0)")], [[1, 0, 0]]), "perm must be a permutation"),
    (symbol([var("x"), node("Activation", "t", 0, act_type="__import__")], [[1, 0, 0]]), "expected one of relu"),
    (symbol([var("x"), node("Convolution", "c", 0, 0, kernel="(0,)", num_filter="3")], [[1, 0, 0]]), "a kernel"),
    (symbol([var("x"), node("RNN", "r", 0, 0, mode="lstm", num_layers="99999999", state_size="3")], [[1, 0, 0]]),
     "at most 1024 layers"),
    (symbol([var("x"), node("one_hot", "o", 0, depth="99999999999")], [[1, 0, 0]]), "expected a depth in"),
    (symbol([var("x"), node("Pooling", "p", 0, pool_type="lp", p_value="0", global_pool="1")], [[1, 0, 0]]),
     "p_value is"),
    (symbol([var("x"), {**node("_foreach", "f", 0, in_data_locs="(0,)", num_out_data="1", num_outputs="1"),
                        "subgraphs": []}], [[1, 0, 0]]), "expected one graph"),
])
def test_broken_symbols(data: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ImportModelError, match=message):
        rg.compile(written(tmp_path, data), [Input(("batch", 6))])


def test_graphs_in_graphs_end() -> None:
    inner: dict[str, Any] = symbol([var("x")], [[0, 0, 0]])
    for _ in range(20):
        inner = symbol([{"op": "_foreach", "name": "f", "inputs": [], "subgraphs": [inner]}], [[0, 0, 0]])
    with pytest.raises(ImportModelError, match="nested more than 8 deep"):
        parse_symbol(json.dumps(inner))


def test_cut_and_flipped_files_are_errors(tmp_path: Path) -> None:
    """Whatever stands in a symbol or its parameters: an ImportModelError, or a model."""
    rng = np.random.default_rng(0)
    texts = {end: (DATA / f"gluon_gru-{end}").read_bytes() for end in ("symbol.json", "0000.params")}
    outcomes = set()
    for trial in range(120):
        for end, data in texts.items():
            changed = bytearray(data)
            if end == ("symbol.json", "0000.params")[trial % 2]:
                for _ in range(rng.integers(1, 4)):
                    changed[rng.integers(0, len(changed) if end == "symbol.json" else 400)] = rng.integers(32, 127)
                if trial % 5 == 0:
                    changed = changed[: rng.integers(0, len(changed))]
            (tmp_path / f"m-{end}").write_bytes(bytes(changed))
        try:
            trace_of = rg.from_mxnet(tmp_path / "m", 0)
            trace(trace_of, trace_of.inputs)
            outcomes.add("model")
        except ImportModelError:
            outcomes.add("error")
    assert outcomes == {"model", "error"}


@pytest.mark.parametrize(("text", "want"), [("(1, 2)", (1, 2)), ("[1,2]", (1, 2)), ("3", (3,)), ("(3,)", (3,)),
                                            ("()", ()), ("(1L, 2L)", (1, 2)), ("( 4 ,-1 )", (4, -1))])
def test_attributes_of_numbers(text: str, want: tuple[int, ...]) -> None:
    assert Attributes({"a": text}, "node").ints("a") == want


@pytest.mark.parametrize("text", ["(1, None)", "1.5", "(1;2)", "__import__('os')", "9" * 40, "None"])
def test_what_is_no_number(text: str) -> None:
    with pytest.raises(ImportModelError, match=r"attribute a: expected (a )?whole number"):
        Attributes({"a": text}, "node").ints("a")


# --- MXNet 2 ------------------------------------------------------------------------------------------------------

GLUON2: dict[str, dict[str, Any]] = json.loads(gzip.decompress((DATA / "gluon2.json.gz").read_bytes()))


@pytest.mark.parametrize("name", GLUON2)
def test_exports_of_gluon_2(name: str, tmp_path: Path) -> None:
    """Its zero states have the batch of the export: they serve for any."""
    case = GLUON2[name]
    written(tmp_path, case["symbol"])
    (tmp_path / "m-0000.params").write_bytes(base64.b64decode(case["params"]))
    inputs, wanted = ([unpacked(p) for p in case[k]] for k in ("inputs", "outputs"))
    shapes = {n: ("batch", 3, 5) for n in case["names"]} if len(inputs) == 2 else None
    compiled = rg.compile(rg.from_mxnet(tmp_path / "m", 0, inputs=shapes), target="cpu", threads=1)
    got = compiled(*inputs)
    for a, b in zip(got if isinstance(got, tuple) else (got,), wanted, strict=True):
        near(a, b)
    one = compiled(*(x[:1] for x in inputs))
    if not isinstance(one, tuple):
        near(one, wanted[0][:1])


def unpacked(packed: list[Any]) -> Array:
    dtype, shape, data = packed
    return np.frombuffer(base64.b64decode(data), dtype).reshape(shape)


def test_unrolled_cells_are_recognised() -> None:
    """Copies of a step become one recurrence again, and leave as one LSTM in ONNX."""
    data = recorded("unrolled_lstm_io")
    data.pop("data"), data.pop("y")
    model = rg.from_mxnet(symbol=DATA / "unrolled_lstm-symbol.json", params=data)
    assert "the scan is an LSTM: now an rnn node" in rg.compile(model, target="cpu").explain()
    assert [n.op_type for n in rg.to_onnx(model).graph.node if n.op_type in ("LSTM", "Scan", "MatMul")] == ["LSTM"]
