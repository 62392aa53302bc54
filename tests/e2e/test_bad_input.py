"""What a caller can get wrong, on native code: the class of the error and what it names; never a crash."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rnngraph as rg
from rnngraph.errors import (
    InputError,
    TraceError,
)
from rnngraph.ir import Array
from rnngraph.nn import GRU, LSTM, Bidirectional, Dense, SimpleRNN
from rnngraph.runtime.model import CompiledModel

ROOT = Path(__file__).resolve().parents[2]
INPUTS = rg.Input(("batch", "time", 5))
X = np.random.default_rng(0).standard_normal((2, 6, 5)).astype(np.float32)
STATE = np.zeros((2, 4), np.float32)


def stack() -> rg.Sequential:
    return rg.Sequential([LSTM(4, return_sequences=True, name="low"), GRU(3, return_state=True, name="high")])


@pytest.fixture(scope="module")
def model() -> CompiledModel:
    return rg.compile(stack(), INPUTS, target="cpu", threads=2)


def raises(error: type[Exception], message: str) -> Any:
    return pytest.raises(error, match=re.escape(message))


# --- arrays ------------------------------------------------------------------------------------------------------


class Broken:
    """Something whose conversion to an array fails."""

    def __array__(self, *_: object, **__: object) -> Array:
        raise RuntimeError("no data")


@pytest.mark.parametrize(("given", "got"), [
    (X[0], "(rank 3), got shape (6, 5) (rank 2)"),
    (np.float32(1.0), "(rank 3), got shape () (rank 0)"),
    (np.array(1.0, np.float32), "(rank 3), got shape () (rank 0)"),
    (X[..., :3], "got shape (2, 6, 3) (axis 2 is 3, not 5)"),
    (X[..., :0], "got shape (2, 6, 0) (axis 2 is 0, not 5)"),
    (X.astype(np.float64), "got dtype float64; convert it first: x.astype(numpy.float32)"),
    (X.astype(np.float16), "got dtype float16; convert it first"),
    (X.astype(np.complex64), "got dtype complex64; convert it first"),
    (X.astype(np.int64), "got dtype int64; convert it first"),
    (X > 0, "got dtype bool; convert it first"),
    (X.astype(object), "got dtype object; convert it first"),
    (X.tolist(), "got dtype float64; convert it first"),
    (np.zeros((2, 6, 5), [("a", "f4")]), "got dtype [('a', '<f4')]; convert it first"),
    (np.ma.masked_array(X, X > 0), "got a masked array, whose mask would be lost; fill it first"),
    ([[1.0], [2.0, 3.0]], "got something that is no array"),
    (Broken(), "got something that is no array: no data"),
    (None, "got dtype object"), ("text", "got dtype <U4"),
    ({"x": X}, "got a mapping with the keys ['x']: inputs by name go to model.run"),
], ids=lambda v: v[:24] if isinstance(v, str) else "")
def test_arrays_that_do_not_fit(model: CompiledModel, given: object, got: str) -> None:
    with raises(InputError, "input 'x': expected f32[batch,time,5]") as e:
        model(given)
    assert got in str(e.value)


def read_only(x: Array) -> Array:
    view = x.copy()
    view.flags.writeable = False
    return view


def unaligned(x: Array) -> Array:
    out = np.zeros(x.nbytes + 1, np.uint8)[1:].view(x.dtype).reshape(x.shape)
    out[...] = x
    return out


@pytest.mark.parametrize("change", [
    read_only, unaligned,
    lambda x: x[::-1, ::-1, ::-1].copy()[::-1, ::-1, ::-1],
    lambda x: np.asfortranarray(x),
    lambda x: np.repeat(np.repeat(x, 3, axis=2), 2, axis=0)[::2, :, ::3],
    lambda x: x.astype(">f4"),
    lambda x: x.view(type("Sub", (np.ndarray,), {})),
], ids=["read-only", "unaligned", "negative-strides", "fortran", "strided", "big-endian", "subclass"])
@pytest.mark.parametrize("lengths", [None, [6, 2]], ids=["full", "lengths"])
def test_layouts_that_do(model: CompiledModel, change: Callable[[Array], Array], lengths: Any) -> None:
    for got, want in zip(model(change(X), lengths=lengths), model(X, lengths=lengths), strict=True):
        np.testing.assert_array_equal(got, want)


def test_broadcast_arrays(model: CompiledModel) -> None:
    rows = np.broadcast_to(X[:1], (3, 6, 5))
    np.testing.assert_array_equal(model(rows)[0], model(rows.copy())[0])


# --- calls -------------------------------------------------------------------------------------------------------


LENGTHS = "input 'lengths': expected i32[batch]"


@pytest.mark.parametrize(("call", "message"), [
    (lambda m: m(), "missing input(s) ['x']; the model takes ['x']"),
    (lambda m: m(X, X), "expected 1 input(s) ['x'], got 2 arrays"),
    (lambda m: m(X, x=X), "input 'x' is given twice, by position and by name"),
    (lambda m: m(y=X), "unknown input 'y'; the model takes ['x']"),
    (lambda m: m.run({}), "missing input(s) ['x']"),
    (lambda m: m.run([X]), "run takes a mapping from input names to arrays, got list"),
    (lambda m: m.run({1: X}), "run takes a mapping from input names to arrays, got the keys [1]"),
    (lambda m: m(X, lengths=[7, 1]),
     "input 'lengths': values must be in 0..6, the number of steps (layer 'low'); got 1..7"),
    (lambda m: m(X, lengths=[-1, 1]), "values must be in 0..6, the number of steps (layer 'low'); got -1..1"),
    (lambda m: m(X, lengths=[1.0, 2.0]), f"{LENGTHS}, got dtype float64"),
    (lambda m: m(X, lengths=[True, False]), f"{LENGTHS}, got dtype bool"),
    (lambda m: m(X, lengths=[None, 1]), f"{LENGTHS}, got dtype object"),
    (lambda m: m(X, lengths=[2**40, 1]), "int64 values up to 1099511627776 that do not fit int32"),
    (lambda m: m(X, lengths=np.ma.masked_array([1, 2], [True, False])), f"{LENGTHS}, got a masked array"),
    (lambda m: m(X, lengths=[1]), "input 'lengths': dim 'batch' is 1 here but 2 in 'x'"),
    (lambda m: m(X, lengths=3), f"{LENGTHS} (rank 1), got shape () (rank 0)"),
    (lambda m: m(X, lengths=[[1, 2]]), f"{LENGTHS} (rank 1), got shape (1, 2) (rank 2)"),
    (lambda m: m(X, initial_state=[]), "expected one array for each of ['low.h0', 'low.c0', 'high.h0'], got 0"),
    (lambda m: m(X, initial_state=5), "initial_state: expected arrays for ['low.h0', 'low.c0', 'high.h0'], by name or "
                                      "in order, got int"),
    (lambda m: m(X, initial_state={"mid.h": STATE}), "initial_state: unknown state(s) ['mid.h']; the model has "),
    (lambda m: m(X, initial_state={1: STATE}), "initial_state: unknown state(s) [1]"),
    (lambda m: m(X, initial_state={"low.h": STATE, "low.h0": STATE}),
     "some state is given twice in ['low.h', 'low.h0']"),
    (lambda m: m(X, initial_state={"low.h": STATE.astype(float)}),
     "input 'low.h0': expected f32[batch,4], got dtype float64"),
    (lambda m: m(X, initial_state={"low.c": STATE[:, :2]}), "input 'low.c0': expected f32[batch,4], got shape (2, 2)"),
    (lambda m: m(X, initial_state={"high.h": np.zeros((3, 3), np.float32)}),
     "input 'high.h0': dim 'batch' is 3 here but 2 in 'x'"),
])
def test_calls_that_do_not_fit(model: CompiledModel, call: Callable[[CompiledModel], Any], message: str) -> None:
    with raises(InputError, message):
        call(model)


def test_lengths_for_a_model_without_time() -> None:
    head = rg.compile(Dense(2, name="head"), rg.Input(("batch", 5)), target="cpu")
    with raises(TraceError, "lengths=True, but the model has no recurrent layer"):
        head(X[0], lengths=[1] * 6)


@pytest.mark.parametrize(("ids", "message"), [
    ([[0, 7]], "input 'x': values must be in 0..6, the table's last row (layer 'words'); got 0..7"),
    ([[-1, 0]], "got -1..0"),
    ([[0.5]], "input 'x': expected i32[batch,time], got dtype float64"),
    ([0], "(rank 2), got shape (1,) (rank 1)"),
])
def test_indices_out_of_the_table(ids: Any, message: str) -> None:
    layers = rg.Sequential([rg.nn.Embedding(7, 4, name="words"), LSTM(3)])
    words = rg.compile(layers, rg.Input(("batch", "time"), dtype="i32"), target="cpu")
    with raises(InputError, message):
        words(np.array(ids))


# --- empty, not finite, huge -------------------------------------------------------------------------------------


def test_an_empty_batch_and_no_steps(model: CompiledModel) -> None:
    cases: list[tuple[int, Any]] = [(6, None), (0, None), (6, [])]
    for steps, lengths in cases:
        y, h = model(np.zeros((0, steps, 5), np.float32), lengths=lengths)
        assert y.shape == h.shape == (0, 3)
    y, h = model(X[:, :0])
    np.testing.assert_array_equal([y, h], np.zeros((2, 2, 3)))
    state = np.full((2, 3), 0.5, np.float32)
    for lengths in (None, [0, 0]):
        np.testing.assert_array_equal(model(X[:, :0], lengths=lengths, initial_state={"high.h": state})[1], state)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("make", [LSTM, GRU, SimpleRNN])
def test_not_finite_numbers_stay_in_their_row(make: Any, threads: int) -> None:
    layer = make(17, return_sequences=True)
    made = rg.compile(layer, INPUTS, target="cpu", threads=threads)
    x = np.random.default_rng(1).standard_normal((9, 6, 5)).astype(np.float32)
    bad = x.copy()
    bad[1, 2, 3], bad[4, 1, 0], bad[7, 5, 4] = np.nan, np.inf, -np.inf
    with np.errstate(all="ignore"):
        want = rg.ir.evaluate(rg.trace(layer, INPUTS), {"x": bad}, float64=True)["y"]
    clean, y = made(x), made(bad)
    np.testing.assert_array_equal(np.isnan(y), np.isnan(want))
    np.testing.assert_allclose(y, want, rtol=0.0, atol=1e-5)
    others = [r for r in range(9) if r not in (1, 4, 7)]
    np.testing.assert_array_equal(y[others], clean[others])  # type: ignore[call-overload]
    np.testing.assert_array_equal(y[1, :2], clean[1, :2])  # type: ignore[call-overload]


@pytest.mark.parametrize("make", [
    lambda m: m(7, return_sequences=True, zero_output_for_mask=True),
    lambda m: m(7, go_backwards=True),
    lambda m: Bidirectional(m(7)),
    lambda m: rg.Sequential([Bidirectional(m(7, return_sequences=True)), m(3)]),
], ids=["sequence", "backwards", "bidirectional", "stack"])
@pytest.mark.parametrize("cell", [LSTM, GRU, SimpleRNN])
def test_padding_may_hold_anything(make: Callable[[Any], Any], cell: Any) -> None:
    made = rg.compile(make(cell), INPUTS, target="cpu", threads=2)
    x = np.random.default_rng(2).standard_normal((4, 6, 5)).astype(np.float32)
    lengths = np.array([3, 6, 0, 1])
    padding = np.arange(6) >= lengths[:, None]
    with np.errstate(all="ignore"):
        outs = [made(np.where(padding[:, :, None], np.float32(v), x), lengths=lengths) for v in (0.0, np.nan, np.inf)]
    np.testing.assert_array_equal(outs[1], outs[0])
    np.testing.assert_array_equal(outs[2], outs[0])
    assert np.isfinite(outs[0]).all()


def test_sizes_beyond_memory(model: CompiledModel) -> None:
    one = np.zeros(1, np.float32)
    for shape in [(2**20, 2**20, 5), (2**40, 1, 5), (1, 2**40, 5)]:
        with pytest.raises((MemoryError, InputError)):
            model(np.lib.stride_tricks.as_strided(one, shape, (0, 0, 0)))
    assert model(X)[0].shape == (2, 3)  # and it still works


# --- never a crash -----------------------------------------------------------------------------------------------

FUZZ = """
import sys
import numpy as np
import rnngraph as rg
from rnngraph.errors import RnngraphError

rng = np.random.default_rng(int(sys.argv[1]))
model = rg.compile(rg.Sequential([rg.nn.Bidirectional(rg.nn.LSTM(9, return_sequences=True), name="a"),
                                  rg.nn.GRU(5, return_state=True, name="b")]),
                   rg.Input(("batch", "time", 3)), target="cpu", threads=2)
names = ["a/forward.h", "a/forward.c0", "a/backward.h0", "a/backward.c", "b.h", "b.h0", "b.c", "x", ""]

def dim(right):
    return int(right if rng.random() < 0.93 else rng.integers(0, 9))

def array(shape):
    kind = rng.choice([*["f4"] * 12, ">f4", "f8", "i4", "O", "?", "U3", "c8"])
    a = np.asarray(rng.standard_normal(shape) * 10.0 ** rng.integers(-40, 39)).astype(kind)
    for axis in range(a.ndim):
        if rng.random() < 0.2:
            a = np.flip(a, axis)
    return np.moveaxis(np.moveaxis(a, 0, -1).copy(), -1, 0) if a.ndim and rng.random() < 0.3 else a

def lengths(batch, steps):
    made = rng.integers(-1 if rng.random() < 0.1 else 0, steps + (2 if rng.random() < 0.1 else 1), dim(batch))
    return [made.astype(rng.choice(["i4", "i8", "u1", "f4", "O"])), made.tolist(), None, 3][rng.integers(0, 4)]

ran = refused = 0
with np.errstate(all="ignore"):
    for _ in range(int(sys.argv[2])):
        batch, steps = int(rng.integers(0, 40)), int(rng.integers(0, 12))
        shape = (batch, steps, dim(3))[: 3 if rng.random() < 0.9 else 2]
        state = {str(rng.choice(names)): array((dim(batch), dim(9))) for _ in range(rng.integers(0, 4))} or None
        try:
            y, h = model(array(shape), lengths=lengths(batch, steps), initial_state=state)
        except RnngraphError as e:
            assert str(e)
            refused += 1
        else:
            assert y.shape == h.shape == (batch, 5) and y.dtype == np.float32
            ran += 1
print(ran, refused)
"""


@pytest.mark.parametrize(("seed", "calls"), [(0, 300), pytest.param(1, 5000, marks=pytest.mark.slow)])
def test_calls_at_random_run_or_are_refused(seed: int, calls: int) -> None:
    done = subprocess.run([sys.executable, "-c", FUZZ, str(seed), str(calls)], cwd=ROOT, capture_output=True, text=True,
                          check=False)
    assert done.returncode == 0, done.stderr
    ran, refused = map(int, done.stdout.split())
    assert ran > calls // 50
    assert refused > calls // 50
