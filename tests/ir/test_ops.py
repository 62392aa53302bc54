"""Every op of the table against plain numpy, and every typing rule against operands that do not fit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import erf
from typing import Any

import numpy as np
import pytest

from rnngraph.errors import InputError, ParseError
from rnngraph.ir import OPS, Array, Dims, OpDef, evaluate, index_ops, math_ops, numel, order_ops, parse, pool_ops

RNG = np.random.default_rng(0)
X = RNG.standard_normal((3, 4)).astype(np.float32)
Z = RNG.standard_normal((3, 4)).astype(np.float32)
P, Q = X > 0, Z > 0
W = RNG.standard_normal((4, 5)).astype(np.float32)
ABC = RNG.standard_normal((2, 3, 4)).astype(np.float32)
IMAGE = RNG.standard_normal((3, 4, 5, 2)).astype(np.float32)
KERNEL = RNG.standard_normal((2, 3, 1, 4)).astype(np.float32)
INPUTS: Mapping[str, tuple[str, Array]] = {
    "x": ("f32[B,4]", X), "z": ("f32[B,4]", Z), "p": ("bool[B,4]", P), "q": ("bool[B,4]", Q), "w": ("f32[4,5]", W),
    "abc": ("f32[2,B,4]", ABC), "image": ("f32[3,4,5,2]", IMAGE),
    "kernel": ("f32[2,3,1,4]", KERNEL), "i": ("i32[5]", np.array([3, 0, 2, 2, 1], np.int32)),
}


def run(line: str, result: str, **more: Array) -> Array:
    args = ", ".join(f"%{n}: {t}" for n, (t, _) in INPUTS.items())
    graph = parse(f"graph @g({args}) {{ %y = {line} : {result}  return y = %y }}")
    return evaluate(graph, {n: more.get(n, a) for n, (_, a) in INPUTS.items()})["y"]


def sigmoid(x: Array) -> Any:
    return 1 / (1 + np.exp(-x))


def softmax(x: Array) -> Any:
    return np.exp(x) / np.exp(x).sum(-1, keepdims=True)


def grouped_conv() -> Array:
    """Stride 2 and 1, one zero above, dilation 1 and 2, two groups; one output at a time."""
    padded = np.pad(IMAGE, ((0, 0), (1, 0), (0, 0), (0, 0)))
    out = np.zeros((3, 2, 1, 4), np.float32)
    for b, y, f, ky, kx in np.ndindex(3, 2, 4, 2, 3):
        out[b, y, 0, f] += padded[b, 2 * y + ky, 2 * kx, f // 2] * KERNEL[ky, kx, 0, f]
    return out


SAME = "f32[B,4]"
CASES: dict[str, tuple[str, str, Callable[[], Any]]] = {
    "add": ("add %x, %z", SAME, lambda: X + Z),
    "sub": ("sub %x, %z", SAME, lambda: X - Z),
    "mul": ("mul %x, %z", SAME, lambda: X * Z),
    "div": ("div %x, %z", SAME, lambda: X / Z),
    "pow": ("pow %x, %z", SAME, lambda: np.power(X, Z)),
    "min": ("min %x, %z", SAME, lambda: np.minimum(X, Z)),
    "max": ("max %x, %z", SAME, lambda: np.maximum(X, Z)),
    "neg": ("neg %x", SAME, lambda: -X),
    "abs": ("abs %x", SAME, lambda: abs(X)),
    "sign": ("sign %x", SAME, lambda: np.sign(X)),
    "floor": ("floor %x", SAME, lambda: np.floor(X)),
    "sqrt": ("sqrt %x", SAME, lambda: np.sqrt(X)),
    "exp": ("exp %x", SAME, lambda: np.exp(X)),
    "log": ("log %x", SAME, lambda: np.log(X)),
    "tanh": ("tanh %x", SAME, lambda: np.tanh(X)),
    "sigmoid": ("sigmoid %x", SAME, lambda: sigmoid(X)),
    "relu": ("relu %x", SAME, lambda: np.where(X > 0, X, 0)),
    "erf": ("erf %x", SAME, lambda: [[erf(v) for v in row] for row in X.tolist()]),
    "lt": ("lt %x, %z", "bool[B,4]", lambda: X < Z),
    "le": ("le %x, %z", "bool[B,4]", lambda: X <= Z),
    "gt": ("gt %x, %z", "bool[B,4]", lambda: X > Z),
    "ge": ("ge %x, %z", "bool[B,4]", lambda: X >= Z),
    "eq": ("eq %x, %x", "bool[B,4]", lambda: X == X),
    "ne": ("ne %x, %x", "bool[B,4]", lambda: np.zeros_like(P)),
    "and": ("and %p, %q", "bool[B,4]", lambda: P & Q),
    "or": ("or %p, %q", "bool[B,4]", lambda: P | Q),
    "not": ("not %p", "bool[B,4]", lambda: ~P),
    "select": ("select %p, %x, %z", SAME, lambda: np.where(P, X, Z)),
    "matmul": ("matmul %abc, %w", "f32[2,B,5]", lambda: ABC @ W),
    "reduce_sum": ("reduce_sum %abc {axes = [0, 2]}", "f32[B]", lambda: ABC.sum((0, 2))),
    "reduce_mean": ("reduce_mean %abc {axes = [2]}", "f32[2,B]", lambda: ABC.mean(2)),
    "reduce_max": ("reduce_max %abc {axes = [1]}", "f32[2,4]", lambda: ABC.max(1)),
    "reduce_min": ("reduce_min %abc {axes = [1]}", "f32[2,4]", lambda: ABC.min(1)),
    "reduce_prod": ("reduce_prod %abc {axes = [0, 2]}", "f32[B]", lambda: ABC.prod((0, 2))),
    "softmax": ("softmax %x {axis = 1}", SAME, lambda: softmax(X)),
    "const": ("const [1.5, -2.0]", "f32[2]", lambda: np.array([1.5, -2.0])),
    "cast": ("cast %x {dtype = f16}", "f16[B,4]", lambda: X.astype(np.float16)),
    "broadcast": ("broadcast %w {shape = [4, B, 5], axes = [0, 2]}", "f32[4,B,5]",
                  lambda: np.broadcast_to(W[:, None, :], (4, 3, 5))),
    "concat": ("concat %x, %z, %x {axis = 1}", "f32[B,12]", lambda: np.concatenate([X, Z, X], 1)),
    "slice": ("slice %w {axis = 1, start = -4, size = 2, step = 2}", "f32[4,2]", lambda: W[:, 1:4:2]),
    "reshape": ("reshape %abc {shape = [4, 2, B]}", "f32[4,2,B]", lambda: ABC.reshape(4, 2, 3)),
    "transpose": ("transpose %abc {perm = [2, 0, 1]}", "f32[4,2,B]", lambda: ABC.transpose(2, 0, 1)),
    "reverse": ("reverse %abc {axis = 1}", "f32[2,B,4]", lambda: ABC[:, ::-1]),
    "conv": ("conv %image, %kernel {strides = [2, 1], low = [1, 0], high = [0, 0], dilation = [1, 2], groups = 2}",
             "f32[3,2,1,4]", grouped_conv),
    "pad": ("pad %abc {low = [0, 0, 1], high = [2, 0, 0]}", "f32[4,B,5]",
            lambda: np.pad(ABC, ((0, 2), (0, 0), (1, 0)))),
    "shift_rows": ("shift_rows %abc {by = -2, image = 0}", "f32[2,B,4]",
                   lambda: np.concatenate([np.zeros((2, 4)), ABC.reshape(6, 4)[:-2]]).reshape(2, 3, 4)),
    "windows": ("windows %abc {size = 2, stride = 1}", "f32[2,B-1,8]",
                lambda: np.concatenate([ABC[:, :-1], ABC[:, 1:]], -1)),
    "gather": ("gather %w, %i", "f32[5,5]", lambda: W[[3, 0, 2, 2, 1]]),
    "iota": ("iota {size = \"2*B+1\", dtype = i16}", "i16[2*B+1]", lambda: np.arange(7)),
    "size": ("size {dim = \"B//2\", dtype = f32}", "f32[]", lambda: 1.0),
    "random_mask": ("random_mask {seed = 3, rate = 0.0, shape = [B, 4], dtype = f32}", SAME, lambda: np.ones((3, 4))),
}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", CASES)
def test_evaluates_as_numpy(name: str) -> None:
    line, result, expected = CASES[name]
    got = run(line, result)
    np.testing.assert_allclose(got, np.asarray(expected()), rtol=1e-6, atol=1e-7)


def test_every_op_has_a_case() -> None:
    elsewhere = {"scan", "rnn", "yield", "return"}  # test_scan.py, test_rnn.py
    for module in (math_ops, order_ops, index_ops, pool_ops):  # tests/nn: test_numeric, test_indexing, test_windows
        elsewhere |= {d.name for d in vars(module).values() if isinstance(d, OpDef)}
    assert set(OPS) - elsewhere == set(CASES)


WRONG = {
    "add": [("add %x, %w", "operands must have one type, got f32[B,4] and f32[4,5] (operand 1)"),
            ("add %x", "add: expected 2 operand(s), got 1"), ("add %p, %q", "add: operands must be numbers")],
    "tanh": [("tanh %i", "tanh: operand 0 must be a float tensor, got i32[5]")],
    "lt": [("lt %x, %p", "lt: operands must have one type")],
    "and": [("and %x, %z", "and: operands must be bool, got f32[B,4]")],
    "not": [("not %p, %q", "not: expected 1 operand(s), got 2")],
    "select": [("select %x, %x, %z", "select: condition must be bool"),
               ("select %p, %x, %w", "select: operands must have one type"),
               ("select %p, %x", "select: expected 3 operand(s), got 2")],
    "matmul": [("matmul %x, %z", "matmul: inner dims differ: f32[B,4] has 4, f32[B,4] has B"),
               ("matmul %i, %i", "matmul: operand 0 must be a float tensor"),
               ("matmul %x, %abc", "matmul: inner dims differ")],
    "reduce_sum": [("reduce_sum %x {axes = [2]}", "reduce_sum: axis must be in 0..1, got 2"),
                   ("reduce_sum %x {axes = []}", "reduce_sum: axes must be increasing and not empty"),
                   ("reduce_sum %x {axes = [1, 0]}", "reduce_sum: axes must be increasing and not empty")],
    "conv": [("conv %x, %w {strides = [], low = [], high = [], dilation = []}", "expected a kernel [*size"),
             ("conv %x, %kernel {strides = [1, 1], low = [0, 0], high = [0, 0], dilation = [1, 1]}",
              "conv: a kernel f32[2,3,1,4] takes [batch, 2 spatial dims, channels], got f32[B,4]"),
             ("conv %image, %kernel {strides = [1, 1], low = [0, 0], high = [0, 0], dilation = [1, 1]}",
              "f32[3,4,5,2] has 2 channels; the kernel f32[2,3,1,4] takes 1 in each of 1 group(s)"),
             ("conv %image, %kernel {strides = [1, 0], low = [0, 0], high = [0, 0], dilation = [1, 1], groups = 2}",
              "conv: strides must be 2 number(s) >= 1, got [1, 0]"),
             ("conv %image, %kernel {strides = [1, 1], low = [0, 0], high = [0, 0], dilation = [4, 1], groups = 2}",
              "is larger than the padded input")],
    "pad": [("pad %x {low = [1, 0], high = [0, 0]}", "result 0 of pad is f32[B+1,4], the text says"),
            ("pad %x {low = [1], high = [0]}", "pad: low and high must be 2 numbers >= 0")],
    "shift_rows": [("shift_rows %i {by = 1}", "shift_rows: expected rows of lanes, got i32[5]"),
                   ("shift_rows %x {by = 1, image = -1}", "shift_rows: image must be >= 0, got -1")],
    "windows": [("windows %w {size = 5, stride = 1}", "windows: a window of 5 rows is larger than f32[4,5]"),
                ("windows %w {size = 1, stride = 0}", "windows: size and stride must be >= 1, got 1 and 0"),
                ("windows %i {size = 1, stride = 1}", "windows: expected rows of lanes, got i32[5]")],
    "softmax": [("softmax %x {axis = 2}", "softmax: axis must be in 0..1, got 2")],
    "broadcast": [("broadcast %x {shape = [B, 5], axes = [0, 1]}", "broadcast: operand f32[B,4] has dim 4 where"),
                  ("broadcast %x {shape = [B, 4], axes = [0]}", "broadcast: axes must name 2 increasing result axes"),
                  ("broadcast %x {shape = [B, 4], axes = [0, 2]}", "broadcast: axis must be in 0..1, got 2")],
    "concat": [("concat %x, %w {axis = 1}", "concat: operands must agree in dim 0"),
               ("concat %x, %abc {axis = 1}", "concat: operands must agree in dtype and rank"),
               ("concat %x, %z {axis = 0}", "result 0 of concat is f32[2*B,4], the text says"),
               ("concat %x {axis = 5}", "concat: axis must be in 0..1, got 5")],
    "slice": [("slice %w {axis = 1, start = 3, size = 3}", "slice: start 3, size 3, step 1 do not fit dim 5"),
              ("slice %w {axis = 1, start = -6, size = 1}", "slice: start -6, size 1, step 1 do not fit dim 5"),
              ("slice %w {axis = 1, start = 0, size = 1, step = 0}", "slice: step must be >= 1, got 0"),
              ("slice %x {axis = 0, start = 2, size = B}", "slice: start 2, size B, step 1 do not fit dim B of"),
              ("slice %w {axis = 2, start = 0, size = 1}", "slice: axis must be in 0..1, got 2"),
              ("slice %w {axis = 0, start = 0, size = -1}", "slice: size must be >= 0, got -1")],
    "reshape": [("reshape %x {shape = [B, 5]}", "reshape: cannot turn f32[B,4] into [B,5]: sizes differ")],
    "transpose": [("transpose %x {perm = [0, 0]}", "transpose: perm must be a permutation of 0..1, got [0, 0]")],
    "reverse": [("reverse %x {axis = -1}", "reverse: axis must be in 0..1, got -1")],
    "gather": [("gather %w, %x", "gather: expected a table and an integer index")],
    "random_mask": [("random_mask {seed = 1, rate = 1.5, shape = [2]}", "random_mask: rate must be in 0..1, got 1.5"),
                    ("random_mask %x {seed = 1, rate = 0.5, shape = [2]}", "random_mask: expected 0 operand(s)")],
    "iota": [("iota {size = 4, dtype = bool}", "iota: dtype must be one of numbers, got bool"),
             ("iota {size = \"B+0\", dtype = i32}", "the dim 'B+0' is spelled B"),
             ("iota %x {size = 4, dtype = i32}", "iota: expected 0 operand(s), got 1")],
    "size": [("size {dim = \"B B\", dtype = i32}", "a symbolic dim is an identifier or an expression")],
    "cast": [("cast {dtype = f16}", "cast: expected 1 operand(s), got 0")],
}


@pytest.mark.parametrize(("line", "message"), [case for cases in WRONG.values() for case in cases])
def test_typing_rules_name_op_expected_and_got(line: str, message: str) -> None:
    with pytest.raises(ParseError) as caught:
        run(line, SAME)
    assert message in str(caught.value)


UNARY = [d.name for d in OPS.values() if "elementwise" in d.tags and d.name in CASES and " %z" not in CASES[d.name][0]
         and d.name not in ("eq", "ne", "not", "and", "or", "select")]


@pytest.mark.parametrize("name", UNARY)
def test_unary_rules(name: str) -> None:
    with pytest.raises(ParseError, match=r"must be a (float tensor|tensor of numbers), got bool"):
        run(f"{name} %p", "bool[B,4]")


def test_no_warning_and_no_surprise_at_the_edges() -> None:
    big = np.array([[np.inf, -np.inf, np.nan, 1e30]] * 3, np.float32)
    assert run("sigmoid %x", SAME, x=big)[0].tolist()[:2] == [1.0, 0.0]
    assert run("tanh %x", SAME, x=big)[0].tolist()[:2] == [1.0, -1.0]
    assert np.isnan(run("relu %x", SAME, x=big)[0, 2])
    assert np.isnan(run("max %x, %z", SAME, x=big)[0, 2])


def test_reductions_over_nothing() -> None:
    empty: dict[str, Array] = {n: np.zeros((0, 4), a.dtype) for n, (_, a) in INPUTS.items() if n in "xzpq"}
    empty["abc"] = np.zeros((2, 0, 4), np.float32)
    assert (run("reduce_max %abc {axes = [1]}", "f32[2,4]", **empty) == -np.inf).all()
    assert (run("reduce_min %abc {axes = [1]}", "f32[2,4]", **empty) == np.inf).all()
    assert (run("reduce_sum %abc {axes = [1]}", "f32[2,4]", **empty) == 0).all()
    assert np.isnan(run("reduce_mean %abc {axes = [1]}", "f32[2,4]", **empty)).all()
    assert run("reduce_mean %abc {axes = [2]}", "f32[2,B]", **empty).shape == (2, 0)
    assert run("softmax %x {axis = 0}", SAME, **empty).shape == (0, 4)


def test_bf16_rounds_to_nearest_even_and_keeps_nan() -> None:
    values = np.array([[1.0, 1.00390625, 1.01171875, np.nan]] * 3, np.float32)
    got = run("cast %x {dtype = bf16}", "bf16[B,4]", x=values)[0]
    np.testing.assert_array_equal(got, np.array([1.0, 1.0, 1.015625, np.nan], np.float32))


def test_gather_and_slice_check_at_run_time() -> None:
    with pytest.raises(InputError, match=r"gather: indices must be in 0..3, got -1..4"):
        run("gather %w, %i", "f32[5,5]", i=np.array([4, -1, 0, 0, 0], np.int32))
    with pytest.raises(InputError, match="slice: start 2, size 2 do not fit axis 0 of size 3"):
        run("slice %x {axis = 0, start = 2, size = 2}", "f32[2,4]")


def test_masks_scale_what_they_keep() -> None:
    line = "random_mask {{seed = {}, rate = {}, shape = [100, 100]}}"
    half = run(line.format(3, 0.5), "f32[100,100]")
    assert set(np.unique(half)) == {0.0, 2.0}
    assert abs(half.mean() - 1.0) < 0.05
    assert (run(line.format(3, 0.5), "f32[100,100]") == half).all()
    assert (run(line.format(4, 0.5), "f32[100,100]") != half).any()
    assert (run(line.format(3, 1.0), "f32[100,100]") == 0).all()


@pytest.mark.parametrize("name", CASES)
def test_costs_are_finite_and_not_negative(name: str) -> None:
    line, result, _ = CASES[name]
    args = ", ".join(f"%{n}: {t}" for n, (t, _) in INPUTS.items())
    graph = parse(f"graph @g({args}) {{ %y = {line} : {result}  return y = %y }}")
    dims: Dims = {"B": 3}
    cost = graph.block.ops[0].opdef.cost(graph.block.ops[0], dims)
    assert cost.flops >= 0
    assert cost.bytes >= 4 * min(1, numel(graph.outputs[0].shape, dims))


def test_matmul_costs_two_flops_per_product() -> None:
    graph = parse("graph @g(%x: f32[B,4], %w: f32[4,5]) { %y = matmul %x, %w : f32[B,5]  return y = %y }")
    op = graph.block.ops[0]
    assert op.opdef.cost(op, {"B": 3}).flops == 2 * 3 * 4 * 5
