"""The native backend against the float64 reference: random recurrences, random sizes, and graphs of odd shapes."""

from __future__ import annotations

from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rnngraph as rg
from rnngraph.ir import Array, Graph, evaluate, parse, verify
from rnngraph.nn import (
    GRU,
    LSTM,
    Bidirectional,
    Dense,
    Embedding,
    Input,
    LayerNormalization,
    Model,
    Sequential,
    ops,
    trace,
)
from tests.backends.llvm.helpers import TARGETS
from tests.backends.llvm.native import check, error, native
from tests.phases.cells import CELLS, layer
from tests.phases.random_cells import RandomCell
from tests.testing import random_inputs

randoms = st.randoms(use_true_random=False)
targets = st.sampled_from(sorted(TARGETS))


def check_random_cell(random: Random, target: str, threads: int = 1) -> None:
    cell = RandomCell(random, random.choice([1, 3, 9, 20, 40]), random.choice([3, 6, 12]))
    verify(cell.graph)
    run = native(cell.graph, TARGETS[target], threads)
    sizes = [{"T": random.randint(0, 5), "B": random.randint(1, 33)}, {"T": random.randint(1, 40), "B": 3}]
    check(run, sizes, tolerance=3e-5)  # a chain of up to 12 random ops may lose a few bits


@settings(max_examples=60, deadline=None)
@given(randoms, targets)
def test_random_cells(random: Random, target: str) -> None:
    check_random_cell(random, target)


@pytest.mark.slow
@pytest.mark.timeout(900)
@settings(max_examples=400, deadline=None)
@given(randoms, targets, st.integers(1, 3))
def test_many_random_cells(random: Random, target: str, threads: int) -> None:
    check_random_cell(random, target, threads)


def compiled_like_reference(graph: Graph, arrays: dict[str, Array], tolerance: float = 1e-5, **options: Any) -> None:
    """compile(graph) gives what the reference gives, twice."""
    want = evaluate(graph, arrays, float64=True)
    compiled = rg.compile(graph, target="cpu", **options)
    for _ in range(2):
        assert error(compiled.run(arrays), want) <= tolerance


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_random_layers(data: st.DataObject) -> None:
    """Any layer, alone, bidirectional or stacked, of any size, through the whole compiler."""
    kind = data.draw(st.sampled_from(["lstm", "gru_after", "gru_before", "simple", "minimal_gated", "layer_normed"]))
    units, features = data.draw(st.integers(1, 130)), data.draw(st.integers(1, 80))
    depth, both = data.draw(st.integers(1, 2)), data.draw(st.booleans())
    lengths, backwards = data.draw(st.booleans()), data.draw(st.booleans())
    layers: list[Any] = []
    for _ in range(depth):
        one: Any = layer(kind, units, return_state=False, go_backwards=backwards and not both)
        layers.append(Bidirectional(one) if both else one)
    graph = trace(Sequential(layers), Input(("batch", "time", features)), lengths=lengths)
    sizes = {"batch": data.draw(st.integers(1, 33)), "time": data.draw(st.integers(0, 70))}
    arrays = random_inputs(graph, sizes, data.draw(st.integers(0, 99)))
    if lengths:
        how = data.draw(st.sampled_from(["random", "zeros", "full"]))
        if how != "random":
            arrays["lengths"][:] = 0 if how == "zeros" else sizes["time"]
    compiled_like_reference(graph, arrays, threads=data.draw(st.integers(1, 3)))


# --- graphs of odd shapes -------------------------------------------------------------------------------------------


def sequence(inputs: int = 6, batch: int = 3, time: int = 7, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal((batch, time, inputs)).astype(np.float32)


def traced(model: Any, batch: int | str = "batch", time: int | str = "time") -> Graph:
    x = Input((batch, time, 6))
    outputs = model(x)
    return trace(Model(x, list(outputs) if isinstance(outputs, tuple) else outputs))


def skip(x: Any) -> Any:
    """The first layer's output beside its input feeds the second."""
    y = LSTM(5, return_sequences=True)(x)
    return GRU(4, return_sequences=True)(ops.concat([y, x]))


def residual(x: Any) -> Any:
    for _ in range(3):
        x = x + LSTM(6, return_sequences=True)(x)
    return Dense(2)(x)


def normalized(x: Any) -> Any:
    x = LayerNormalization()(GRU(9, return_sequences=True)(x))
    return GRU(5)(LayerNormalization()(x))


def encoder_decoder(x: Any) -> Any:
    _, h, c = LSTM(7, return_sequences=True, return_state=True)(x)
    return Dense(3)(LSTM(7, return_sequences=True)(x, initial_state=[h, c]))


def twice(x: Any) -> Any:
    y = LSTM(4, return_sequences=True)(x)
    return y, y, x


def both_ends(x: Any) -> Any:
    """Two scans that walk in opposite directions over one projection, and a copy of the input in both joins."""
    y = Bidirectional(GRU(4, return_sequences=True))(x)
    z = Bidirectional(GRU(3, return_sequences=True))(ops.concat([x, y]))
    return ops.concat([x, z]), ops.concat([y, x])


def last_only(x: Any) -> Any:
    return Dense(10, activation="relu")(Bidirectional(LSTM(6))(x))


def lanes_first(x: Any) -> Any:
    return ops.transpose(LSTM(5, return_sequences=True)(x), (2, 0, 1))


def pooled(x: Any) -> Any:
    y = GRU(5, return_sequences=True)(x)
    return ops.mean(y, axis=1), ops.max(y, axis=-1)


ODD = [skip, residual, normalized, encoder_decoder, twice, both_ends, last_only, lanes_first, pooled]


@pytest.mark.parametrize("model", ODD, ids=lambda f: f.__name__)
@pytest.mark.parametrize(("batch", "time"), [(3, 7), (1, 1), (2, 40)])
def test_models_of_odd_shapes(model: Any, batch: int, time: int) -> None:
    graph = traced(model)
    compiled_like_reference(graph, {"x": sequence(6, batch, time)}, threads=2)


@pytest.mark.parametrize(("batch", "time"), [(1, 9), (4, 1), (2, 5)])
def test_sizes_known_when_compiled(batch: int, time: int) -> None:
    for model in (skip, both_ends):
        compiled_like_reference(traced(model, batch, time), {"x": sequence(6, batch, time)})


def test_two_inputs_and_their_order() -> None:
    a, b = Input(("batch", "time", 6), name="a"), Input(("batch", "time", 3), name="b")
    graph = trace(Model([a, b], [GRU(4)(ops.concat([b, a])), LSTM(5)(b)]))
    compiled_like_reference(graph, {"a": sequence(6), "b": sequence(3, seed=1)})


def test_an_embedding_is_a_segment_of_another_backend() -> None:
    ids = Input(("batch", "time"), dtype="i32", name="ids")
    graph = trace(Model(ids, Dense(4)(GRU(7, return_sequences=True)(Embedding(11, 6)(ids)))))
    compiled_like_reference(graph, {"ids": np.random.default_rng(0).integers(0, 11, (3, 8)).astype(np.int32)})


GRAPHS = {
    "a row's number from outside": """graph @g(%x: f32[T,B,5], %m: f32[B], %h0: f32[B,5]) {
  %hT, %y = scan carry(h = %h0) over(x = %x) {steps = T, pad = zero} {
  ^(%h: f32[B,5], %u: f32[B,5]):
    %g = broadcast %m {shape = [B, 5], axes = [0]} : f32[B,5]
    %a = mul %h, %g : f32[B,5]
    %n = add %a, %u : f32[B,5]
    yield carry(h = %n) emit(y = %n)
  } : f32[B,5], f32[T,B,5]
  return y = %y, h = %hT
}""",
    "a row's number per step, batch first": """graph @g(%x: f32[T,B,5], %mt: f32[B,T], %h0: f32[B,5]) {
  %m = transpose %mt {perm = [1, 0]} : f32[T,B]
  %hT, %y = scan carry(h = %h0) over(x = %x, m = %m) {steps = T, pad = zero} {
  ^(%h: f32[B,5], %u: f32[B,5], %mm: f32[B]):
    %g = broadcast %mm {shape = [B, 5], axes = [0]} : f32[B,5]
    %a = mul %h, %g : f32[B,5]
    %n = add %a, %u : f32[B,5]
    yield carry(h = %n) emit(y = %n)
  } : f32[B,5], f32[T,B,5]
  return y = %y, h = %hT
}""",
    "a reduction that is an output too": """graph @g(%x: f32[T,B,5]) {
  %m = reduce_sum %x {axes = [2]} : f32[T,B]
  %g = broadcast %m {shape = [T, B, 5], axes = [0, 1]} : f32[T,B,5]
  %a = mul %x, %g : f32[T,B,5]
  return y = %a, m = %m
}""",
    "an input in several joins": """graph @g(%x: f32[T,B,5], %z: f32[T,B,3]) {
  %a = tanh %z : f32[T,B,3]
  %c = concat %x, %a {axis = 2} : f32[T,B,8]
  %d = concat %a, %x {axis = 2} : f32[T,B,8]
  %e = concat %x, %x {axis = 2} : f32[T,B,10]
  return c = %c, d = %d, e = %e
}""",
    "a join of part of a join": """graph @g(%x: f32[4,B,5], %z: f32[4,B,5]) {
  %c = concat %x, %z {axis = 0} : f32[8,B,5]
  %s = slice %c {axis = 0, start = 2, size = 4, step = 1} : f32[4,B,5]
  %d = concat %s, %x {axis = 0} : f32[8,B,5]
  %e = add %c, %d : f32[8,B,5]
  return e = %e
}""",
    "lanes leave first": """graph @g(%x: f32[T,B,5]) {
  %c = tanh %x : f32[T,B,5]
  %d = transpose %c {perm = [2, 0, 1]} : f32[5,T,B]
  return d = %d
}""",
    "lanes come first": """graph @g(%x: f32[5,T,B]) {
  %d = transpose %x {perm = [1, 2, 0]} : f32[T,B,5]
  %t = tanh %d : f32[T,B,5]
  return d = %t
}""",
    "four axes": """graph @g(%x: f32[T,B,3,5]) {
  %t = transpose %x {perm = [2, 1, 0, 3]} : f32[3,B,T,5]
  %c = tanh %t : f32[3,B,T,5]
  return a = %c
}""",
    "what comes in, twice, and constants": """graph @g(%x: f32[T,B,5]) {
  %c = tanh %x : f32[T,B,5]
  %k = const [1.0, 2.0] : f32[2]
  return a = %c, b = %c, k = %k, x = %x, x2 = %x
}""",
    "a state that never changes, one that is constant, and the old state emitted": """graph @g(%x: f32[T,B,5]) {
  %k = const splat(0.5) : f32[]
  %i = broadcast %k {shape = [B, 5], axes = []} : f32[B,5]
  %aT, %bT, %cT, %y, %z = scan carry(a = %i, b = %i, c = %i) over(x = %x) {steps = T, reverse = true, pad = zero} {
  ^(%a: f32[B,5], %b: f32[B,5], %c: f32[B,5], %u: f32[B,5]):
    %kk = const splat(1.5) : f32[]
    %j = broadcast %kk {shape = [B, 5], axes = []} : f32[B,5]
    %n = add %u, %c : f32[B,5]
    yield carry(a = %a, b = %j, c = %n) emit(y = %c, z = %b)
  } : f32[B,5], f32[B,5], f32[B,5], f32[T,B,5], f32[T,B,5]
  return y = %y, z = %z, a = %aT, b = %bT, c = %cT
}""",
    "a number repeated, on the left of a matmul": """graph @g(%x: f32[T,B,5], %h0: f32[B,2], %s: f32[]) {
  %w = const [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0] : f32[5,2]
  %q, %y = scan carry(h = %h0) over(x = %x) {steps = T, pad = zero} {
  ^(%h: f32[B,2], %u: f32[B,5]):
    %b = broadcast %s {shape = [B, 5], axes = []} : f32[B,5]
    %m = matmul %b, %w : f32[B,2]
    yield carry(h = %m) emit(y = %h)
  } : f32[B,2], f32[T,B,2]
  return y = %y
}""",
}


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("threads", [1, 3])
def test_graphs_of_odd_shapes(name: str, threads: int) -> None:
    graph = parse(GRAPHS[name])
    for sizes in ({"T": 6, "B": 4}, {"T": 1, "B": 1}, {"T": 33, "B": 20}):
        compiled_like_reference(graph, random_inputs(graph, sizes), 1e-6, threads=threads)


# --- arrays as users have them ----------------------------------------------------------------------------------------


def arrangements(x: Array) -> dict[str, Array]:
    """The same numbers in memory in every way that numpy allows."""
    raw = np.zeros(x.nbytes + 1, np.uint8)
    raw[1:] = np.frombuffer(x.tobytes(), np.uint8)
    wide = np.zeros((x.shape[0] * 2, x.shape[1], x.shape[2] + 3), np.float32)
    wide[::2, :, 1:-2] = x
    time_major = np.ascontiguousarray(x.transpose(1, 0, 2))
    return {"transposed": time_major.transpose(1, 0, 2), "fortran": np.asfortranarray(x),
            "unaligned": raw[1:].view(np.float32).reshape(x.shape), "sliced": wide[::2, :, 1:-2],
            "backwards": x[:, ::-1].copy()[:, ::-1], "big endian": x.astype(">f4"), "read only": read_only(x)}


def read_only(x: Array) -> Array:
    x = x.copy()
    x.flags.writeable = False
    return x


def test_any_arrangement_in_memory() -> None:
    compiled = rg.compile(Sequential([LSTM(9, return_sequences=True), Dense(3)]), Input(("batch", "time", 5)),
                          target="cpu")
    x = sequence(5, 4, 9)
    want = compiled(x)
    for name, array in arrangements(x).items():
        np.testing.assert_array_equal(array, x)
        before = array.copy()
        np.testing.assert_array_equal(compiled(array), want, err_msg=name)
        np.testing.assert_array_equal(array, before)


def test_no_steps() -> None:
    compiled = rg.compile(Sequential([LSTM(9, return_sequences=True), Dense(3)]), Input(("batch", "time", 5)),
                          target="cpu")
    assert np.shape(compiled(sequence(5, 3, 0))) == (3, 0, 3)
    last = rg.compile(LSTM(9), Input(("batch", "time", 5)), target="cpu")
    np.testing.assert_array_equal(last(sequence(5, 3, 0)), np.zeros((3, 9), np.float32))


def test_every_kind_is_compiled_natively() -> None:
    """No cell of the zoo falls back to the reference backend."""
    for kind in CELLS:
        compiled = rg.compile(layer(kind, 4), Input(("batch", "time", 3)), target="cpu")
        assert {k.backend for k in compiled.report.kernels} == {"llvm"}, kind
