"""The registry: implementations, constraints with their sentences, devices, and the table of backends."""

from __future__ import annotations

import re

import pytest

from rnngraph import backends
from rnngraph.backends.cupy.device import discover
from rnngraph.backends.registry import HOST, Constraint, Device, Implementation, Machine, Rates, Registry
from rnngraph.errors import CompileError
from rnngraph.ir import Cost, Graph, Op, parse

RNN = """graph @g(%x: f32[T,B,3], %h: f32[1,B,2]{c0}{lengths}) {{
  %w = const splat(0.5) : f32[3,{n}]
  %r = const splat(0.25) : f32[2,{n}]
  %b = const splat(0.0) : f32[{n}]
  {results} = rnn %x, %h{c0_use}{lengths_use}, %w, %r, %b, %b {{mode = {mode}, hidden = 2{attrs}}} : {types}
  return y = %y
}}"""
NO_GPU = Device("gpu", "none", False, missing={"gpu": "no driver", "cupy": "no CuPy", "cudnn": "no cuDNN"})
GPU = Device("gpu", "H200", True, frozenset({"gpu", "cupy", "cudnn", "sm_90"}))


def rnn_graph(mode: str = "gru", *, attrs: str = "", lengths: bool = False) -> Graph:
    gates, cell = {"gru": 3, "lstm": 4, "rnn_tanh": 1}[mode], mode == "lstm"
    state = "f32[1,B,2]"
    return parse(RNN.format(
        n=gates * 2, mode=mode, attrs=attrs + (", lengths = true" if lengths else ""),
        c0=f", %c: {state}" if cell else "", c0_use=", %c" if cell else "",
        lengths=", %l: i32[B]" if lengths else "", lengths_use=", %l" if lengths else "",
        results="%y, %hn" + (", %cn" if cell else ""),
        types=f"f32[T,B,2], {state}" + (f", {state}" if cell else "")))


def projected_graph(hidden: int, proj: int) -> Graph:
    gates, state, cell = 4 * hidden, f"f32[1,B,{proj}]", f"f32[1,B,{hidden}]"
    return parse(f"""graph @g(%x: f32[T,B,3], %h: {state}, %c: {cell}) {{
      %w = const splat(0.5) : f32[3,{gates}]
      %r = const splat(0.25) : f32[{proj},{gates}]
      %b = const splat(0.0) : f32[{gates}]
      %p = const splat(0.5) : f32[{hidden},{proj}]
      %y, %hn, %cn = rnn %x, %h, %c, %w, %r, %b, %b, %p {{mode = lstm, hidden = {hidden}, proj = {proj}}}
        : f32[T,B,{proj}], {state}, {cell}
      return y = %y
    }}""")


def rnn_op(graph: Graph) -> Op:
    return next(op for op in graph.walk() if op.name == "rnn")


def test_every_backend_registers_without_importing_its_libraries() -> None:
    registry = backends.default_registry()
    names = [i.name for i in registry.implementations]
    assert {"reference.op", "cupy.cudnn.standard", "cupy.rnn", "cupy.scan", "cupy.rows", "cupy.view",
            "cupy.op"} <= set(names)


def test_unknown_backend() -> None:
    with pytest.raises(CompileError, match=r"unknown backend 'tpu'; the backends are reference, llvm, cupy"):
        backends.load("tpu")


def test_a_backend_that_cannot_be_imported_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(backends.BACKENDS, "gone", "rnngraph.backends.gone:backend")
    registry = backends.default_registry()
    assert registry.unavailable["gone"] == "No module named 'rnngraph.backends.gone'"


def test_constraint_says_what_and_why() -> None:
    op = rnn_op(rnn_graph())
    assert Constraint("a", "always", lambda op, d: True).failure(op, HOST) is None
    assert Constraint("a", "must be big", lambda op, d: False).failure(op, HOST) == "a: must be big"
    told = Constraint("a", "must be big", lambda op, d: "it is 3")
    assert told.failure(op, HOST) == "a: must be big (it is 3)"


@pytest.mark.parametrize(("name", "target", "message"), [
    ("other.op", "cpu", "is named 'mine.<what>', got 'other.op'"),
    ("mine", "cpu", "is named 'mine.<what>'"),
    ("mine.op", "auto", "target must be cpu or gpu, got 'auto'"),
])
def test_bad_implementations_are_refused(name: str, target: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        Implementation(name, "mine", target, frozenset({"add"}), (), lambda op, dims, machine: 1.0)


def test_twice_registered() -> None:
    one = Implementation("mine.op", "mine", "cpu", frozenset({"add"}), (), lambda op, dims, machine: 1.0)
    with pytest.raises(ValueError, match=r"registered twice: mine\.op"):
        Registry([one, one])


def test_roofline() -> None:
    rates = Rates(flops=100.0, bytes=10.0, launch=1.0, step=0.5)
    assert rates.seconds(Cost(200.0, 1.0)) == 3.0
    assert rates.seconds(Cost(200.0, 50.0), launches=0, steps=2) == 6.0


@pytest.mark.parametrize(("graph", "failed"), [
    (rnn_graph("lstm"), []),
    (rnn_graph("gru"), []),
    (rnn_graph("gru", attrs=", reset_after = false"), ["reset-after"]),
    (rnn_graph("lstm", lengths=True), []),
    (rnn_graph("lstm", lengths=True, attrs=", pad = repeat"), ["pad"]),
    (projected_graph(2, 1), []),
    (projected_graph(2, 2), ["projection"]),
    (projected_graph(2, 3), ["projection"]),
    (rnn_graph("rnn_tanh", attrs=", pad = repeat"), []),  # without lengths nothing is padded
])
def test_cudnn_constraints(graph: Graph, failed: list[str]) -> None:
    registry = Registry(backends.load("cupy").implementations(), devices={"gpu": lambda: GPU})
    candidate, *_, own = registry.consider(rnn_op(graph), "gpu", {"T": 10, "B": 1})
    assert (candidate.name, own.name, own.failures) == ("cupy.cudnn.standard", "cupy.rnn", ())
    assert [f.split(":")[0] for f in candidate.failures] == failed
    assert (candidate.seconds is None) == bool(failed)


def test_without_a_gpu_each_missing_thing_is_named() -> None:
    registry = Registry(backends.load("cupy").implementations(), devices={"gpu": lambda: NO_GPU})
    candidate, *_, own = registry.consider(rnn_op(rnn_graph()), "auto", {"T": 10, "B": 1})
    assert own.failures == candidate.failures[:2]
    assert candidate.failures[:3] == (
        "gpu: an NVIDIA GPU with a driver must be present (no driver)",
        "cupy: CuPy must be installed (no CuPy)",
        "cudnn: the cuDNN 9 library must be installed (no cuDNN)",
    )


def test_costs_grow_with_the_work() -> None:
    op, machine = rnn_op(rnn_graph("lstm")), Machine()
    for i in (*backends.load("cupy").implementations()[:1], *backends.load("reference").implementations()):
        short, long = (i.cost(op, {"T": t, "B": 1}, machine) for t in (1, 1000))
        assert 0 < short < long


def test_gpu_discovery_reports_or_explains_each_feature() -> None:
    device = discover()
    for feature in ("gpu", "cupy", "cudnn"):
        assert (feature in device.features) != (feature in device.missing)
    assert device.present == ("gpu" in device.features)


def test_cupy_needs_a_schedule() -> None:
    from rnngraph.rewrite import PassContext
    from rnngraph.runtime.segments import segment

    graph = rnn_graph()
    rnn_op(graph).impl = "cupy.rnn"
    (part,) = segment(graph)
    with pytest.raises(CompileError, match="a pipeline for the gpu ends with select-implementation,schedule-phases"):
        backends.load("cupy").build(graph, part, PassContext())
