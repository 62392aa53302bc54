"""Nests: lookups, orders, reductions along any axis, products of computed matrices and integers of all sizes, against
the reference, bit for bit where nothing is rounded, within their memory, and with its errors."""

from __future__ import annotations

import numpy as np
import pytest

from rnngraph import compile as compile_graph
from rnngraph import nn
from rnngraph.errors import InputError
from rnngraph.ir import Array, Graph, evaluate, parse
from rnngraph.phases.nests import ELEMENTWISE, NESTS, misfit
from tests.backends.llvm.helpers import TARGETS
from tests.backends.llvm.native import native
from tests.backends.llvm.test_bounds import fenced, fenced_outputs, needs_mprotect, run_sweep

RNG = np.random.default_rng(0)
SIZES = ({"B": 1, "T": 1, "N": 3}, {"B": 3, "T": 11, "N": 2}, {"B": 2, "T": 37, "N": 9})
F, L, J, P = "%x: f32[B,T,5], %y: f32[B,T,5]", "%x: i64[B,T,5], %y: i64[B,T,5]", "%i: i64[T,N]", "%p: bool[B,T,5]"

ROUNDED = {  # arguments, ops, result
    "sum": (F, "reduce_sum %x {axes = [1]}", "f32[B,5]"),
    "mean of two axes": (F, "reduce_mean %x {axes = [0, 1]}", "f32[5]"),
    "sum of all": (F, "reduce_sum %x {axes = [0, 1, 2]}", "f32[]"),
    "product": (F, "reduce_prod %x {axes = [1]}", "f32[B,5]"),
    "sum of vectors": ("%m: f32[B,9,T,17]", "reduce_sum %m {axes = [1]}", "f32[B,T,17]"),
    "sum of lanes": ("%m: f32[B,9,T,17]", "reduce_sum %m {axes = [1, 3]}", "f32[B,T]"),
    "mean of vectors": ("%m: f32[B,T,40]", "reduce_mean %m {axes = [0, 1]}", "f32[40]"),
    "product of vectors": ("%m: f32[5,T,33]", "reduce_prod %m {axes = [0]}", "f32[T,33]"),
    "running sum": (F, "cumsum %x {axis = 1, exclusive = false, reverse = false}", "f32[B,T,5]"),
    "running sum from the end": (F, "cumsum %x {axis = 1, exclusive = true, reverse = true}", "f32[B,T,5]"),
    "attention": ("%a: f32[B,T,20], %b: f32[B,20,N]", "matmul %a, %b", "f32[B,T,N]"),
    "weights given": ("%a: f32[B,T,20], %b: f32[20,19]", "matmul %a, %b", "f32[B,T,19]"),
    "wide": ("%a: f32[B,T,20], %b: f32[B,20,70]", "matmul %a, %b", "f32[B,T,70]"),
    "keys": ("%a: f32[B,T,20], %c: f32[B,N,20]",
             "transpose %c {perm = [0, 2, 1]} : f32[B,20,N] %r = matmul %a, %1", "f32[B,T,N]"),
}
def windows(kind: str, *, more: str = "", **attrs: tuple[int, ...]) -> str:
    given = {"window": (3, 2), "strides": (1, 2), "low": (0, 0), "high": (0, 0), "dilation": (1, 1)} | attrs
    return f"pool %m {{kind = {kind}, " + ", ".join(f"{k} = {list(v)}" for k, v in given.items()) + f"{more}}}"


ROUNDED |= {
    "average": ("%m: f32[B,9,8,19]", windows("average", low=(1, 1), high=(2, 0)), "f32[B,10,4,19]"),
    "average with its padding": ("%m: f32[B,9,8,3]",
                                 windows("average", low=(1, 1), high=(2, 0), more=", counted = true"), "f32[B,10,4,3]"),
    "average at the end": ("%m: f32[B,10,8,3]", windows("average", strides=(2, 2), more=", ceil = true"),
                           "f32[B,5,4,3]"),
    "softmax": (F, "softmax %x {axis = 1}", "f32[B,T,5]"),
    "softmax of lanes": (F, "softmax %x {axis = 2}", "f32[B,T,5]"),
    "sums": ("%m: f32[B,9,T,17]", windows("sum", window=(2, 1), strides=(2, 1)), "f32[B,4,T,17]"),
}
EXACT = {
    "greatest of windows": ("%m: f32[B,9,8,21]", windows("max", low=(1, 1), high=(1, 1), dilation=(2, 1)),
                            "f32[B,7,5,21]"),
    "greatest over time": ("%m: f32[B,T,8,5]", windows("max", window=(1, 2)), "f32[B,T,4,5]"),
    "where": ("%m: f32[B,9,8,2]", windows("max", low=(1, 0), high=(1, 1), more=", indices = true"), "f32[B,9,4,2]"),
    "greatest integer of windows": ("%m: i64[B,9,8,2]", windows("max"), "i64[B,7,4,2]"),
    "take": (f"%x: f32[B,5,T], {J}", "take %x, %i {axis = 1}", "f32[B,T,N,T]"),
    "take of integers": (f"%x: i64[5,B], {J}", "take %x, %i {axis = 0}", "i64[T,N,B]"),
    "take of bool": (f"%p: bool[5,B], {J}", "take %p, %i {axis = 0}", "bool[T,N,B]"),
    "take one": ("%x: f32[B,5], %k: i32[]", "take %x, %k {axis = 1}", "f32[B]"),
    "gather elements": ("%x: f32[T,5,N], %e: i64[T,9,N]", "gather_elements %x, %e {axis = 1}", "f32[T,9,N]"),
    "gather some": ("%x: i64[B,5,7], %e: i32[B,4,3]", "gather_elements %x, %e {axis = 1}", "i64[B,4,3]"),
    "gather": ("%x: f32[5,7], %j: i32[T,N]", "gather %x, %j", "f32[T,N,7]"),
    "gather by u8": ("%x: f32[5,7], %j: u8[T,N]", "gather %x, %j", "f32[T,N,7]"),
    "largest": (F, "reduce_max %x {axes = [1]}", "f32[B,5]"), "least": (F, "reduce_min %x {axes = [0, 2]}", "f32[T]"),
    "largest of vectors": ("%m: f32[B,9,T,17]", "reduce_max %m {axes = [1]}", "f32[B,T,17]"),
    "least of doubles": ("%d: f64[T,B,17]", "reduce_min %d {axes = [0]}", "f64[B,17]"),
    "largest integer": (L, "reduce_max %x {axes = [1]}", "i64[B,5]"),
    "least integer": ("%z: u8[B,T]", "reduce_min %z {axes = [0]}", "u8[T]"),
    "sum of integers": (L, "reduce_sum %x {axes = [0]}", "i64[T,5]"),
    "argmax": (F, "argmax %x {axis = 1, last = false}", "i64[B,5]"),
    "argmin": (F, "argmin %x {axis = 2, last = true}", "i64[B,T]"),
    "argmax of integers": (L, "argmax %x {axis = 0, last = true}", "i64[T,5]"),
    "top_k": (F, "top_k %x {axis = 2, k = 3, largest = true}", "f32[B,T,3]"),
    "least k": (L, "top_k %x {axis = 2, k = 5, largest = false}", "i64[B,T,5]"),
    "running sum of integers": (L, "cumsum %x {axis = 0, exclusive = false, reverse = false}", "i64[B,T,5]"),
    "select": (f"{L}, {P}", "select %p, %x, %y", "i64[B,T,5]"), "not": (P, "not %p", "bool[B,T,5]"),
    "to float": (L, "cast %x {dtype = f32}", "f32[B,T,5]"), "to bool": (L, "cast %x {dtype = bool}", "bool[B,T,5]"),
    "to i8": (L, "cast %x {dtype = i8}", "i8[B,T,5]"), "to u32": (L, "cast %x {dtype = u32}", "u32[B,T,5]"),
    "from bool": (P, "cast %p {dtype = i64}", "i64[B,T,5]"), "from float": (F, "cast %x {dtype = i64}", "i64[B,T,5]"),
    "to double": (F, "cast %x {dtype = f64}", "f64[B,T,5]"), "doubles": ("%d: f64[B,T]", "mul %d, %d", "f64[B,T]"),
    "join": (L, "concat %x, %y {axis = 1}", "i64[B,2*T,5]"),
    "join of a sum": (L, "add %x, %y : i64[B,T,5] %r = concat %1, %x {axis = 2}", "i64[B,T,10]"),
    "pad": (L, "pad %x {low = [0, 2, 1], high = [1, 0, 0]}", "i64[B+1,T+2,6]"),
    "steps": (L, "slice %x {axis = 2, start = 0, size = 2, step = 3}", "i64[B,T,2]"),
    "backwards": (L, "reverse %x {axis = 1}", "i64[B,T,5]"),
    "transpose": ("%h: f16[B,T]", "transpose %h {perm = [1, 0]}", "f16[T,B]"),
    "reshape of a transpose": (L, "transpose %x {perm = [1, 0, 2]} : i64[T,B,5] %r = reshape %1 {shape = [\"5*B*T\"]}",
                               "i64[5*B*T]"),
    "repeat": ("%n: i64[T], %u: f32[B]", "broadcast %n {shape = [B, T, 3], axes = [1]}", "i64[B,T,3]"),
    **{name: (L, f"{name} %x, %y", "i64[B,T,5]") for name in
       ("add", "sub", "mul", "div", "mod", "rem", "min", "max", "bit_and", "bit_or", "bit_xor")},
    **{name: (L, f"{name} %x", "i64[B,T,5]") for name in ("neg", "abs", "sign", "bit_not")},
    **{f"u8 {name}": ("%z: u8[B,T], %w: u8[B,T]", f"{name} %z, %w", "u8[B,T]")
       for name in ("add", "div", "mod", "max")},
    **{name: (L, f"{name} %x, %y", "bool[B,T,5]") for name in ("lt", "le", "gt", "ge", "eq", "ne")},
}


def graph_of(case: tuple[str, str, str]) -> Graph:
    """A case with every op that can be a nest selected as one."""
    arguments, body, result = case
    lines = body.split(" %r = ")
    text = (f"%1 = {lines[0]} " if len(lines) > 1 else "") + f"%r = {lines[-1]} : {result}"
    if "top_k" in body or "indices" in body:
        text = text.replace("%r =", "%r, %where =") + ", " + result.replace("f32", "i64")
        text += "  return r = %r, w = %where"
    else:
        text += "  return r = %r"
    graph = parse(f"graph @g({arguments}) {{ {text} }}")
    for op in graph.block.body:
        if op.name in NESTS and not misfit(op):
            op.impl = "llvm.nest"
    return graph


def inputs_of(graph: Graph, dims: dict[str, int]) -> dict[str, Array]:
    """Numbers with ties, and of integers the extremes; indices that fit an axis of 5."""
    out: dict[str, Array] = {}
    for name, v in zip(graph.input_names, graph.inputs, strict=True):
        shape = tuple(dims[d] if isinstance(d, str) else d for d in v.shape)
        dtype = v.type.dtype.numpy
        if name in "eijk":
            out[name] = RNG.integers(0 if name == "j" else -5, 5, shape).astype(dtype)
        elif dtype.kind == "f":
            out[name] = np.asarray(np.round(RNG.standard_normal(shape) * 4) / 4 + 0.25, dtype)
        elif dtype.kind == "b":
            out[name] = np.asarray(RNG.integers(0, 2, shape), np.bool_)
        else:
            out[name] = np.asarray(RNG.integers(-3 if dtype.kind == "i" else 0, 4, shape), dtype)
            edges = np.array([np.iinfo(dtype.name).min, np.iinfo(dtype.name).max, -1 % 2**7], dtype)
            out[name].reshape(-1)[: 3] = edges[: out[name].size]
    return out


def compare(case: tuple[str, str, str], name: str, target: str) -> None:
    graph = graph_of(case)
    run = native(graph, TARGETS[target])
    for dims in SIZES:
        given = inputs_of(graph, dims)
        want = evaluate(graph, given, float64=name in ROUNDED)
        for at_end in (True, False):
            placed = {n: fenced(a, at_end=at_end) for n, a in given.items()}
            with fenced_outputs(at_end=at_end):
                got = run(placed)
            for key, expected in want.items():
                assert got[key].dtype == (np.float32 if name in ROUNDED else expected.dtype), (name, key)
                tolerance = 2e-6 * float(np.abs(expected).max(initial=1.0)) if name in ROUNDED else 0
                np.testing.assert_allclose(got[key], expected, rtol=0, atol=tolerance, err_msg=f"{name} {dims}")


def sweep() -> None:
    for k, (name, case) in enumerate((ROUNDED | EXACT).items()):
        compare(case, name, list(TARGETS)[-1 - k % 2])


@needs_mprotect
def test_nests_compute_what_the_reference_does_within_their_memory() -> None:
    run_sweep("from tests.backends.llvm import test_nests\ntest_nests.sweep()")


def test_every_op_has_a_case() -> None:
    tested = {word for _, body, _ in (ROUNDED | EXACT).values() for word in body.split()}
    assert not NESTS - tested - {"and", "or"}
    assert ELEMENTWISE <= NESTS


def test_nan_and_infinities() -> None:
    x = np.array([[1, np.nan, 3, np.nan], [np.inf, 2, -np.inf, 2], [0.0, -0.0, 0.0, 1]], np.float32)
    for op, result in (("argmax %x {axis = 1, last = false}", "i64[3]"),
                       ("argmin %x {axis = 1, last = true}", "i64[3]"),
                       ("reduce_max %x {axes = [0]}", "f32[4]"), ("reduce_min %x {axes = [1]}", "f32[3]"),
                       ("top_k %x {axis = 1, k = 4, largest = true}", "f32[3,4]"),
                       ("top_k %x {axis = 1, k = 4, largest = false}", "f32[3,4]"), ("sign %x", "f32[3,4]")):
        graph = graph_of(("%x: f32[3,4]", op, result))
        got, want = native(graph)({"x": x}), evaluate(graph, {"x": x})
        for key, expected in want.items():
            np.testing.assert_array_equal(got[key], expected, err_msg=op)
    wide = np.tile(x, 5)[:, :19]  # vectors and a rest
    for op in ("reduce_max", "reduce_min", "reduce_sum"):
        graph = graph_of(("%x: f32[3,19]", f"{op} %x {{axes = [0]}}", "f32[19]"))
        np.testing.assert_array_equal(native(graph)({"x": wide})["r"], evaluate(graph, {"x": wide})["r"], err_msg=op)


@pytest.mark.parametrize("name", ["attention", "wide", "keys"])
def test_a_row_of_a_product_does_not_depend_on_the_others(name: str) -> None:
    graph = graph_of(ROUNDED[name])
    run = native(graph)
    given = inputs_of(graph, {"B": 2, "T": 11, "N": 37})
    together = run(given)["r"]
    for rows in (1, 2, 5, 8):
        alone = run(given | {"a": given["a"][:, 3 : 3 + rows].copy()})["r"]
        np.testing.assert_array_equal(alone, together[:, 3 : 3 + rows], err_msg=f"{rows} rows")


@pytest.mark.parametrize(("op", "dtype", "bad", "message"), [
    ("take %x, %i {axis = 0}", "i64", 5, "take of layer 'words': indices must be in -5..4, got 5"),
    ("take %x, %i {axis = 0}", "i64", -6, "take of layer 'words': indices must be in -5..4, got -6"),
    ("gather %x, %i", "i32", -1, "gather of layer 'words': indices must be in 0..4, got -1"),
    ("gather %x, %i", "u8", 255, "gather of layer 'words': indices must be in 0..4, got 255"),
])
def test_indices_out_of_range(op: str, dtype: str, bad: int, message: str) -> None:
    graph = parse(f"graph @g(%x: f32[5,3], %i: {dtype}[N]) {{ %r = {op} : f32[N,3] <layer = words>  return r = %r }}")
    run = native(graph)
    table = RNG.standard_normal((5, 3)).astype(np.float32)
    index = np.array([1, bad % 256 if dtype == "u8" else bad, 2]).astype(dtype.replace("i", "int").replace("u", "uint"))
    with pytest.raises(InputError, match=message):
        run({"x": table, "i": index})
    index[1] = 4
    np.testing.assert_array_equal(run({"x": table, "i": index})["r"], table[[1, 4, 2]])  # the next call is not spoilt


def test_a_chain_of_lookups_orders_and_integers_is_one_native_segment() -> None:
    graph = parse("""graph @g(%words: i64[B,T], %table: f32[50,8], %q: f32[B,8]) {
      %e = gather %table, %words : f32[B,T,8]
      %one = const splat(1) : i64[]
      %ones = broadcast %one {shape = [B, T], axes = []} : i64[B,T]
      %next = add %words, %ones : i64[B,T]
      %last = const splat(49) : i64[]
      %lasts = broadcast %last {shape = [B, T], axes = []} : i64[B,T]
      %m = min %next, %lasts : i64[B,T]
      %f = gather %table, %m : f32[B,T,8]
      %s = add %e, %f : f32[B,T,8]
      %mean = reduce_mean %s {axes = [1]} : f32[B,8]
      %col = reshape %q {shape = [B, 8, 1]} : f32[B,8,1]
      %scores = matmul %s, %col : f32[B,T,1]
      %row = reshape %scores {shape = [B, T]} : f32[B,T]
      %best = argmax %row {axis = 1, last = false} : i64[B]
      return mean = %mean, scores = %row, best = %best
    }""")
    run = compile_graph(graph)
    assert [type(step.kernel).__name__ for step in run._program.steps] == ["NativeKernel"]
    given: dict[str, Array] = {
        "words": RNG.integers(0, 50, (3, 7)), "table": RNG.standard_normal((50, 8)).astype(np.float32),
        "q": RNG.standard_normal((3, 8)).astype(np.float32)}
    want = evaluate(graph, given, float64=True)
    for name, got in zip(want, run(*given.values()), strict=True):
        np.testing.assert_allclose(got, want[name], rtol=0, atol=1e-5 * np.abs(want[name]).max())


def test_what_a_stage_can_do_is_no_nest() -> None:
    step = compile_graph(nn.LSTM(128), nn.Input((1, 1, 128)))
    graph = parse("""graph @g(%x: f32[B,T,8], %i: i32[B,T,8]) {
      %w = const splat(0.5) : f32[8,4]
      %y = matmul %x, %w : f32[B,T,4]
      %s = reduce_mean %y {axes = [2]} : f32[B,T]
      %j = add %i, %i : i32[B,T,8]
      return s = %s, j = %j
    }""")
    for run in (step, compile_graph(graph), compile_graph(graph, dims={"B": 64, "T": 100})):
        assert {op.impl for op in run._program.graph.block.body} <= {"llvm.rows", "llvm.view", ""}
