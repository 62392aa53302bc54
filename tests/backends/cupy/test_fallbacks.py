"""What has no kernel of ours: ops one by one as CuPy computes them, and on the host."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import rnngraph as rg
from rnngraph import nn
from rnngraph.backends.cupy.interpreted import HOST_LOOP, INTERPRETED, ON_HOST, DeviceInterpreter
from rnngraph.ir import OPS, Interpreter, evaluate, parse
from tests.backends.cupy.fake_cupy import array as fake
from tests.backends.cupy.fake_cupy import namespace
from tests.backends.cupy.on_shim import needs_compiler
from tests.ir.test_ops import CASES, INPUTS

F = "f32[B,4]"
UNARY = ("ceil", "round", "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "asinh", "acosh", "atanh")
MORE: dict[str, tuple[str, str]] = {
    **{name: (f"{name} %x", F) for name in UNARY},
    **{name: (f"{name} %i, %i", "i32[5]") for name in ("bit_and", "bit_or", "bit_xor", "shift_left", "shift_right")},
    "bit_not": ("bit_not %i", "i32[5]"), "mod": ("mod %x, %z", F), "rem": ("rem %x, %z", F),
    "cumsum": ("cumsum %x {axis = 1, exclusive = true, reverse = true}", F),
    "take": ("take %w, %i {axis = 0}", "f32[5,5]"), "gather_elements": ("gather_elements %i, %i {axis = 0}", "i32[5]"),
    "gather_nd": ("gather_nd %w, %n", "f32[5,5]"), "argmax": ("argmax %x {axis = 1}", "i64[B]"),
    "argmin": ("argmin %x {axis = 1, last = true}", "i64[B]"),
    "pool": ("pool %image {kind = max, window = [2, 2], strides = [1, 1], low = [0, 0], high = [0, 0], "
             "dilation = [1, 1]}", "f32[3,3,4,2]"),
    "top_k": ("top_k %x {axis = 1, k = 2}", "f32[B,2], i64[B,2]"),
    "scatter_elements": ("scatter_elements %i, %i, %i {axis = 0}", "i32[5]"),
    "scatter_nd": ("scatter_nd %w, %n, %v", "f32[4,5]"),
}
GIVEN = {**INPUTS, "n": ("i32[5,1]", np.array([[3], [0], [2], [2], [1]], np.int32)),
         "v": ("f32[5,5]", np.ones((5, 5), np.float32))}


class Opened:
    """A device of the double."""

    xp = namespace()
    place = object()


@pytest.mark.parametrize("name", sorted(set(OPS) - {"scan", "rnn", "yield", "return"}))
def test_evaluations_on_arrays_of_cupy(name: str) -> None:
    """CuPy's arrays neither become numpy's by themselves nor mix with them: `ON_HOST` are all that need that."""
    line, result = MORE[name] if name in MORE else CASES[name][:2]
    args = ", ".join(f"%{n}: {t}" for n, (t, _) in GIVEN.items())
    left = ", ".join(f"%y{k}" for k in range(result.count("[")))
    graph = parse(f"graph @g({args}) {{ {left} = {line} : {result}  return y = %y0 }}")
    (op,) = graph.block.body
    device, numpy = DeviceInterpreter(Opened(), {"B": 3}), Interpreter({"B": 3})  # type: ignore[arg-type]
    for v, (_, array) in zip(graph.inputs, GIVEN.values(), strict=True):
        device.bind(v, fake.array(array))  # type: ignore[arg-type]
        numpy.bind(v, array)
    if name in ON_HOST:
        with pytest.raises(TypeError):
            device.run_op(op)
        return
    device.run_op(op)
    with np.errstate(all="ignore"):
        numpy.run_op(op)
    for v in op.results:
        got: Any = device.env[v]
        assert isinstance(got, fake.ndarray)
        assert got.dtype == numpy.env[v].dtype
        np.testing.assert_array_equal(got.get(), numpy.env[v])


class Nested(nn.Cell):
    """A step that is a loop itself."""

    def __init__(self, units: int) -> None:
        super().__init__({"h": units})
        self.inner = nn.GRU(units)

    def step(self, x: Any, state: Any) -> Any:
        h = self.inner(nn.ops.reshape(x, (*x.shape[:1], 3, 2))) + 0.5 * state["h"]
        return h, {"h": h}


SCAN = """graph @g(%x: DTYPE[T,B,4], %h0: DTYPE[B,4], %w: DTYPE[4,4], %d: DTYPE[4,4], %l: i32[B]) {
  %r = mul %w, %d : DTYPE[4,4]
  %h, %y = scan carry(h = %h0) over(x = %x) lengths(%l) {steps = T, pad = repeat} {
  ^(%hh: DTYPE[B,4], %xt: DTYPE[B,4]):
    %a = matmul %hh, %r : DTYPE[B,4]
    %b = add %a, %xt : DTYPE[B,4]
    %c = OP %b : DTYPE[B,4]
    yield carry(h = %c) emit(y = %c)
  } : DTYPE[B,4], DTYPE[T,B,4]
  return h = %h, y = %y
}
"""


@needs_compiler
@pytest.mark.parametrize(("dtype", "op", "impl", "tolerance"), [
    ("f64", "tanh", INTERPRETED, 1e-14), ("f32", "tanh", INTERPRETED, 1e-6), ("f16", "tanh", INTERPRETED, 2e-3),
    ("f64", "erf", HOST_LOOP, 1e-14), ("f32", "tanh", HOST_LOOP, 1e-6),
])
def test_loops_without_phases(dtype: str, op: str, impl: str, tolerance: float,
                              monkeypatch: pytest.MonkeyPatch) -> None:
    """Other precisions, and weights that a call computes."""
    monkeypatch.setenv("RNNGRAPH_GPU", "shim")
    graph = parse(SCAN.replace("DTYPE", dtype).replace("OP", op))
    gpu = rg.compile(graph, target="gpu", pipeline="select-implementation,schedule-phases",
                     without=[] if impl == HOST_LOOP and op == "erf" else [*{INTERPRETED, HOST_LOOP} - {impl}])
    assert impl in {o.impl for o in gpu.program.graph.block.ops}
    rng, kind = np.random.default_rng(0), {"f16": np.float16, "f32": np.float32, "f64": np.float64}[dtype]
    for batch in (3, 1):
        given = {n: rng.standard_normal(s).astype(kind) for n, s in (
            ("x", (5, batch, 4)), ("h0", (batch, 4)), ("w", (4, 4)), ("d", (4, 4)))}
        given["l"] = rng.integers(0, 6, batch).astype(np.int32)
        wanted = evaluate(graph, given, float64=True)
        for got, want in zip(gpu(*(given[n] for n in graph.input_names)), wanted.values(), strict=True):
            np.testing.assert_allclose(got, want, rtol=0, atol=tolerance)


@needs_compiler
def test_a_loop_in_a_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RNNGRAPH_GPU", "shim")
    given = rg.Input(("batch", "time", 6))
    layer = nn.RNN(Nested(4))
    cpu, gpu = rg.compile(layer, given, target="cpu"), rg.compile(layer, given, target="gpu", without=[HOST_LOOP])
    assert INTERPRETED in gpu.explain()
    x = np.random.default_rng(0).standard_normal((3, 5, 6)).astype(np.float32)
    for _ in range(2):
        np.testing.assert_allclose(gpu(x), cpu(x), rtol=0, atol=1e-6)
