"""i32 natively: arithmetic, comparisons and casts bit for bit as numpy's, in loops and outside, and what is left."""

from __future__ import annotations

import numpy as np
import pytest

from rnngraph.compiler import compile as compile_graph
from rnngraph.errors import InputError
from rnngraph.ir import Array, evaluate, parse
from rnngraph.runtime.model import CompiledModel
from tests.backends.llvm.helpers import TARGETS
from tests.backends.llvm.native import native
from tests.backends.llvm.test_bounds import fenced, fenced_outputs, needs_mprotect, run_sweep

RNG = np.random.default_rng(0)
EDGES = np.array([0, 1, -1, 2**31 - 1, -(2**31), 2**30, 12345, -7, 16777217, -16777217], np.int32)


def integers(*shape: int) -> Array:
    """Any bits, those that are NaNs and denormals as floats among them."""
    found = RNG.integers(-(2**31), 2**31, shape).astype(np.int32)
    found.reshape(-1)[: len(EDGES)] = EDGES[: found.size]
    return found


OPS = {
    "add": "%r = add %a, %b : i32[B,9]", "sub": "%r = sub %a, %b : i32[B,9]", "mul": "%r = mul %a, %b : i32[B,9]",
    "min": "%r = min %a, %b : i32[B,9]", "max": "%r = max %a, %b : i32[B,9]",
    "lt": "%r = lt %a, %b : bool[B,9]", "le": "%r = le %a, %b : bool[B,9]", "gt": "%r = gt %a, %b : bool[B,9]",
    "ge": "%r = ge %a, %b : bool[B,9]", "eq": "%r = eq %a, %b : bool[B,9]", "ne": "%r = ne %a, %b : bool[B,9]",
    "to float": "%r = cast %a {dtype = f32} : f32[B,9]", "to bool": "%r = cast %a {dtype = bool} : bool[B,9]",
    "from bool": "%p = lt %a, %b : bool[B,9] %r = cast %p {dtype = i32} : i32[B,9]",
    "from float": "%f = cast %a {dtype = f32} : f32[B,9] %h = const splat(0.25) : f32[B_,9] %r = cast %f {dtype = i32} "
                  ": i32[B,9]",
    "select": "%p = lt %a, %b : bool[B,9] %r = select %p, %b, %a : i32[B,9]",
    "number": "%c = const splat(-2147483647) : i32[] %d = broadcast %c {shape = [B, 9], axes = []} : i32[B,9] "
              "%r = add %a, %d : i32[B,9]",
    "vector": "%c = const [5, 4, 3, 2147483647, -1, 0, 7, 8, 9] : i32[9] "
              "%d = broadcast %c {shape = [B, 9], axes = [1]} : i32[B,9] %r = mul %a, %d : i32[B,9]",
    "row": "%d = broadcast %n {shape = [B, 9], axes = [0]} : i32[B,9] %r = add %a, %d : i32[B,9]",
    "rows": "%one = const splat(1) : i32[] %o = broadcast %one {shape = [B], axes = []} : i32[B] "
            "%m = sub %n, %o : i32[B] %d = broadcast %m {shape = [B, 9], axes = [0]} : i32[B,9] "
            "%r = max %a, %d : i32[B,9]",
    "moves": "%s = slice %a {axis = 1, start = 2, size = 4, step = 1} : i32[B,4] "
             "%t = slice %b {axis = 1, start = 0, size = 5, step = 1} : i32[B,5] "
             "%c = concat %s, %t {axis = 1} : i32[B,9] %r = sub %c, %a : i32[B,9]",
    "join of rows": "%c = concat %a, %b {axis = 0} : i32[2*B,9] %d = reverse %c {axis = 0} : i32[2*B,9] "
                    "%r = lt %c, %d : bool[2*B,9]",
    "iota": "%i = iota {size = B, dtype = i32} : i32[B] %d = broadcast %i {shape = [B, 9], axes = [0]} : i32[B,9] "
            "%r = lt %a, %d : bool[B,9]",
    "size": "%i = size {dim = \"2*B+1\", dtype = i32} : i32[] %d = broadcast %i {shape = [B, 9], axes = []} : i32[B,9] "
            "%r = mul %a, %d : i32[B,9]",
}


def graph_of(name: str) -> str:
    body = OPS[name].replace("%h = const splat(0.25) : f32[B_,9] ", "")
    result = body.rsplit(":", 1)[1]
    return f"graph @g(%a: i32[B,9], %b: i32[B,9], %n: i32[B]) {{ {body} return r = %r }} // {result}"


def sweep() -> None:
    for k, name in enumerate(OPS):
        graph = parse(graph_of(name))
        for target in [list(TARGETS.values())[k % 2 - 1], *([TARGETS["generic"]] if k % 5 == 0 else [])]:
            run = native(graph, target)
            for batch in (1, 3, 18):
                given = {"a": integers(batch, 9), "b": integers(batch, 9), "n": integers(batch)}
                if name == "from float":  # what no i32 holds has no value
                    given["a"] = (given["a"] // 2).astype(np.int32)
                want = evaluate(graph, given)["r"]
                for at_end in (True, False):
                    placed = {n: fenced(a, at_end=at_end) for n, a in given.items()}
                    with fenced_outputs(at_end=at_end):
                        got = run(placed)["r"]
                    assert got.dtype == want.dtype, name
                    np.testing.assert_array_equal(got, want, err_msg=f"{name} {batch}")


@needs_mprotect
def test_operations_bit_for_bit() -> None:
    run_sweep("from tests.backends.llvm.test_integers import sweep as integers\nintegers()")


def implementations(compiled: CompiledModel) -> set[str]:
    return {op.impl.split(".")[0] for op in compiled.program.graph.block.ops if op.impl}


def test_a_loop_with_an_integer_state() -> None:
    """Steps since the sign last changed, rows with lengths: a counter of i32 beside a state of f32."""
    graph = parse("""graph @g(%x: f32[T,B,4], %n: i32[B], %c0: i32[B,4]) {
      %zero = const splat(0.0) : f32[]
      %h0 = broadcast %zero {shape = [B, 4], axes = []} : f32[B,4]
      %h, %c, %y = scan carry(h = %h0, c = %c0) over(x = %x) lengths(%n) {steps = T, pad = repeat} {
      ^(%hh: f32[B,4], %cc: i32[B,4], %xt: f32[B,4]):
        %one = const splat(1) : i32[]
        %ones = broadcast %one {shape = [B, 4], axes = []} : i32[B,4]
        %more = add %cc, %ones : i32[B,4]
        %s = mul %hh, %xt : f32[B,4]
        %z = sub %s, %s : f32[B,4]
        %turned = lt %s, %z : bool[B,4]
        %m = select %turned, %ones, %more : i32[B,4]
        yield carry(h = %xt, c = %m) emit(y = %m)
      } : f32[B,4], i32[B,4], i32[T,B,4]
      return h = %h, c = %c, y = %y
    }""")
    compiled = compile_graph(graph)
    assert implementations(compiled) == {"llvm"}
    for batch, time in ((1, 1), (3, 7), (17, 12)):
        x = RNG.standard_normal((time, batch, 4)).astype(np.float32)
        given = (x, RNG.integers(0, time + 1, batch).astype(np.int32), integers(batch, 4))
        want = evaluate(graph, dict(zip("xn", given, strict=False)) | {"c0": given[2]})
        for name, got in zip("hcy", compiled(*given), strict=True):
            assert got.dtype == want[name].dtype
            np.testing.assert_array_equal(got, want[name])


def test_masks_of_lengths_are_native() -> None:
    graph = parse("""graph @g(%x: f32[B,T], %n: i32[B]) {
      %i = iota {size = T, dtype = i32} : i32[T]
      %times = broadcast %i {shape = [B, T], axes = [1]} : i32[B,T]
      %ends = broadcast %n {shape = [B, T], axes = [0]} : i32[B,T]
      %mask = lt %times, %ends : bool[B,T]
      %zero = const splat(0.0) : f32[]
      %z = broadcast %zero {shape = [B, T], axes = []} : f32[B,T]
      %y = select %mask, %x, %z : f32[B,T]
      return y = %y
    }""")
    compiled = compile_graph(graph)
    assert implementations(compiled) == {"llvm"}
    x, n = RNG.standard_normal((3, 6)).astype(np.float32), np.array([2, 6, 0], np.int32)
    np.testing.assert_array_equal(compiled(x, n), np.where(np.arange(6) < n[:, None], x, 0))


@pytest.mark.parametrize(("text", "reason"), [
    ("graph @g(%a: i64[B,4]) { %r = pow %a, %a : i64[B,4] return r = %r }", "is i64"),
    ("graph @g(%a: i32[B,4]) { %r = pow %a, %a : i32[B,4] %p = lt %r, %a : bool[B,4] return p = %p }", "no lane form"),
    ("graph @g(%a: i32[B,2], %t: f32[9,3]) { %r = add %a, %a : i32[B,2] "
     "%y = gather_nd %t, %r {batch_dims = 0} : f32[B] return y = %y }", "its integers go to gather_nd"),
])
def test_what_is_left_to_the_reference_says_why(text: str, reason: str) -> None:
    compiled = compile_graph(parse(text))
    assert "reference" in implementations(compiled)
    assert reason in str(compiled.explain())


def test_a_size_that_does_not_fit() -> None:
    graph = parse('graph @g(%x: f32[B,4]) { %s = size {dim = "1000000000*B", dtype = i32} : i32[] '
                  "%b = broadcast %s {shape = [B, 4], axes = []} : i32[B,4] %f = cast %b {dtype = f32} : f32[B,4] "
                  "%y = add %x, %f : f32[B,4] return y = %y }")
    compiled = compile_graph(graph)
    np.testing.assert_array_equal(compiled(np.zeros((2, 4), np.float32)), np.full((2, 4), 2e9, np.float32))
    with pytest.raises(InputError, match="size: 3000000000 does not fit i32; take a wider dtype"):
        compiled(np.zeros((3, 4), np.float32))
