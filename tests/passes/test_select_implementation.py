"""select-implementation: text in, text out, and the decision table with its reasons."""

from __future__ import annotations

import pytest

from rnngraph import backends
from rnngraph.backends.registry import Constraint, Device, Implementation, Registry
from rnngraph.errors import PassError, SelectionError
from rnngraph.ir import parse
from rnngraph.passes import run
from rnngraph.passes.select_implementation import Selection, expected_dims
from rnngraph.rewrite import PassContext
from tests.testing import assert_rewrites

NO_GPU = Device("gpu", "none", False, missing={"gpu": "no driver", "cupy": "no CuPy", "cudnn": "no cuDNN"})


def implementation(name: str, ops: str, seconds: float, *constraints: Constraint) -> Implementation:
    backend = name.split(".")[0]
    target = "gpu" if backend == "gpu" else "cpu"
    return Implementation(name, backend, target, frozenset(ops.split()), constraints,
                          lambda op, dims, machine: seconds)


SMALL = Constraint("small", "at most 4 features", lambda op, d: op.results[0].shape[-1] in (1, 2, 3, 4)
                   or f"it has {op.results[0].shape[-1]}")
PRESENT = Constraint("gpu", "a GPU must be there", lambda op, d: d.present)
REGISTRY = Registry([implementation("slow.op", "neg tanh scan rnn", 2e-3),
                     implementation("fast.op", "neg tanh scan", 1e-6, SMALL),
                     implementation("gpu.op", "neg", 1e-9, PRESENT)])


def context(target: str = "cpu", registry: Registry = REGISTRY) -> PassContext:
    return PassContext(target, registry)


def selection(ctx: PassContext) -> Selection:
    found = ctx.artifacts["selection"]
    assert isinstance(found, Selection)
    return found


def test_the_cheapest_whose_constraints_hold() -> None:
    ctx = context()
    assert_rewrites("""graph @g(%x: f32[B,4], %z: f32[B,8]) {
      %k = const splat(1.0) : f32[4]
      %a = neg %x : f32[B,4] <layer = l1>
      %b = neg %z : f32[B,8] <layer = l2>
      %c = tanh %a : f32[B,4] <layer = l1, impl = slow.op>
      return b = %b, c = %c, k = %k
    }""".replace("slow.op", '"slow.op"'), "select-implementation", """graph @g(%x: f32[B,4], %z: f32[B,8]) {
      %k = const splat(1.0) : f32[4]
      %a = neg %x : f32[B,4] <layer = l1, impl = "fast.op">
      %b = neg %z : f32[B,8] <layer = l2, impl = "slow.op">
      %c = tanh %a : f32[B,4] <layer = l1, impl = "slow.op">
      return b = %b, c = %c, k = %k
    }""", context=ctx)
    assert [(d.layer, d.candidate, d.verdict, d.reason, d.failures) for d in selection(ctx).decisions] == [
        ("l1", "slow.op", "slower", "fast.op is estimated faster", ()),
        ("l1", "fast.op", "chosen", "the lowest estimate", ()),
        ("l2", "slow.op", "chosen", "the only one whose constraints hold", ()),
        ("l2", "fast.op", "rejected", "fails small", ("small: at most 4 features (it has 8)",)),
    ]


@pytest.mark.parametrize(("there", "seconds", "joins"), [("near", 25e-6, True), ("near", 40e-6, False),
                                                       ("reference", 25e-6, False)])
def test_few_ops_between_those_of_another_backend_join_them(there: str, seconds: float, joins: bool) -> None:
    ctx = context(registry=Registry([implementation(f"{there}.op", "neg", 1e-6), implementation("far.op", "tanh", 1e-6),
                                     implementation(f"{there}.tanh", "tanh", seconds)]))
    text = """graph @g(%x: f32[B,4]) {
      %a = neg %x : f32[B,4]ONE
      %b = tanh %a : f32[B,4]TWO
      %c = neg %b : f32[B,4]ONE
      return c = %c
    }"""
    chosen = f"{there}.tanh" if joins else "far.op"
    assert_rewrites(text.replace("ONE", "").replace("TWO", ""), "select-implementation",
                    text.replace("ONE", f' <impl = "{there}.op">').replace("TWO", f' <impl = "{chosen}">'), context=ctx)
    reason = "costs less than calls between kernels, beside ops that run there" if joins else "the lowest estimate"
    assert [d.reason for d in selection(ctx).decisions if d.candidate == chosen] == [reason]


def test_bodies_belong_to_their_scan() -> None:
    text = """graph @g(%x: f32[T,B,2], %h: f32[B,2]) {
      %c, %y = scan carry(h = %h) over(x = %x) {steps = T} {
      ^(%a: f32[B,2], %s: f32[B,2]):
        %n = tanh %a : f32[B,2]
        yield carry(h = %n) emit(y = %s)
      } : f32[B,2], f32[T,B,2]IMPL
      return y = %y
    }"""
    assert_rewrites(text.replace("IMPL", ""), "select-implementation",
                    text.replace("IMPL", ' <impl = "fast.op">'), context=context())


def test_auto_considers_every_target_and_cpu_only_its_own() -> None:
    graph = "graph @g(%x: f32[B,2]) { %y = neg %x : f32[B,2]  return y = %y }"
    table = {}
    for target in ("auto", "cpu"):
        ctx = context(target)
        run("select-implementation", parse(graph), ctx)
        table[target] = selection(ctx).to_text()
    assert table["cpu"] == """\
op   layer  candidate  verdict  estimate  reason
neg  -      fast.op    chosen   1 us      the lowest estimate
neg  -      slow.op    slower   2 ms      fast.op is estimated faster"""
    assert table["auto"].splitlines()[-3:] == [
        "neg  -      gpu.op     rejected  -         fails gpu",
        "constraints that failed",
        "  gpu: a GPU must be there",
    ]


def test_the_table_grows_over_runs_and_adds_up_like_rows() -> None:
    ctx = context()
    graph = parse("""graph @g(%x: f32[B,2]) {
      %a = neg %x : f32[B,2]
      %b = neg %a : f32[B,2]
      return y = %b
    }""")
    run("select-implementation{fused-only=true},select-implementation,select-implementation", graph, ctx)
    assert "neg x2  -      fast.op    chosen   2 us" in selection(ctx).to_text()


def test_fused_only_takes_rnn_alone() -> None:
    text = """graph @g(%x: f32[T,B,3], %h: f32[1,B,2]) {
      %w = const splat(0.5) : f32[3,2]
      %r = const splat(0.25) : f32[2,2]
      %b = const splat(0.0) : f32[2]
      %n = neg %x : f32[T,B,3]
      %y, %hn = rnn %n, %h, %w, %r, %b, %b {mode = rnn_tanh, hidden = 2} : f32[T,B,2], f32[1,B,2]IMPL
      return y = %y
    }"""
    graph = parse(text.replace("IMPL", ""))
    run("select-implementation{fused-only=true}", graph, context())
    assert {op.name: op.impl for op in graph.block.body} == {"const": "", "neg": "", "rnn": "slow.op"}


def test_what_is_rejected_alike_is_one_row() -> None:
    ctx = context("auto")
    run("select-implementation", parse("""graph @g(%x: f32[B,8]) {
      %a = neg %x : f32[B,8] <layer = l1>
      %b = tanh %a : f32[B,8] <layer = l2>
      return b = %b
    }"""), ctx)
    assert selection(ctx).to_text() == """\
op      layer     candidate  verdict   estimate  reason
neg     l1        slow.op    chosen    2 ms      the only one whose constraints hold
tanh    l2        slow.op    chosen    2 ms      the only one whose constraints hold
ops x2  2 layers  fast.op    rejected  -         fails small
neg     l1        gpu.op     rejected  -         fails gpu
constraints that failed
  small: at most 4 features (it has 8)
  gpu: a GPU must be there"""


def test_no_candidate_at_all() -> None:
    graph = parse("graph @g(%x: f32[B]) { %y = exp %x : f32[B] <layer = act>  return y = %y }")
    registry = Registry(REGISTRY.implementations, unavailable={"far": "not installed"})
    with pytest.raises(SelectionError, match=r"no implementation of exp \(layer 'act'\) for target cpu: no "
                                             r"backend registers one; backend far is not available: not installed"):
        run("select-implementation", graph, context(registry=registry))


def test_every_candidate_and_its_failed_constraints_are_named() -> None:
    registry = Registry(backends.default_registry().implementations, devices={"gpu": lambda: NO_GPU})
    graph = parse("graph @g(%x: f32[B]) { %y = exp %x : f32[B]  return y = %y }")
    with pytest.raises(SelectionError) as e:
        run("select-implementation", graph, context("gpu", registry))
    assert str(e.value) == (
        "no implementation of exp for target gpu: " + "; ".join(
            f"cupy.{name}: gpu: an NVIDIA GPU with a driver must be present (no driver), "
            "cupy: CuPy must be installed (no CuPy)"
            for name in ("rows", "rows.streamed", "op", "host")))


def test_without_a_registry() -> None:
    with pytest.raises(PassError, match="needs the registry"):
        run("select-implementation", parse("graph @g(%x: f32[B]) { return x = %x }"))


def test_expected_sizes() -> None:
    graph = parse("""graph @g(%x: f32[T,B,2], %h: f32[B,2], %q: f32[K]) {
      %c, %y = scan carry(h = %h) over(x = %x) {steps = T} {
      ^(%a: f32[B,2], %s: f32[B,2]):
        yield carry(h = %s) emit(y = %s)
      } : f32[B,2], f32[T,B,2]
      return y = %y
    }""")
    assert expected_dims(graph, {}) == {"T": 100, "B": 1, "K": 1}
    assert expected_dims(graph, {"B": 32}) == {"T": 100, "B": 32, "K": 1}
