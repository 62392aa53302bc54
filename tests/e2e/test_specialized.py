"""Models with a program for each value or size: threads, eviction, keys, what a hit costs, what is said."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

import numpy as np
import pytest
from onnx import helper

import rnngraph as rg
from rnngraph.errors import CompileError, InputError, StreamError
from rnngraph.ir import F32, I64, Array, TensorType
from rnngraph.runtime.keys import kept, key_of
from rnngraph.runtime.model import CompiledModel
from rnngraph.runtime.specialized import MAX_PROGRAMS, Needs, SpecializedModel
from tests.frontends.onnx_graphs import info, model

X = np.arange(12, dtype=np.float32).reshape(3, 4)
TYPES = {"x": TensorType(F32, (3, 4)), "k": TensorType(I64, ())}
WAIT = 30.0  # seconds after which a test that hangs fails


class Compiler:
    """Compiles x * k for each k, and counts; ``slow`` values wait for ``go``."""

    def __init__(self, *slow: int) -> None:
        self.count: Counter[int] = Counter()
        self.slow = slow
        self.started, self.go = Event(), Event()

    def __call__(self, values: Mapping[str, Array], sizes: Mapping[str, int]) -> CompiledModel | Needs:
        if "k" not in values:
            return Needs(values=("k",), reasons=("k decides",))
        k = int(values["k"])
        self.count[k] += 1
        if k in self.slow:
            self.started.set()
            assert self.go.wait(WAIT)
        if k < 0:
            raise CompileError("k must not be negative")
        return rg.compile(f"graph @g(%x: f32[3,4]) {{ %k = const splat({float(k)}) : f32[3,4]  "
                          "%y = mul %x, %k : f32[3,4]  return y = %y }")

    def model(self) -> SpecializedModel:
        needs = self({}, {})
        assert isinstance(needs, Needs)
        return SpecializedModel(self, TYPES, ("y",), needs)


def test_known_values_do_not_wait_for_a_compile() -> None:
    compiler = Compiler(7)
    made = compiler.model()
    made(X, np.array(2))
    with ThreadPoolExecutor(2) as pool:
        slow = pool.submit(made, X, np.array(7))
        assert compiler.started.wait(WAIT)
        np.testing.assert_array_equal(pool.submit(made, X, np.array(2)).result(WAIT), X * 2)
        assert not slow.done()
        compiler.go.set()
        np.testing.assert_array_equal(slow.result(WAIT), X * 7)
    assert compiler.count == {2: 1, 7: 1}


def test_one_value_in_many_threads_is_compiled_once() -> None:
    compiler = Compiler()
    made = compiler.model()
    with ThreadPoolExecutor(16) as pool:
        results = list(pool.map(lambda k: (k, made(X, np.array(k))), [i % 5 for i in range(200)]))
    for k, y in results:
        np.testing.assert_array_equal(y, X * k)
    assert compiler.count == dict.fromkeys(range(5), 1)


def test_a_compile_that_fails_hinders_nobody() -> None:
    compiler = Compiler()
    made = compiler.model()
    for _ in range(2):
        with pytest.raises(CompileError, match="must not be negative"):
            made(X, np.array(-1))
    np.testing.assert_array_equal(made(X, np.array(3)), X * 3)
    assert compiler.count == {-1: 2, 3: 1}


def test_the_program_that_was_not_used_for_longest_goes() -> None:
    compiler = Compiler()
    made = compiler.model()
    for k in range(MAX_PROGRAMS):
        made(X, np.array(k))
    made(X, np.array(0))  # used again
    made(X, np.array(MAX_PROGRAMS))  # 1 goes for it
    assert f"{MAX_PROGRAMS} programs are compiled, at most {MAX_PROGRAMS} are kept" in made.explain()
    made(X, np.array(0))
    assert compiler.count[0] == 1
    np.testing.assert_array_equal(made(X, np.array(1)), X)
    assert compiler.count[1] == 2
    assert compiler.count[2] == 1


def test_eviction_while_other_threads_call() -> None:
    compiler = Compiler()
    made = compiler.model()
    with ThreadPoolExecutor(8) as pool:
        ks = [k for i in range(2 * MAX_PROGRAMS) for k in (i, i // 2, 0)]
        for k, y in zip(ks, pool.map(lambda k: made(X, np.array(k)), ks), strict=True):
            np.testing.assert_array_equal(y, X * k)
    assert len(made._entries) == MAX_PROGRAMS


def test_what_is_known_later_joins_the_key() -> None:
    """One graph needs a value, then for that value a size."""
    made = model([helper.make_node("Reshape", ["x", "to"], ["y"])],
                 [info("x", ("n", "m")), info("to", (2,), "i64")], [info("y", (None, None))])
    compiled = rg.compile(made)
    for shape, to in (((3, 4), (4, 3)), ((3, 4), (2, -1)), ((6, 2), (4, 3)), ((6, 2), (-1, 1)), ((3, 4), (4, 3))):
        x = np.arange(12, dtype=np.float32).reshape(shape)
        np.testing.assert_array_equal(compiled(x, np.array(to)), x.reshape(to))


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.int8])
def test_values_of_any_layout_hit(dtype: Any) -> None:
    compiler = Compiler()
    made = compiler.model()
    room = np.array([5, 5, 5], dtype)
    for k in (room[0], room[::2][1], np.asarray(room[1:2]).reshape(()), 5):
        made(X, k)
    assert compiler.count == {5: 1}


@pytest.mark.parametrize("copies", [1, 1000])  # large ones are hashed by a sample
def test_keys_by_bytes(copies: int) -> None:
    """NaN is itself; -0.0 and 0.0 are different programs; alignment and strides make no difference."""
    base = np.array([1.0, np.nan, -0.0, 4.0] * copies, np.float32)
    shifted, spread = np.zeros(4 * copies + 1, np.float32)[1:], np.zeros(8 * copies, np.float32)[::2]
    offset = np.zeros(16 * copies + 1, np.uint8)[1:].view(np.float32)
    for other in (shifted, spread, offset):
        other[:] = base
    assert {key_of(a) for a in (base, shifted, spread, offset)} == {key_of(base)}
    assert key_of(base) != key_of(np.array([1.0, np.nan, 0.0, 4.0] * copies, np.float32))
    assert key_of(base) != key_of(base.reshape(2, -1))
    assert key_of(np.zeros((0, 2), np.float32)) != key_of(np.zeros((0, 3), np.float32))


def test_large_values_are_compared_whole() -> None:
    a = np.zeros(1 << 20, np.float32)
    b = a.copy()
    b[77_777] = 1.0  # between what is hashed
    assert hash(key_of(a)) == hash(key_of(b))
    assert key_of(a) != key_of(b)
    held = kept(key_of(a))
    a[0] = 1.0
    assert held == key_of(np.zeros_like(a)) != key_of(a)


def test_a_caller_s_array_may_change_after_the_call() -> None:
    compiler = Compiler()
    made = compiler.model()
    k = np.array(2)
    made(X, k)
    k[...] = 3
    np.testing.assert_array_equal(made(X, k), X * 3)
    np.testing.assert_array_equal(made(X, np.array(2)), X * 2)
    assert compiler.count == {2: 1, 3: 1}


def calls_of(function: Any) -> int:
    """How many calls of Python functions and of builtins it makes, its own included."""
    count = 0

    def profile(frame: Any, event: str, argument: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(profile)
    try:
        function()
    finally:
        sys.setprofile(None)
    return count


def test_the_work_of_a_hit() -> None:
    """Beside the program's own run: the same however many programs there are."""
    compiler = Compiler()
    made = compiler.model()
    k = np.array(2)
    inner = compiler({"k": k}, {})
    assert isinstance(inner, CompiledModel)
    inner(x=X)
    found = []
    for programs in (1, MAX_PROGRAMS):
        for other in range(programs):
            made(X, np.array(other + 2))
        for _ in range(3):  # until calls are repeated ones
            made(X, k)
            inner(X)
        found.append(calls_of(lambda: made(X, k)) - calls_of(lambda: inner(X)))
    assert found[0] == found[1]
    assert found[0] <= 40, "calls; a call of Python takes about 0.1 us"


def test_what_is_said() -> None:
    made = Compiler().model()
    assert made.describe() == "one program is compiled for each value of input 'k', because k decides"
    assert made.explain() == f"{made.describe()}\n0 programs are compiled, at most {MAX_PROGRAMS} are kept"
    made(X, np.array(2))
    assert "\n1 program is compiled, at most 64 are kept; the one that ran last:\n" in made.explain()
    with pytest.raises(StreamError, match="cannot run step by step: one program is compiled for each value of input"):
        made.stream()
    with pytest.raises(InputError, match="missing input"):
        made(X)
    with pytest.raises(InputError, match=r"expected f32\[3,4\]"):
        made(X[:, :3], np.array(2))
