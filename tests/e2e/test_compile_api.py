"""rnngraph.compile and CompiledModel: arrays in and out, variants, input errors, verification, threads."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest

import rnngraph as rg
from rnngraph import backends
from rnngraph.compiler import Options, build_program
from rnngraph.errors import (
    CompileError,
    ImportModelError,
    InputError,
    ParseError,
    RnngraphError,
    SelectionError,
)
from rnngraph.ir import F32, I32, I64, Builder, Graph, TensorType, Value, build_graph, evaluate, ops
from rnngraph.passes import pipeline
from rnngraph.report.numeric import random_inputs
from rnngraph.runtime.model import CompiledModel
from tests.testing import WITHOUT_LLVM

Values: TypeAlias = dict[str, Value]
SELECT = "select-implementation"
NEG = "graph @g(%x: f32[B,2]) { %y = neg %x : f32[B,2]  return y = %y }"


@pytest.fixture(autouse=True, scope="module")
def reference_only() -> Iterator[None]:
    """These tests are about the API, so they run on the backend that defines the numbers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backends, "BACKENDS", WITHOUT_LLVM)
        yield


def recurrence(lengths: bool = False, initial_state: bool = False) -> Graph:
    """What a SimpleRNN(4) over (batch, time, 3) traces to, with the weights of seed 0."""
    rng = np.random.default_rng(0)
    w, r = (rng.standard_normal((n, 4)).astype(np.float32) * 0.5 for n in (3, 4))
    inputs = {"x": TensorType(F32, ("batch", "time", 3))}
    if lengths:
        inputs["lengths"] = TensorType(I32, ("batch",))
    if initial_state:
        inputs["rnn.h0"] = TensorType(F32, ("batch", 4))

    def body(b: Builder, v: Values) -> Values:
        with b.named("rnn"):
            wv, rv = b.const(w, hint="w"), b.const(r, hint="r")
            h0 = v["rnn.h0"] if initial_state else b.full(0.0, ("batch", 4))

            def step(s: Builder, c: Values, x: Values) -> tuple[Values, Values]:
                h = s.tanh(s.add(s.matmul(x["x"], wv), s.matmul(c["h"], rv)))
                return {"h": h}, {"y": h}

            x = b.transpose(v["x"], (1, 0, 2))
            last, ys = b.scan({"h": h0}, {"x": x}, step, lengths=v.get("lengths"))
        return {"y": b.transpose(ys["y"], (1, 0, 2)), "rnn.h": last["h"]}

    return build_graph(inputs, body, "simple_rnn")


def variants() -> CompiledModel:
    options = Options("cpu", "f32", pipeline(SELECT))
    return CompiledModel(lambda v: build_program(recurrence(v.lengths, v.initial_state), options))


def embedding() -> Graph:
    def body(b: Builder, v: Values) -> Values:
        table = b.const(np.arange(10, dtype=np.float32).reshape(5, 2))
        with b.named("words"):
            return {"y": b.op(ops.GATHER, table, b.transpose(v["ids"], (1, 0)))}

    return build_graph({"ids": TensorType(I32, ("batch", "time"))}, body)


X = np.random.default_rng(1).standard_normal((2, 5, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def model() -> CompiledModel:
    return variants()


# --- running ---------------------------------------------------------------------------------------------


def test_runs_as_the_reference_does(model: CompiledModel) -> None:
    want = evaluate(recurrence(), {"x": X}, float64=True)
    y, h = model(X)
    np.testing.assert_allclose(y, want["y"], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(h, want["rnn.h"], rtol=1e-5, atol=1e-6)
    assert (model.input_names, model.output_names) == (("x",), ("y", "rnn.h"))
    assert y.dtype == np.float32


def test_by_name_and_run(model: CompiledModel) -> None:
    y, h = model(X)
    for got in (model(x=X), tuple(model.run({"x": X}).values())):
        np.testing.assert_array_equal(got[0], y)
        np.testing.assert_array_equal(got[1], h)
    assert list(model.run({"x": X})) == ["y", "rnn.h"]


def test_one_output_is_an_array() -> None:
    y = rg.compile(NEG, pipeline=SELECT)(np.ones((1, 2), np.float32))
    assert isinstance(y, np.ndarray)


def _unaligned(x: Any) -> Any:
    raw = np.zeros(x.nbytes + 1, np.uint8)[1:]
    out = raw.view(x.dtype).reshape(x.shape)
    out[...] = x
    assert not out.flags.aligned
    return out


@pytest.mark.parametrize("change", [
    lambda x: np.asfortranarray(x),
    lambda x: np.repeat(x, 2, axis=1)[:, ::2],
    lambda x: x[::-1, ::-1].copy()[::-1, ::-1],
    lambda x: x.astype(">f4"),
    _unaligned,
], ids=["fortran", "every-second", "negative-strides", "big-endian", "unaligned"])
def test_any_layout_of_the_input(model: CompiledModel, change: Callable[[Any], Any]) -> None:
    np.testing.assert_array_equal(model(change(X))[0], model(X)[0])


def test_inputs_are_not_written_and_outputs_are_new(model: CompiledModel) -> None:
    same = rg.compile("""graph @g(%x: f32[B]) {
      %k = const [1.0, 2.0] : f32[2]
      return x = %x, again = %x, k = %k
    }""", pipeline=SELECT)
    x = np.ones(3, np.float32)
    outs = same(x)
    for i, out in enumerate(outs):
        out[...] = 7
        assert (outs[i] == 7).all()
    assert (x == 1).all()
    assert same(x)[2].tolist() == [1.0, 2.0]
    assert same.explain().endswith("kernels\n  none: the outputs are inputs or constants\n")


def test_nan_and_infinity_are_values(model: CompiledModel) -> None:
    x = X.copy()
    x[0, 2] = np.nan
    y, _ = model(x)
    assert np.isnan(y[0, 2:]).all()
    assert np.isfinite(y[0, :2]).all()
    assert np.isfinite(y[1]).all()


@pytest.mark.parametrize(("shape", "y", "h"), [
    ((0, 5, 3), (0, 5, 4), (0, 4)),
    ((2, 0, 3), (2, 0, 4), (2, 4)),
])
def test_empty_batch_and_no_steps(model: CompiledModel, shape: Any, y: Any, h: Any) -> None:
    got = model(np.zeros(shape, np.float32))
    assert (got[0].shape, got[1].shape) == (y, h)
    state = np.full((shape[0], 4), 0.5, np.float32)
    np.testing.assert_array_equal(model(np.zeros(shape, np.float32), initial_state=state)[1], state)


def test_an_undefined_empty_result_is_an_input_error() -> None:
    first = rg.compile("""graph @g(%x: f32[T,2]) {
      %y = slice %x {axis = 0, start = 0, size = 1, step = 1} : f32[1,2]
      return y = %y
    }""", pipeline=SELECT)
    with pytest.raises(InputError, match="slice: start 0, size 1 do not fit axis 0 of size 0"):
        first(np.zeros((0, 2), np.float32))


# --- variants --------------------------------------------------------------------------------------------


def test_lengths_compile_a_variant_once() -> None:
    model = variants()
    y, h = model(X, lengths=[5, 2])
    assert (y[1, 2:] == 0).all()
    np.testing.assert_array_equal(h[1], y[1, 1])
    np.testing.assert_array_equal(y[0], model(X)[0][0])
    assert model.variant(lengths=True) is model.variant(lengths=True)
    assert model.variant(lengths=True).report.inputs == ("x: f32[batch,time,3]", "lengths: i32[batch]")
    np.testing.assert_array_equal(model.run({"x": X, "lengths": np.array([5, 2])})["y"], y)


def test_initial_state_by_array_sequence_and_name() -> None:
    model = variants()
    _, h = model(X[:, :2])
    y, last = model(X)
    for state in (h, [h], {"rnn.h0": h}, {"rnn.h": h}):
        tail, end = model(X[:, 2:], initial_state=state)
        np.testing.assert_allclose(tail, y[:, 2:], rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(end, last, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(model.run({"x": X[:, 2:], "rnn.h0": h})["y"], y[:, 2:], rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(model(X, initial_state={})[0], y)  # states that are not named start at zero
    both = model(X, lengths=[5, 5], initial_state={"rnn.h": np.zeros((2, 4), np.float32)})
    np.testing.assert_array_equal(both[0], y)


def test_threads_share_a_model() -> None:
    model = variants()
    rng = np.random.default_rng(2)
    inputs = [rng.standard_normal((1 + i % 3, 1 + i % 7, 3)).astype(np.float32) for i in range(24)]
    lengths = [np.full(len(x), x.shape[1], np.int32) for x in inputs]
    want = [model(x)[0] for x in inputs]
    with ThreadPoolExecutor(8) as pool:
        plain = list(pool.map(lambda x: model(x)[0], inputs))
        masked = list(pool.map(lambda i: model(inputs[i], lengths=lengths[i])[0], range(24)))
    for i, y in enumerate(want):
        np.testing.assert_array_equal(plain[i], y)
        np.testing.assert_array_equal(masked[i], y)


def layers() -> rg.Sequential:
    return rg.Sequential([
        rg.nn.Bidirectional(rg.nn.LSTM(6, return_sequences=True), name="bi"),
        rg.nn.GRU(4, return_state=True, name="gru"),
    ])


@pytest.mark.parametrize("how", [{}, {"lengths": True}, {"initial_state": True},
                                 {"lengths": True, "initial_state": True}], ids=str)
def test_layers_through_the_default_pipeline(how: dict[str, bool]) -> None:
    model = layers()
    given = rg.Input(("batch", "time", 3))
    compiled = rg.compile(model, given, verify="numeric")
    inputs = random_inputs(rg.trace(model, given, **how), {"batch": 2, "time": 5})
    want = evaluate(rg.trace(model, given, **how), inputs, float64=True)
    got = compiled.run(inputs)
    assert list(got) == list(want) == ["y", "gru.h"]
    for name in want:
        np.testing.assert_allclose(got[name], want[name], rtol=1e-5, atol=1e-6)
    applied = [str(r) for p in compiled.report.passes for r in p.remarks if r.kind == "applied"]
    assert any("merge-bidirectional: bi: " in remark for remark in applied)


def test_training_keeps_dropout_and_says_so_by_its_numbers() -> None:
    def make() -> rg.Sequential:
        return rg.Sequential([rg.nn.Dropout(0.5), rg.nn.LSTM(4)])

    x = np.ones((2, 5, 3), np.float32)
    plain, again, dropped = (rg.compile(make(), rg.Input(("batch", "time", 3)), training=t)(x)
                             for t in (False, False, True))
    np.testing.assert_array_equal(plain, again)
    assert np.abs(np.asarray(plain) - np.asarray(dropped)).max() > 1e-3


# --- bad inputs ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("given", "message"), [
    (X.astype(np.float64), "input 'x': expected f32[batch,time,3], got dtype float64; convert it first: "
                           "x.astype(numpy.float32)"),
    (X.astype(np.int32), "got dtype int32; convert it first"),
    (X > 0, "got dtype bool"),
    (X[0], "expected f32[batch,time,3] (rank 3), got shape (5, 3) (rank 2)"),
    (X[:, :, :2], "got shape (2, 5, 2) (axis 2 is 2, not 3)"),
    ([[1.0], [1.0, 2.0]], "got something that is no array"),
    (None, "got dtype object"),
    ("text", "got dtype <U4"),
], ids=["float64", "int", "bool", "rank", "features", "ragged", "none", "text"])
def test_bad_arrays(model: CompiledModel, given: Any, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        model(given)


@pytest.mark.parametrize(("call", "message"), [
    (lambda m: m(), "missing input(s) ['x']; the model takes ['x']"),
    (lambda m: m(X, X), "expected 1 input(s) ['x'], got 2 arrays"),
    (lambda m: m(X, x=X), "input 'x' is given twice"),
    (lambda m: m(X, z=X), "unknown input 'z'; the model takes ['x']"),
    (lambda m: m(X, lengths=[5, 6]),
     "input 'lengths': values must be in 0..5, the number of steps (layer 'rnn'); got 5..6"),
    (lambda m: m(X, lengths=[-1, 2]), "got -1..2"),
    (lambda m: m(X, lengths=[5.0, 2.0]), "input 'lengths': expected i32[batch], got dtype float64"),
    (lambda m: m(X, lengths=[5]), "dim 'batch' is 1 here but 2 in 'x'"),
    (lambda m: m(X, lengths=5), "expected i32[batch] (rank 1), got shape () (rank 0)"),
    (lambda m: m(X, lengths=[2**40, 1]), "do not fit int32"),
    (lambda m: m(X, initial_state=[]), "initial_state: expected one array for each of ['rnn.h0'], got 0"),
    (lambda m: m(X, initial_state={"gru.h": X}), "unknown state(s) ['gru.h']; the model has ['rnn.h0']"),
    (lambda m: m(X, initial_state=np.zeros((2, 3), np.float32)), "input 'rnn.h0': expected f32[batch,4]"),
    (lambda m: m.run({"x": X, "q": X}), "unknown state(s) ['q']"),
])
def test_bad_calls(model: CompiledModel, call: Callable[[CompiledModel], Any], message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        call(model)


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint8, ">i4"])
def test_indices_of_any_integer_dtype(dtype: Any) -> None:
    y = rg.compile(embedding(), pipeline=SELECT)(np.array([[0, 4]], dtype))
    np.testing.assert_array_equal(y, [[[0, 1]], [[8, 9]]])


@pytest.mark.parametrize(("ids", "message"), [
    ([[0, 5]], "input 'ids': values must be in 0..4, the table's last row (layer 'words'); got 0..5"),
    ([[-1, 0]], "got -1..0"),
    ([[0.0]], "input 'ids': expected i32[batch,time], got dtype float64"),
    ([[True]], "got dtype bool"),
])
def test_bad_indices(ids: Any, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        rg.compile(embedding(), pipeline=SELECT)(np.array(ids))


# --- compile's arguments ---------------------------------------------------------------------------------


def test_a_graph_text_and_file_compile_alike(tmp_path: Path) -> None:
    file = tmp_path / "neg.rg"
    file.write_text(NEG)
    x = np.ones((1, 2), np.float32)
    for given in (NEG, rg.ir.parse(NEG), file, str(file)):
        np.testing.assert_array_equal(rg.compile(given, pipeline=SELECT)(x), [[-1.0, -1.0]])


def test_a_graph_is_not_changed_by_compiling_it() -> None:
    graph = recurrence()
    before = graph.to_text()
    rg.compile(graph, pipeline=SELECT)
    assert graph.to_text() == before


def test_a_graph_with_lengths_takes_them_by_name() -> None:
    compiled = rg.compile(recurrence(lengths=True), pipeline=SELECT)
    np.testing.assert_array_equal(compiled(X, lengths=[3, 5])[0], compiled(X, [3, 5])[0])


@pytest.mark.parametrize(("kwargs", "error", "message"), [
    ({"target": "tpu"}, CompileError, "target 'tpu' is not available; choose from cpu, gpu, auto"),
    ({"precision": "f16"}, CompileError, "precision 'f16' is not available; choose from f32, tf32, bf16"),
    ({"precision": "tf32", "target": "cpu"}, CompileError, "precision 'tf32' is one of the gpu's; target cpu has f32"),
    ({"verify": "all"}, CompileError, "verify 'all' is not available"),
    ({"threads": 0}, CompileError, "threads must be a whole number >= 1 or None, got 0"),
    ({"dims": {"B": 10**400}}, CompileError, "dims gives sizes >= 0 by symbol, got {'B': 1000"),
    ({"dims": {"B": -1}}, CompileError, "dims gives sizes >= 0 by symbol, got {'B': -1}"),
    ({"pipeline": "no-such-pass"}, ParseError, "unknown pass 'no-such-pass'"),
    ({"pipeline": ""}, CompileError, "op 'neg' has no implementation; a pipeline must end with"),
    ({"inputs": 3}, CompileError, "graph 'g' has its inputs already"),
    ({"target": "gpu"}, SelectionError, "no implementation of neg for target gpu: cupy.rows: "),
])
def test_bad_arguments(kwargs: dict[str, Any], error: type[RnngraphError], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        rg.compile(NEG, **{"pipeline": SELECT, **kwargs})


@pytest.mark.parametrize(("model", "error", "message"), [
    ("model.tflite", ImportModelError,
     "cannot read model 'model.tflite': expected a layer of rnngraph.nn, a Graph, IR text"),
    (3, ImportModelError, "cannot read model int: expected a layer"),
    ("missing.rg", ImportModelError, "cannot read 'missing.rg'"),
    ("graph @g( { }", ParseError, "1:11: "),
])
def test_bad_models(model: Any, error: type[RnngraphError], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        rg.compile(model, pipeline=SELECT)


def test_lengths_of_a_graph_without_them() -> None:
    with pytest.raises(InputError, match=r"graph 'g' takes \['x'\]; for lengths=, mask= or initial_state= give"):
        rg.compile(NEG, pipeline=SELECT)(np.ones((1, 2), np.float32), lengths=[1])


# --- the package's face ----------------------------------------------------------------------------------


def test_import_is_lazy() -> None:
    code = ("import sys, rnngraph; heavy = {'numpy', 'networkx', 'llvmlite', 'cupy'} & set(sys.modules); "
            "assert not heavy, heavy; import rnngraph.compiler; "
            "heavy = {'networkx', 'llvmlite', 'cupy'} & set(sys.modules); assert not heavy, heavy")
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).resolve().parents[2])


def test_unknown_public_name() -> None:
    with pytest.raises(AttributeError, match="module 'rnngraph' has no attribute 'nothing'; it has"):
        rg.nothing  # noqa: B018
    assert set(dir(rg)) >= {"compile", "trace", "nn", "ir", "passes", "errors"}


def test_i64_lengths_graph() -> None:
    graph = recurrence(lengths=True)
    text = graph.to_text().replace("%lengths: i32", "%lengths: i64")
    compiled = rg.compile(text, pipeline=SELECT)
    assert compiled.program.plan.specs[1].type.dtype is I64
    assert (compiled(X, lengths=[1, 5])[0][0, 1:] == 0).all()
