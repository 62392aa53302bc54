"""Native code on computed sizes: graphs of moves, arithmetic and loops, between pages that nobody may touch."""

from __future__ import annotations

import numpy as np
import pytest

from rnngraph.compiler import compile as compile_graph
from rnngraph.errors import InputError
from rnngraph.ir import Array, Graph, evaluate, parse
from rnngraph.ir.sizes import sizes_for
from tests.backends.llvm.native import assert_native
from tests.backends.llvm.random_sizes import CHANNELS, Maker
from tests.backends.llvm.test_bounds import fenced, fenced_outputs, needs_mprotect, run_sweep

TOLERANCE = 1e-5  # of the largest number of an output


def inputs_of(graph: Graph, time: int, batch: int) -> dict[str, Array]:
    rng = np.random.default_rng(time)
    return {n: rng.standard_normal((time, batch, CHANNELS)).astype(np.float32) for n in graph.input_names}


def compare(seed: int, threads: int, count: int = 9) -> str:
    """The backends of a random graph's ops; its numbers are those of the reference, wherever the arrays lie."""
    graph = Maker(seed).graph(count)
    compiled = compile_graph(graph, threads=threads)
    found = sizes_for(graph, {"T": 1, "B": 1}, {})
    for time, batch in ((found["T"], found["B"]), (found["T"] + 5, found["B"] + 2), (found["T"] + 18, found["B"])):
        given = inputs_of(graph, time, batch)
        try:
            want = evaluate(graph, given, float64=True)
        except InputError:
            with pytest.raises(InputError):
                compiled(*given.values())
            continue
        for at_end in (True, False):
            with fenced_outputs(at_end=at_end):
                got = compiled(*(fenced(a, at_end=at_end) for a in given.values()))
            for (name, expected), array in zip(want.items(), got if isinstance(got, tuple) else (got,), strict=True):
                scale = max(1.0, float(np.abs(expected).max(initial=0)))
                assert array.shape == expected.shape
                np.testing.assert_allclose(array, expected, rtol=0, atol=TOLERANCE * scale, err_msg=f"{seed} {name}")
    return " ".join(k.backend for k in compiled.report.kernels)


def sweep_seeds(seeds: range, threads: int) -> None:
    kinds = [compare(seed, threads) for seed in seeds]
    assert sum(k == "llvm" for k in kinds) > len(kinds) * 0.9, kinds


@needs_mprotect
@pytest.mark.parametrize("threads", [1, 2])
def test_random_graphs(threads: int) -> None:
    run_sweep("from tests.backends.llvm.test_computed_sizes import sweep_seeds\n"
              f"sweep_seeds(range({40 * threads}, {40 * threads + 20}), {threads})")


@needs_mprotect
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_many_random_graphs() -> None:
    run_sweep("from tests.backends.llvm.test_computed_sizes import sweep_seeds\nsweep_seeds(range(1000, 1250), 2)")


@pytest.mark.parametrize("body", [
    "%b = broadcast %s {shape = [T, B], axes = []} : f32[T,B] %y = div %x, %b : f32[T,B]",
    "%t = tanh %s : f32[] %b = broadcast %t {shape = [T, B], axes = []} : f32[T,B] %y = div %x, %b : f32[T,B]",
    '%i = iota {size = B, dtype = f32} : f32[B] %n = size {dim = B, dtype = f32} : f32[] '
    '%m = broadcast %n {shape = [B], axes = []} : f32[B] %d = div %i, %m : f32[B] '
    '%b = broadcast %d {shape = [T, B], axes = [1]} : f32[T,B] %y = mul %x, %b : f32[T,B]',
])
def test_one_number_for_all_rows(body: str) -> None:
    graph = parse(f"graph @g(%x: f32[T,B], %s: f32[]) {{ {body} return y = %y }}")
    for time, batch in ((3, 5), (1, 1), (40, 2)):
        assert_native(graph, {"T": time, "B": batch})


@pytest.mark.parametrize("dtype", ["i64", "i32", "i16", "u8", "f32"])
def test_numbers_of_any_size_that_are_outputs(dtype: str) -> None:
    """No op of the segment reads them: they are copied all the same."""
    graph = parse(f"""graph @g(%x: f32[T,B]) {{
      %i = iota {{size = T, dtype = {dtype}}} : {dtype}[T]
      %y = tanh %x : f32[T,B]
      return i = %i, y = %y
    }}""")
    got = compile_graph(graph)(np.zeros((5, 2), np.float32))[0]
    np.testing.assert_array_equal(got, np.arange(5, dtype=got.dtype))
    assert got.dtype == graph.outputs[0].type.dtype.numpy
